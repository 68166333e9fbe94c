"""What commands share to speak to a person: progress on standard error, results on standard out."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Stages", "leads", "printer", "progress", "say"]

_PLAIN_WIDTH = 160  # where the output is no terminal

ProgressFunction = Callable[[int, int | None, str], None]


def say(text: str) -> None:
    """Write one line of progress to standard error."""
    typer.echo(text, err=True)


def printer(*, stderr: bool = False) -> Console:
    """Return what draws tables: as wide as the terminal, or wide where there is none."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if console.is_terminal:
        return console
    return Console(stderr=stderr, highlight=False, width=_PLAIN_WIDTH)


def leads() -> bool:
    """Whether this process speaks for all that a launcher began."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[ProgressFunction]:
    """Yield a function ``(done, total or None, note)`` that draws a bar with rate and time left.

    Without a terminal it writes a line at most every 15 seconds.
    """
    if quiet or not leads():
        yield _nothing
        return
    if not sys.stderr.isatty():
        yield _line_writer(title)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1, rate="", note="")
        start = time.perf_counter()

        def update(done: int, total: int | None, note: str = "") -> None:
            rate = done / max(time.perf_counter() - start, 1e-9)
            bar.update(task, completed=done, total=total, rate=f"{rate:.1f}/s", note=note)

        yield update


def _nothing(done: int, total: int | None, note: str = "") -> None:
    pass


def _line_writer(title: str) -> ProgressFunction:
    start = last = time.perf_counter()

    def update(done: int, total: int | None, note: str = "") -> None:
        nonlocal last
        now = time.perf_counter()
        whole = total is not None and done >= total
        if now - (start if whole else last) < (1 if whole else 15):
            return
        last = now
        rate = done / max(now - start, 1e-9)
        tail = f", {note}" if note else ""
        if total is None:
            say(f"  {title}: {done}, {rate:.1f}/s{tail}")
            return
        left = (total - done) / rate if rate else 0.0
        say(f"  {title}: {done}/{total}, {rate:.1f}/s, {left:.0f} s left{tail}")

    return update


class Stages:
    """Names the stages of a long command and keeps how long each took, in seconds."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self._quiet = quiet
        self._start = time.perf_counter()

    @contextlib.contextmanager
    def stage(self, name: str, text: str) -> Iterator[None]:
        """Say ``text``, time the block, and keep the time under ``name``."""
        if not self._quiet:
            say(f"{text} …")
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)

    @property
    def total(self) -> float:
        """Seconds since this object was made."""
        return round(time.perf_counter() - self._start, 2)
