"""Vision-text models: one protocol, and a SPEC that loads one of three backends."""

from neuronym.vision_text.base import VisionTextModel, resize_side_of
from neuronym.vision_text.registry import BACKENDS, load

__all__ = ["BACKENDS", "VisionTextModel", "load", "resize_side_of"]
