"""Colours as people name them: eleven basic names, and distances in CIE L*a*b*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["BASIC_COLOURS", "colour_distance", "lab_and_shares"]

FloatArray = npt.NDArray[np.float32]

_SOFTNESS = 6.0
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


def lab_and_shares(pixels: npt.NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
    """Look up sRGB pixels ``(…, 3)`` uint8, to 5 bits per channel.

    Returns:
        CIE L*a*b* ``(…, 3)``, and the soft shares of the eleven basic colours ``(…, 11)`` by the
        distance from the nearest prototype of each.
    """
    lab_of, shares_of = _tables()
    coarse = (pixels >> _SHIFT).astype(np.int64)
    code = (coarse[..., 0] << 2 * _BITS) + (coarse[..., 1] << _BITS) + coarse[..., 2]
    return lab_of[code], shares_of[code]


def colour_distance(lab: FloatArray, edge: FloatArray) -> FloatArray:
    """Distance of every pixel from the nearest of some others.

    Args:
        lab: ``(images, pixels, 3)``.
        edge: ``(images, others, 3)``.

    Returns:
        ``(images, pixels)``.
    """
    nearest = np.full(lab.shape[:2], np.inf, dtype=np.float32)
    for other in range(edge.shape[1]):  # faster here than a product with an inner length of 3
        difference = lab - edge[:, other, None]
        np.minimum(nearest, np.einsum("npc,npc->np", difference, difference), out=nearest)
    return np.sqrt(nearest)


@lru_cache(maxsize=1)
def _tables() -> tuple[FloatArray, FloatArray]:
    """L*a*b* and shares of the basic colours of every colour of 3 × 5 bits."""
    axis = np.arange(2**_BITS)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _lab(((grid << _SHIFT) + (1 << _SHIFT) // 2).astype(np.uint8))
    nearest = np.stack(
        [
            colour_distance(
                lab[None], _lab(np.array([[_hex(code) for code in codes]], dtype=np.uint8))
            )[0]
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
