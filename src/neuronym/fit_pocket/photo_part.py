"""What the image side takes from reference photos: means, a correction for tiny images, a scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuronym.vision_text.pocket.space import TINY_TEMPERATURE, softmax
from neuronym.vision_text.pocket.tower import ImageFeatures, ImageTower

__all__ = ["Reference", "calibrated_scale", "features_of", "reference", "shrunk"]

FloatArray = npt.NDArray[np.float32]

TINY_SIDE = 32


@dataclass(frozen=True)
class Reference:
    """Means over reference photos.

    Attributes:
        posterior_mean: (1000,) of the softmax of the logits.
        tiny_bias: (1000,): log of that mean over the mean of the softmax of the logits / 2 of the
            same photos at 32 × 32 pixels.
        object_mean: (384,) of posterior × label vectors.
    """

    posterior_mean: FloatArray
    tiny_bias: FloatArray
    object_mean: FloatArray


def features_of(
    tower: ImageTower,
    count: int,
    image: Callable[[int], Image.Image],
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> ImageFeatures:
    """Compute the features of ``count`` images, a batch at a time."""
    parts = []
    for start in range(0, count, batch_size):
        stop = min(start + batch_size, count)
        parts.append(tower.features([image(index) for index in range(start, stop)]))
        if progress is not None:
            progress(stop)
    return ImageFeatures.joined(parts)


def shrunk(image: Image.Image) -> Image.Image:
    """Return the largest centred square of an image at 32 × 32 pixels."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((TINY_SIDE, TINY_SIDE), Image.Resampling.BICUBIC, box=box)


def reference(photos: ImageFeatures, tiny: ImageFeatures, labels: FloatArray) -> Reference:
    """Compute the means.

    Args:
        photos: Features of the reference photos.
        tiny: Features of the same photos, shrunk.
        labels: (1000, 384) label vectors.
    """
    p = softmax(photos.logits)
    small = softmax(tiny.logits / np.float32(TINY_TEMPERATURE))
    mean = p.mean(axis=0)
    return Reference(mean, np.log(mean) - np.log(small.mean(axis=0)), (p @ labels).mean(axis=0))


def calibrated_scale(scores: FloatArray, truth: npt.NDArray[np.int64]) -> float:
    """Return the factor of the scores that makes a softmax over texts most likely the truth.

    Args:
        scores: ``(images, texts)``.
        truth: ``(images,)`` index of each image's text.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(scores))

    def loss(log_factor: float) -> float:
        logits = scores * np.float32(math.exp(log_factor))
        return float(-np.log(softmax(logits)[rows, truth] + 1e-30).mean())

    return math.exp(float(minimize_scalar(loss, bounds=(-4.0, 6.0), method="bounded").x))
