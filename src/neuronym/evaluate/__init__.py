"""Measured quality: plain functions that return rows of a scorecard."""

from neuronym.evaluate.faithfulness import FaithfulnessOptions, faithfulness
from neuronym.evaluate.faithfulness_result import Faithfulness, SiteFaithfulness
from neuronym.evaluate.harness import METRICS, EvaluateOptions, Evaluation, evaluate
from neuronym.evaluate.scenes import scene_truth
from neuronym.evaluate.truth import (
    TruthRules,
    UnitTruth,
    attribute_aurocs,
    attribute_truth,
    truth_scorecard,
)

__all__ = [
    "METRICS",
    "EvaluateOptions",
    "Evaluation",
    "Faithfulness",
    "FaithfulnessOptions",
    "SiteFaithfulness",
    "TruthRules",
    "UnitTruth",
    "attribute_aurocs",
    "attribute_truth",
    "evaluate",
    "faithfulness",
    "scene_truth",
    "truth_scorecard",
]
