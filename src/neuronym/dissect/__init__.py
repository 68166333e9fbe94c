"""Dissection: a name for every unit of a model."""

from neuronym.dissect.options import DissectOptions
from neuronym.dissect.run import dissect, record_sites

__all__ = ["DissectOptions", "dissect", "record_sites"]
