"""Plain numbers about an image's pixels: basic colours, their places, a small histogram.

The image is reduced to 40 × 40 pixels. Every pixel is assigned softly to the eleven basic colour
names by its distance in CIE L*a*b* from a few prototypes of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["BASIC_COLOURS", "PIXEL_NUMBERS", "REDUCED", "pixel_numbers", "reduce_image"]

FloatArray = npt.NDArray[np.float32]

REDUCED = 40
_SOFTNESS = 6.0
_BORDER = 5
_CENTRE = 10
_FAR = 28.0
_LEVELS = 4
_EDGE_STEP = 13
_BITS = 5
_SHIFT = 8 - _BITS

BASIC_COLOURS: Mapping[str, tuple[str, ...]] = {
    "red": ("d01818", "a01018", "e84040"),
    "orange": ("f58a10", "ffa84a", "c86410"),
    "yellow": ("f5e010", "fff09a", "cfae18"),
    "green": ("2e9a38", "14501c", "80c860", "6b8a2a"),
    "blue": ("2458d0", "10206a", "000080", "7ab4f0", "3090c0"),
    "purple": ("7030a8", "401060", "b080d8"),
    "pink": ("f890b8", "ffd0de", "e05090"),
    "brown": ("7a4620", "4a2c14", "b0845a"),
    "black": ("101014", "262628"),
    "white": ("fafafa", "e8e8ec"),
    "gray": ("848488", "58585c", "b4b4b8"),
}
"""Prototypes of each basic colour, sRGB in hexadecimal."""

_BINS = _LEVELS**3
PIXEL_NUMBERS = 4 * len(BASIC_COLOURS) + 6 + _BINS + 1


def reduce_image(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Reduce an RGB image to ``(40, 40, 3)`` uint8, every pixel the mean of its share."""
    reduced = image.resize((REDUCED, REDUCED), Image.Resampling.BOX)
    return np.asarray(reduced, dtype=np.uint8)


def pixel_numbers(reduced: npt.NDArray[np.uint8]) -> FloatArray:
    """Describe reduced images by numbers.

    Args:
        reduced: ``(images, 40, 40, 3)`` uint8, sRGB.

    Returns:
        ``(images, 115)`` float32, in this order: the shares of the eleven basic colours over the
        whole image, over its border, over its centre, and over the pixels that differ from the
        border; mean and deviation of R, G and B in [0, 1]; the square roots of a 4 × 4 × 4 RGB
        histogram; the share of the pixels that differ from the border.
    """
    count = len(reduced)
    lab_of, shares_of = _tables()
    coarse = (reduced.reshape(count, -1, 3) >> _SHIFT).astype(np.int64)
    code = (coarse[..., 0] << 2 * _BITS) + (coarse[..., 1] << _BITS) + coarse[..., 2]
    lab, shares = lab_of[code], shares_of[code]
    border, centre = _regions()
    # A pixel differs where it is far from every colour along the border, so that a background of
    # two colours is still background.
    gap = _gap(lab, lab[:, border[::_EDGE_STEP]])
    different = 1 / (1 + np.exp((_FAR - gap) / np.float32(5)))
    weight = different / (different.sum(1, keepdims=True) + 1)
    flat = reduced.reshape(count, -1, 3).astype(np.float32) / 255
    parts = [
        shares.mean(1),
        shares[:, border].mean(1),
        shares[:, centre].mean(1),
        np.einsum("np,npc->nc", weight, shares),
        flat.mean(1),
        flat.std(1),
        _histogram(reduced),
        different.mean(1, keepdims=True),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _gap(lab: FloatArray, edge: FloatArray) -> FloatArray:
    """Distance of every pixel from the nearest of the edge's: ``(images, pixels)``."""
    square = (lab**2).sum(-1)[:, :, None] + (edge**2).sum(-1)[:, None, :]
    square -= 2 * lab @ edge.transpose(0, 2, 1)
    gap: FloatArray = np.sqrt(np.maximum(square.min(-1), 0))
    return gap


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


@lru_cache(maxsize=1)
def _tables() -> tuple[FloatArray, FloatArray]:
    """L*a*b* and shares of the basic colours of every colour of 3 × 5 bits."""
    axis = np.arange(2**_BITS)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _lab(((grid << _SHIFT) + (1 << _SHIFT) // 2).astype(np.uint8))
    nearest = np.stack(
        [
            _gap(lab[None], _lab(np.array([[_hex(code) for code in codes]], dtype=np.uint8)))[0]
            for codes in BASIC_COLOURS.values()
        ],
        axis=-1,
    )
    soft = np.exp((nearest.min(-1, keepdims=True) - nearest) / np.float32(_SOFTNESS))
    return lab, soft / soft.sum(-1, keepdims=True)


def _hex(code: str) -> Sequence[int]:
    return [int(code[at : at + 2], 16) for at in (0, 2, 4)]


@lru_cache(maxsize=1)
def _linear() -> FloatArray:
    level = np.arange(256) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


def _lab(pixels: npt.NDArray[np.uint8]) -> FloatArray:
    """sRGB uint8 ``(..., 3)`` → CIE L*a*b* under D65 ``(..., 3)`` float32."""
    matrix = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]],
        dtype=np.float32,
    )
    white = np.array([0.95047, 1.0, 1.08883], dtype=np.float32)
    xyz = _linear()[pixels] @ matrix.T / white
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + np.float32(16 / 116))
    lab = np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])],
        axis=-1,
    )
    return lab.astype(np.float32)
