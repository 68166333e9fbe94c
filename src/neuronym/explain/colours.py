"""Two colour scales that people with colour-blindness can read, and pictures under a map.

Both are straight lines in OKLab, where equal steps look equally large (B. Ottosson, "A perceptual
color space for image processing", 2020, with its matrices). They run along its blue to yellow axis
and hardly along the one from green to red, which is the one that is seen worst.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["diverging", "enlarged", "overlay", "sequential"]

Numbers = npt.NDArray[np.float64]
Values = npt.NDArray[np.floating]

_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
# Lightness, green to red, blue to yellow.
_DARK, _BRIGHT = np.array([0.32, 0.01, -0.13]), np.array([0.93, -0.02, 0.17])
_AGAINST, _NEUTRAL, _FOR = (
    np.array([0.50, -0.03, -0.17]),
    np.array([0.95, 0.0, 0.0]),
    np.array([0.66, 0.11, 0.13]),
)
_STRONGEST = 0.85  # of a colour over the picture
_RISE = 0.8  # exponent: how soon a weak value shows


def sequential(strength: Numbers) -> Numbers:
    """Return colours from dark blue (0) to bright yellow (1): ``(..., 3)``, 0 to 1."""
    share = np.clip(strength, 0, 1)[..., None]
    return _rgb(_DARK + share * (_BRIGHT - _DARK))


def diverging(value: Numbers) -> Numbers:
    """Return colours from blue (-1) over white (0) to orange (1): ``(..., 3)``, 0 to 1."""
    share = np.clip(value, -1, 1)[..., None]
    end = np.where(share < 0, _AGAINST, _FOR)
    return _rgb(_NEUTRAL + np.abs(share) * (end - _NEUTRAL))


def overlay(picture: Image.Image, strength: Values, *, signed: bool) -> Image.Image:
    """Lay a map over a picture: the stronger, the less of the picture is seen.

    The picture is grey, so that every colour is the map's.

    Args:
        picture: RGB.
        strength: ``(rows, columns)``, 0 to 1, or -1 to 1 if ``signed``; interpolated bilinearly
            to the picture's size.
        signed: Whether the colours are the diverging ones.
    """
    grey = np.asarray(picture.convert("L"), dtype=np.float64)[..., None] / 255
    fine = enlarged(strength, picture.size)
    colour = diverging(fine) if signed else sequential(fine)
    alpha = (_STRONGEST * np.clip(np.abs(fine), 0, 1) ** _RISE)[..., None]
    mixed = (1 - alpha) * (0.15 + 0.8 * grey) + alpha * colour
    return Image.fromarray((np.clip(mixed, 0, 1) * 255 + 0.5).astype(np.uint8), "RGB")


def enlarged(values: Values, size: tuple[int, int]) -> Numbers:
    """Interpolate a map bilinearly to ``size`` (width, height); cells keep their centres."""
    plane = Image.fromarray(np.asarray(values, dtype=np.float32), "F")
    return np.asarray(plane.resize(size, Image.Resampling.BILINEAR), dtype=np.float64)


def _rgb(lab: Numbers) -> Numbers:
    linear = ((lab @ _TO_LMS.T) ** 3) @ _TO_RGB.T
    linear = np.clip(linear, 0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(curve, dtype=np.float64)
