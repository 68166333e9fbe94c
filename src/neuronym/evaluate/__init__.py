"""Measured quality: plain functions that return rows of a scorecard."""

from neuronym.evaluate.truth import (
    TruthRules,
    UnitTruth,
    attribute_aurocs,
    attribute_truth,
    truth_scorecard,
)

__all__ = ["TruthRules", "UnitTruth", "attribute_aurocs", "attribute_truth", "truth_scorecard"]
