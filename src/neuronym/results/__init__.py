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
from neuronym.results.explanation import (
    ClassScore,
    Explanation,
    Place,
    RunnerUp,
    SampleSummary,
    Winner,
)
from neuronym.results.explanations import ClassUnit, ExplanationSet
from neuronym.results.scorecard import Metric, Scorecard

__all__ = [
    "UNNAMED",
    "Atlas",
    "ClassScore",
    "ClassUnit",
    "Explanation",
    "ExplanationSet",
    "Formula",
    "LinearFit",
    "Metric",
    "Place",
    "ProbeImage",
    "RunnerUp",
    "SampleSummary",
    "Scorecard",
    "SiteInfo",
    "Unit",
    "Winner",
]
