"""Saved results: frozen dataclasses with ``save`` and ``load``; numpy, parquet and JSON only."""

from neuronym.results.atlas import (
    UNNAMED,
    Atlas,
    Formula,
    LinearFit,
    ProbeImage,
    SiteInfo,
    Unit,
)
from neuronym.results.evidence import Evidence, SiteEvidence
from neuronym.results.explanation import ClassScore, Explanation, SampleSummary, Winner
from neuronym.results.scorecard import Metric, Scorecard

__all__ = [
    "UNNAMED",
    "Atlas",
    "ClassScore",
    "Evidence",
    "Explanation",
    "Formula",
    "LinearFit",
    "Metric",
    "ProbeImage",
    "SampleSummary",
    "Scorecard",
    "SiteEvidence",
    "SiteInfo",
    "Unit",
    "Winner",
]
