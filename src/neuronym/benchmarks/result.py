"""What a benchmark measured, as data."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Benchmark", "Row", "race"]

Clock = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        case: What was measured.
        unit: Of ``measured``: ``"ms"`` or ``"MiB"``.
        measured: Contestant → median time, or peak memory. ``"ours"`` is always one.
        ratio: What the target is about: ours to the twin, or for speed-ups the twin to ours.
        target: ``"at most 3"``, ``"at least 1.4"`` …
        met: Whether the ratio meets it.
        note: What to know about the figures.
    """

    case: str
    unit: str
    measured: Mapping[str, float]
    ratio: float
    target: str
    met: bool
    note: str = ""

    @classmethod
    def at_most(
        cls, case: str, measured: Mapping[str, float], twin: str, limit: float, *, unit: str = "ms"
    ) -> Row:
        """Return a row whose ratio, ours to the twin, is to be at most ``limit``."""
        ratio = measured["ours"] / measured[twin]
        return cls(case, unit, measured, ratio, f"at most {limit:g} x {twin}", ratio <= limit)

    @classmethod
    def faster(cls, case: str, measured: Mapping[str, float], twin: str, least: float) -> Row:
        """Return a row whose ratio, the twin to ours, is to be at least ``least``."""
        ratio = measured[twin] / measured["ours"]
        target = f"at least {least:g} x as fast as {twin}"
        return cls(case, "ms", measured, ratio, target, ratio >= least)


@dataclass(frozen=True)
class Benchmark:
    """The rows of a benchmark, and the conditions."""

    name: str
    rows: tuple[Row, ...]
    threads: int
    rounds: int
    torch: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        """Return a table for people."""
        lines = [
            f"{self.name}: {self.threads} threads, median of {self.rounds}, torch {self.torch}"
        ]
        for row in self.rows:
            measured = ", ".join(
                f"{name} {value:.2f} {row.unit}" for name, value in row.measured.items()
            )
            verdict = "met" if row.met else "missed"
            lines.append(
                f"{row.case}\n    ratio {row.ratio:.2f} ({row.target}: {verdict}); {measured}"
            )
            if row.note:
                lines.append(f"    {row.note}")
        return "\n".join(lines)


def race(
    contestants: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    clock: Clock = time.perf_counter,
) -> dict[str, float]:
    """Let the contestants take turns; return each one's median time in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):  # the first round warms up
        for name, run in contestants.items():
            began = clock()
            run()
            if number:
                times[name].append((clock() - began) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}
