"""Dissection: a name for every unit of a model."""

from neuronym.dissect.from_run import name_run
from neuronym.dissect.options import DissectOptions
from neuronym.dissect.recording import RecordingOptions, record_run
from neuronym.dissect.run import dissect, record_sites

__all__ = [
    "DissectOptions",
    "RecordingOptions",
    "dissect",
    "name_run",
    "record_run",
    "record_sites",
]
