"""How long the stages of a dissection take, and how they speak to the caller."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

__all__ = ["Progress", "noted", "timed"]

Progress = Callable[[int, "int | None", str], None]
"""Called with ``(done, total or None, note)``."""


@contextlib.contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Keep under ``stage`` how many seconds the block took."""
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 3)


def noted(report: Progress | None, stage: str) -> Progress | None:
    """Return the progress function of one stage, which notes the stage's name."""
    if report is None:
        return None
    return lambda done, total, note: report(done, total, note or stage)
