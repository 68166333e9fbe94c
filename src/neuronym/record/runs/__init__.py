"""Runs: what one pass over the images leaves, in mergeable sketches and rows on disk."""

from neuronym.record.runs.layout import KEEPS, RunInfo, Shard, parse_shard
from neuronym.record.runs.merge import merge_runs
from neuronym.record.runs.run import Run
from neuronym.record.runs.segment import Sketches
from neuronym.record.runs.write import Source, WriteOptions, begin, is_locked, write_run

__all__ = [
    "KEEPS",
    "Run",
    "RunInfo",
    "Shard",
    "Sketches",
    "Source",
    "WriteOptions",
    "begin",
    "is_locked",
    "merge_runs",
    "parse_shard",
    "write_run",
]
