"""Speed and memory against the usual twin, measured where the package is installed."""

from neuronym.benchmarks.registry import BENCHMARKS, run
from neuronym.benchmarks.result import Benchmark, Row

__all__ = ["BENCHMARKS", "Benchmark", "Row", "run"]
