"""The attributes that a rendered scene has, group by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.errors import unknown

__all__ = ["ATTRIBUTES", "GROUPS", "AttributeTable"]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "colour": (
        "red",
        "orange",
        "yellow",
        "green",
        "blue",
        "purple",
        "pink",
        "brown",
        "black",
        "white",
        "gray",
    ),
    "pattern": ("plain", "striped", "dotted", "checkered", "zigzag", "marbled"),
    "texture": ("smooth", "shiny", "grainy", "furry"),
    "shape": (
        "circle",
        "square",
        "triangle",
        "star",
        "heart",
        "hexagon",
        "cross",
        "crescent",
        "ring",
        "diamond",
    ),
    "count": ("one", "two", "three", "four", "five"),
    "size": ("small", "large"),
    "background": ("backdrop", "sky", "grass", "sand", "water", "wood", "brick", "night", "snow"),
}
"""Values of each group. A scene has exactly one value of every group."""

ATTRIBUTES: tuple[str, ...] = tuple(
    f"{group}:{value}" for group, values in GROUPS.items() for value in values
)
"""Every attribute as ``"group:value"``, in the order of the columns of a table."""


@dataclass(frozen=True)
class AttributeTable:
    """Exact attribute labels of a set of images.

    Attributes:
        names: One name per column, e.g. ``"colour:red"``.
        groups: The group of each column, e.g. ``"colour"``.
        values: ``(images, attributes)`` bool, true where the image has the attribute.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    values: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.values)

    def column(self, name: str) -> npt.NDArray[np.bool_]:
        """Return ``(images,)`` bool of one attribute; an unknown name raises the nearest ones."""
        if name not in self.names:
            raise unknown("attribute", name, self.names)
        return np.asarray(self.values[:, self.names.index(name)])

    def of_group(self, group: str) -> AttributeTable:
        """Return the columns of one group."""
        known = tuple(dict.fromkeys(self.groups))
        if group not in known:
            raise unknown("attribute group", group, known)
        columns = [index for index, name in enumerate(self.groups) if name == group]
        return AttributeTable(
            tuple(self.names[index] for index in columns),
            (group,) * len(columns),
            self.values[:, columns],
        )

    def rows(self, indices: npt.NDArray[np.int64]) -> AttributeTable:
        """Return the table of some of the images, in the order of ``indices``."""
        return AttributeTable(self.names, self.groups, self.values[indices])
