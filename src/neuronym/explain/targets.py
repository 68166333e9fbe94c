"""Which logit of each image is explained."""

from __future__ import annotations

__all__ = ["LABEL", "PREDICTED", "TargetChoice"]

PREDICTED, LABEL = "predicted", "label"
TargetChoice = int | str
"""``"predicted"``, ``"label"``, or one class by index or name for every image."""
