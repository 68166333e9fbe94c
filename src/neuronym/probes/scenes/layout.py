"""Where the objects of a scene lie: inside the image, apart from each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["COUNTS", "Placement", "place"]

COUNTS: Mapping[str, int] = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
SMALL = (0.098, 0.122)
LARGE = 0.165
_LARGEST = {1: 0.33, 2: 0.23, 3: 0.205, 4: 0.19, 5: 0.178}
_MARGIN = 0.02
_GAP = 0.018


@dataclass(frozen=True)
class Placement:
    """One object: its centre, its circumscribed radius (shares of the image's side), its turn.

    Attributes:
        x, y: Centre, 0 to 1.
        radius: Of the circle around the shape, as a share of the image's side.
        turn: Rotation as a share of the shape's largest one, -1 to 1.
        stretch: Width over height, about 1.
    """

    x: float
    y: float
    radius: float
    turn: float
    stretch: float


def place(count: str, size: str, rng: np.random.Generator) -> list[Placement]:
    """Place objects at random so that their circles lie inside the image and do not touch."""
    number = COUNTS[count]
    low, high = SMALL if size == "small" else (LARGE, _LARGEST[number])
    radius = float(rng.uniform(low, high))
    centres = _scattered(number, radius, rng) if size == "small" or number == 1 else None
    if centres is None:
        centres = _arranged(number, radius, rng)
    common = float(rng.uniform(-1, 1))
    turns = np.clip(common + rng.normal(0, 0.2, number), -1, 1).tolist()
    stretches = rng.uniform(0.94, 1.06, number).tolist()
    shrink = rng.uniform(0.96, 1.0, number).tolist()
    return [
        Placement(x, y, radius * s, turn, stretch)
        for (x, y), turn, stretch, s in zip(centres.tolist(), turns, stretches, shrink, strict=True)
    ]


def _apart(centres: npt.NDArray[np.float64], radius: float) -> bool:
    if len(centres) < 2:
        return True
    delta = centres[:, None] - centres[None]
    gaps = np.hypot(delta[..., 0], delta[..., 1])[np.triu_indices(len(centres), 1)]
    return bool(gaps.min() >= 2 * radius + _GAP)


def _scattered(
    number: int, radius: float, rng: np.random.Generator
) -> npt.NDArray[np.float64] | None:
    edge = radius + _MARGIN
    for _ in range(40):
        centres = rng.uniform(edge, 1 - edge, (number, 2))
        if _apart(centres, radius):
            return centres
    return None


def _arranged(number: int, radius: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A regular arrangement, turned and then jittered as far as the objects stay apart."""
    room = 0.5 - radius - _MARGIN
    if number == 5:
        base = np.array([(0, 0), (-1, -1), (1, -1), (-1, 1), (1, 1)], dtype=np.float64) * room
    else:
        angles = float(rng.uniform(0, 2 * np.pi)) + 2 * np.pi * np.arange(number) / number
        base = np.stack([np.cos(angles), np.sin(angles)], axis=1) * room
    base += 0.5
    edge = radius + _MARGIN
    for strength in (0.12, 0.07, 0.04, 0.02):
        moved = np.clip(base + rng.uniform(-strength, strength, base.shape), edge, 1 - edge)
        if _apart(moved, radius):
            return moved
    return base
