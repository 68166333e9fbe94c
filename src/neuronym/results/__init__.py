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
from neuronym.results.evidence import Evidence, SiteEvidence
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
    "AccuracyChange",
    "Atlas",
    "ClassChange",
    "ClassScore",
    "ClassUnit",
    "EffectReport",
    "Evidence",
    "Explanation",
    "ExplanationSet",
    "Flip",
    "Formula",
    "ImageEffect",
    "LinearFit",
    "Metric",
    "Place",
    "ProbeImage",
    "RunnerUp",
    "SampleSummary",
    "Scorecard",
    "SiteEvidence",
    "SiteInfo",
    "Unit",
    "Winner",
]
