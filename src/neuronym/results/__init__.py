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
from neuronym.results.effect import (
    AccuracyChange,
    ClassChange,
    EffectReport,
    Flip,
    ImageEffect,
)
from neuronym.results.explanation import ClassScore, Explanation, SampleSummary, Winner
from neuronym.results.scorecard import Metric, Scorecard

__all__ = [
    "UNNAMED",
    "AccuracyChange",
    "Atlas",
    "ClassChange",
    "ClassScore",
    "EffectReport",
    "Explanation",
    "Flip",
    "Formula",
    "ImageEffect",
    "LinearFit",
    "Metric",
    "ProbeImage",
    "SampleSummary",
    "Scorecard",
    "SiteInfo",
    "Unit",
    "Winner",
]
