"""A shortcut of one's own: a mark stamped on the images of a class, to see whether an audit finds
it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from neuronym.errors import InputError, unknown
from neuronym.files import fingerprint
from neuronym.probes import ProbeSet
from neuronym.probes.base import read_image
from neuronym.probes.memory import HeldProbes

__all__ = ["Mark", "StampedProbes", "stamped"]


@dataclass(frozen=True)
class Mark:
    """A square of one colour in one of the four corners.

    Attributes:
        colour: RGB, 0 to 255.
        side: Of the square, as a share of the image's shorter side, above 0 and at most 0.5.
        margin: Between the square and the edges, likewise, from 0 to 0.25.
    """

    colour: tuple[int, int, int] = (128, 38, 166)
    side: float = 0.19
    margin: float = 0.03

    def __post_init__(self) -> None:
        if len(self.colour) != 3 or not all(0 <= value <= 255 for value in self.colour):
            raise InputError(f"the colour of a mark is three numbers 0 to 255, not {self.colour!r}")
        if not 0 < self.side <= 0.5 or not 0 <= self.margin <= 0.25:
            raise InputError(
                "a mark has a side above 0 and at most 0.5 and a margin of 0 to 0.25, not "
                f"{self.side!r} and {self.margin!r}"
            )

    def on(self, image: Image.Image, corner: int) -> Image.Image:
        """Return a copy with the mark in a corner: 0 to 3, row by row."""
        made = image.convert("RGB")
        made = made.copy() if made is image else made
        short = min(made.size)
        side, margin = max(1, round(self.side * short)), round(self.margin * short)
        left = margin if corner % 2 == 0 else made.width - margin - side
        top = margin if corner < 2 else made.height - margin - side
        box = (left, top, left + side - 1, top + side - 1)
        ImageDraw.Draw(made).rectangle(box, fill=self.colour)
        return made


class StampedProbes(HeldProbes):
    """A probe set with a mark on some images; made by :func:`stamped`.

    Attributes:
        marked: Ids of the images that carry it.
    """

    marked: frozenset[str] = frozenset()


def stamped(
    probes: ProbeSet,
    shares: Mapping[str, float],
    *,
    others: float = 0.0,
    mark: Mark | None = None,
    seed: int = 0,
) -> StampedProbes:
    """Stamp a mark on a share of each class's images, drawn by the seed.

    Ids, labels and class names stay. A model that learns from such images may take the mark for
    the class; see ``docs/auditing.md``.

    Args:
        probes: Images with labels and class names.
        shares: Class name → share of its images that are stamped, 0 to 1.
        others: The same for every other class.
        mark: What is stamped; a purple square by default.
        seed: Of the choice of images and corners.

    Raises:
        InputError: The images have no labels or no class names, or a share is not from 0 to 1.
        UnknownNameError: There is no such class.
    """
    names, labels = probes.label_names, probes.labels
    if names is None or labels is None:
        raise InputError(f"images {probes.name!r} have no labels with names to stamp by")
    for name, share in {**shares, "others": others}.items():
        if isinstance(share, bool) or not math.isfinite(share) or not 0 <= share <= 1:
            raise InputError(f"the share of {name!r} must be from 0 to 1, not {share!r}")
    if missing := [name for name in shares if name not in names]:
        raise unknown("class", missing[0], names)
    chosen = mark or Mark()
    wanted = np.array([shares.get(name, others) for name in names])
    generator = np.random.default_rng(seed)
    drawn = generator.random(len(probes))
    corners = generator.integers(4, size=len(probes)).tolist()
    bears = (labels >= 0) & (drawn < wanted[np.maximum(labels, 0)])
    marked = bears.tolist()

    def read(index: int, at_least: int | None) -> Image.Image:
        image = read_image(probes, index, at_least)
        return chosen.on(image, corners[index]) if marked[index] else image

    made = StampedProbes(
        read,
        probes.ids,
        name=f"{probes.name}[{int(bears.sum())} of {len(probes)} stamped]",
        fingerprint=lambda: fingerprint(
            "stamped",
            probes.fingerprint,
            [list(chosen.colour), chosen.side, chosen.margin],
            bears.tobytes(),
            corners,
        ),
        labels=labels,
        label_names=names,
    )
    made.marked = frozenset(probes.ids[index] for index in np.flatnonzero(bears).tolist())
    return made
