"""Vision-text models: one protocol, and a SPEC that loads one of three backends."""

from neuronym.vision_text.base import VisionTextModel
from neuronym.vision_text.registry import BACKENDS, load

__all__ = ["BACKENDS", "VisionTextModel", "load"]
