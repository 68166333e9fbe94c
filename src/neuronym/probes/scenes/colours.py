"""Colours of objects, and how far a background must stay from them."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neuronym.probes.scenes.noise import Field

__all__ = ["PALETTES", "Palette", "distance", "draw_palette", "lab", "separate"]

Rgb = tuple[float, float, float]
MIN_DISTANCE = 34.0
MIN_DISTANCE_OF_WHITE = 27.0  # more would turn snow into mud; shading and shadow do the rest


@dataclass(frozen=True)
class Palette:
    """The two tones of an object: the colour that names it, and the one of its pattern."""

    main: Rgb
    second: Rgb


# Hue in degrees, saturation and value: lowest and highest. Then the second tones (RGB), of which
# one is drawn: of the same family, and clearly lighter or darker.
PALETTES: Mapping[str, tuple[tuple[tuple[float, float], ...], tuple[Rgb, ...]]] = {
    "red": (((-5, 5), (0.86, 0.95), (0.80, 0.90)), ((0.40, 0.02, 0.05),)),
    "orange": (((25, 31), (0.92, 1.0), (0.95, 1.0)), ((1.0, 0.84, 0.62), (0.72, 0.33, 0.02))),
    "yellow": (((50, 55), (0.80, 0.95), (0.95, 1.0)), ((0.78, 0.60, 0.05), (1.0, 0.97, 0.76))),
    "green": (((108, 138), (0.68, 0.85), (0.55, 0.70)), ((0.03, 0.27, 0.09), (0.62, 0.90, 0.60))),
    "blue": (((214, 230), (0.80, 0.95), (0.75, 0.92)), ((0.04, 0.09, 0.38), (0.60, 0.76, 1.0))),
    "purple": (((272, 284), (0.66, 0.82), (0.56, 0.70)), ((0.22, 0.05, 0.34), (0.80, 0.66, 0.95))),
    "pink": (((332, 344), (0.36, 0.48), (0.97, 1.0)), ((1.0, 0.87, 0.92), (0.86, 0.32, 0.56))),
    "brown": (((20, 27), (0.62, 0.74), (0.42, 0.52)), ((0.22, 0.12, 0.06), (0.74, 0.55, 0.38))),
    "black": (((210, 250), (0.0, 0.12), (0.06, 0.11)), ((0.34, 0.34, 0.37),)),
    "white": (((200, 240), (0.0, 0.02), (0.96, 1.0)), ((0.66, 0.69, 0.76),)),
    "gray": (((200, 240), (0.0, 0.05), (0.50, 0.58)), ((0.28, 0.29, 0.31), (0.72, 0.73, 0.75))),
}


def draw_palette(colour: str, rng: np.random.Generator) -> Palette:
    """Draw the two tones of an object of a named colour."""
    ranges, seconds = PALETTES[colour]
    hue, saturation, value = (float(rng.uniform(low, high)) for low, high in ranges)
    second = seconds[int(rng.integers(len(seconds)))]
    return Palette(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value), second)


def lab(colour: Rgb) -> tuple[float, float, float]:
    """Convert sRGB (0 to 1) to CIE L*a*b* under D65."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def distance(first: Rgb, second: Rgb) -> float:
    """CIE 1976 colour difference of two sRGB colours; about 2 is just visible."""
    pairs = zip(lab(first), lab(second), strict=True)
    return float(sum((a - b) ** 2 for a, b in pairs) ** 0.5)


def separate(background: Field, colour: Rgb) -> Field:
    """Darken or lighten a background just enough for ``colour`` to stand out from its mean.

    Darkening scales the values; lightening raises them to a power below 1, which keeps the hue.

    Args:
        background: ``(height, width, 3)`` in 0 to 1.
        colour: The object's main colour.
    """
    least = MIN_DISTANCE_OF_WHITE if min(colour) > 0.9 else MIN_DISTANCE
    mean = tuple(float(c) for c in background.mean((0, 1)))
    best, best_distance = background, distance((mean[0], mean[1], mean[2]), colour)
    for step in range(1, 13):
        if best_distance >= least:
            break
        keep = 1 - 0.06 * step
        for lighten in (False, True):
            moved = tuple(c**keep if lighten else c * keep for c in mean)
            gap = distance((moved[0], moved[1], moved[2]), colour)
            if gap > best_distance:
                best_distance = gap
                factor = np.float32(keep)
                best = background**factor if lighten else background * factor
    return best
