"""The benchmarks by name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from neuronym.benchmarks import dissect, explain, lwta
from neuronym.benchmarks.result import Benchmark, Row
from neuronym.errors import InputError, unknown

__all__ = ["BENCHMARKS", "run"]

BENCHMARKS: dict[str, Callable[[int], list[Row]]] = {
    "lwta": lwta.rows,
    "dissect": dissect.rows,
    "explain": explain.rows,
}
"""Name → function of the number of rounds."""


def run(name: str, *, rounds: int = 7, threads: int = 2) -> Benchmark:
    """Measure a benchmark in this process; torch's number of threads is as before afterwards.

    Args:
        name: A key of :data:`BENCHMARKS`.
        rounds: How often each contestant takes its turn; the median counts.
        threads: Number of torch's threads.

    Raises:
        InputError: ``rounds`` or ``threads`` is below 1.
        UnknownNameError: There is no such benchmark.
    """
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, list(BENCHMARKS))
    for what, value in (("rounds", rounds), ("threads", threads)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{what} must be an int of at least 1, not {value!r}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = BENCHMARKS[name](rounds)
    finally:
        torch.set_num_threads(before)
    return Benchmark(name, tuple(rows), threads, rounds, torch.__version__)
