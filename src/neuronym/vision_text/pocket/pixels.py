"""Plain numbers about an image's pixels: colours, their places, and what stands out as figure.

All of them are about the largest centred square of the image.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuronym.vision_text.pocket.colours import BASIC_COLOURS, colour_distance, lab_and_shares

__all__ = ["FINE", "PIXEL_NUMBERS", "REDUCED", "describe_pixels", "reduce_image"]

FloatArray = npt.NDArray[np.float32]

REDUCED = 40
"""Side in pixels at which colours and the figure are measured."""
FINE = 64
"""Side in pixels at which blobs are counted."""

_BORDER = 5
_CENTRE = 10
_FAR = 28.0
_SLOPE = 5.0
_LEVELS = 4
_EDGE_STEP = 13
_BINS = _LEVELS**3
PIXEL_NUMBERS = 4 * len(BASIC_COLOURS) + 6 + _BINS + 1


def reduce_image(image: Image.Image, side: int) -> npt.NDArray[np.uint8]:
    """Reduce the centred square of an RGB image to ``(side, side, 3)`` uint8 by averaging."""
    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    box = (left, top, left + short, top + short)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX, box=box), dtype=np.uint8)


def describe_pixels(reduced: npt.NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
    """Describe reduced images by numbers, and find what stands out.

    Args:
        reduced: ``(images, 40, 40, 3)`` uint8, sRGB.

    Returns:
        ``(images, 115)`` float32, in this order: the shares of the eleven basic colours over the
        whole image, over its border, over its centre, and over the figure; mean and deviation of
        R, G and B in [0, 1]; the square roots of a 4 × 4 × 4 RGB histogram; the figure's share.
        And the figure, ``(images, 40, 40)`` in [0, 1]: how far a pixel differs from every colour
        along the border, so that a background of two colours is still background.
    """
    count = len(reduced)
    lab, shares = lab_and_shares(reduced.reshape(count, -1, 3))
    border, centre = _regions()
    distance = colour_distance(lab, lab[:, border[::_EDGE_STEP]])
    figure = (1 / (1 + np.exp((_FAR - distance) / _SLOPE))).astype(np.float32)
    weight = figure / (figure.sum(1, keepdims=True) + 1)
    flat = reduced.reshape(count, -1, 3).astype(np.float32) / 255
    parts = [
        shares.mean(1),
        shares[:, border].mean(1),
        shares[:, centre].mean(1),
        np.einsum("np,npc->nc", weight, shares),
        flat.mean(1),
        flat.std(1),
        _histogram(reduced),
        figure.mean(1, keepdims=True),
    ]
    numbers = np.concatenate(parts, axis=1).astype(np.float32)
    return numbers, figure.reshape(count, REDUCED, REDUCED)


def _histogram(reduced: npt.NDArray[np.uint8]) -> FloatArray:
    level = (reduced.reshape(len(reduced), -1, 3) // (256 // _LEVELS)).astype(np.int64)
    bins = (level[..., 0] * _LEVELS + level[..., 1]) * _LEVELS + level[..., 2]
    bins += np.arange(len(reduced))[:, None] * _BINS
    counts = np.bincount(bins.ravel(), minlength=len(reduced) * _BINS).reshape(-1, _BINS)
    return np.sqrt(counts / REDUCED**2).astype(np.float32)


@lru_cache(maxsize=1)
def _regions() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the border's and of the centre's pixels."""
    row, column = np.mgrid[:REDUCED, :REDUCED]
    inner = np.minimum(np.minimum(row, REDUCED - 1 - row), np.minimum(column, REDUCED - 1 - column))
    return np.flatnonzero(inner < _BORDER), np.flatnonzero(inner >= _CENTRE)
