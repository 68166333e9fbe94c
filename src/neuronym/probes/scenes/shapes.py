"""Outlines of the shapes, and the masks that they fill.

An outline is a polygon inside the unit circle, with y pointing down. ``turn`` is the largest
rotation in degrees that keeps the shape what its name says (a square turned by 45° is a diamond).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from neuronym.probes.scenes.noise import Field, field

__all__ = ["OUTLINES", "Outline", "fill", "outline"]

Points = npt.NDArray[np.float64]
_OVERSAMPLING = 4


@dataclass(frozen=True)
class Outline:
    """A shape in the unit circle.

    Attributes:
        points: ``(corners, 2)`` x and y of the outer polygon.
        hole: The polygon that is cut out, or ``None``.
        turn: Largest rotation in degrees, either way.
    """

    points: Points
    hole: Points | None
    turn: float


def _regular(corners: int, *, radius: float = 1.0, start: float = -90.0) -> Points:
    angles = np.deg2rad(start + 360 * np.arange(corners) / corners)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> Points:
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.45)[:, None]
    return radii * _regular(10)


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    points = np.stack([x, y + 2.5], axis=1)
    return np.asarray(points / np.hypot(points[:, 0], points[:, 1]).max())


def _cross() -> Points:
    a, b = 0.31, 0.95
    corners = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)]
    points = np.array([*corners, *[(-x, -y) for x, y in corners]])
    return np.asarray(points)


def _crescent() -> Points:
    # The disc of radius 1 without the disc of radius 0.82 whose centre lies 0.48 to the right.
    shift, inner = 0.48, 0.82
    x = (1 - inner**2 + shift**2) / (2 * shift)
    y = (1 - x**2) ** 0.5
    outer_angle, inner_angle = np.arctan2(y, x), np.arctan2(y, x - shift)
    out = np.linspace(outer_angle, 2 * np.pi - outer_angle, 48)
    back = np.linspace(2 * np.pi - inner_angle, inner_angle, 40)
    points = np.concatenate(
        [
            np.stack([np.cos(out), np.sin(out)], axis=1),
            np.stack([shift + inner * np.cos(back), inner * np.sin(back)], axis=1),
        ]
    )
    points[:, 0] += 0.12
    return points / max(1.0, float(np.hypot(points[:, 0], points[:, 1]).max()))


def _diamond() -> Points:
    return np.array([(0, -1), (0.66, 0), (0, 1), (-0.66, 0)], dtype=np.float64)


@cache
def outline(shape: str) -> Outline:
    """Return the outline of a named shape."""
    build, hole, turn = OUTLINES[shape]
    return Outline(build(), hole() if hole else None, turn)


OUTLINES: Mapping[str, tuple] = {
    "circle": (lambda: _regular(64, radius=0.9), None, 180.0),
    "square": (lambda: _regular(4, start=-45), None, 14.0),
    "triangle": (lambda: _regular(3), None, 24.0),
    "star": (_star, None, 36.0),
    "heart": (_heart, None, 24.0),
    "hexagon": (lambda: _regular(6, radius=0.97), None, 30.0),
    "cross": (_cross, None, 14.0),
    "crescent": (_crescent, None, 60.0),
    "ring": (lambda: _regular(64, radius=0.97), lambda: _regular(48, radius=0.5), 180.0),
    "diamond": (_diamond, None, 12.0),
}


def fill(shape: Outline, matrix: Points, centre: tuple[float, float], box: int) -> Field:
    """Fill a shape with soft edges.

    Args:
        shape: The outline.
        matrix: ``(2, 2)`` from unit coordinates to pixels.
        centre: x and y of the shape's centre inside the box, in pixels.
        box: Side of the square box in pixels.

    Returns:
        ``(box, box)`` coverage of each pixel, 0 to 1.
    """
    image = Image.new("L", (box * _OVERSAMPLING, box * _OVERSAMPLING))
    draw = ImageDraw.Draw(image)
    for points, value in ((shape.points, 255), (shape.hole, 0)):
        if points is not None:
            pixels = (points @ matrix.T + centre) * _OVERSAMPLING - 0.5
            draw.polygon(pixels.ravel().tolist(), fill=value)
    return field(np.asarray(image.reduce(_OVERSAMPLING)) / 255)
