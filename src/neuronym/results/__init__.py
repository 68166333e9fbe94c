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
from neuronym.results.audit import (
    Audit,
    ConcernUnits,
    Estimate,
    Finding,
    GroupEffect,
    Removal,
    Shown,
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
    "Audit",
    "ClassChange",
    "ClassScore",
    "ClassUnit",
    "ConcernUnits",
    "EffectReport",
    "Estimate",
    "Evidence",
    "Explanation",
    "ExplanationSet",
    "Finding",
    "Flip",
    "Formula",
    "GroupEffect",
    "ImageEffect",
    "LinearFit",
    "Metric",
    "Place",
    "ProbeImage",
    "Removal",
    "RunnerUp",
    "SampleSummary",
    "Scorecard",
    "Shown",
    "SiteEvidence",
    "SiteInfo",
    "Unit",
    "Winner",
]
