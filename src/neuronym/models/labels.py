"""How labels of a data set meet the classes of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Labels"]


@dataclass(frozen=True)
class Labels:
    """How the labels of a source become classes of a model.

    Where both have names, the names decide, so that another order does no harm; otherwise the
    index does. Two equal lists meet index by index. Else a name meets the class of the very same
    name, or, where there is none, the one class of that name in another case. A name that several
    classes bear ("crane", the bird and the machine) says no class.

    Attributes:
        table: Class of the model for each label of the source, -1 where it has none; ``None``
            where a label is the index of its class.
        unknown: Names of the labels that are no class of the model, or of several.
    """

    table: npt.NDArray[np.int64] | None
    unknown: tuple[str, ...] = ()

    @classmethod
    def between(cls, labels: Sequence[str] | None, classes: Sequence[str] | None) -> Labels:
        """Match the names of a source's labels with those of a model's classes."""
        if labels is None or classes is None:
            return cls(None)
        if [name.lower() for name in labels] == [name.lower() for name in classes]:
            return cls(np.arange(len(labels), dtype=np.int64))
        exact, loose = _places(classes), _places(name.lower() for name in classes)
        table = np.full(len(labels), -1, np.int64)
        for row, name in enumerate(labels):
            found = exact.get(name) or loose.get(name.lower(), [])
            if len(found) == 1:
                table[row] = found[0]
        return cls(table, tuple(name for name, row in zip(labels, table, strict=True) if row < 0))

    def of(
        self, labels: npt.NDArray[np.int64] | None, images: int, classes: int
    ) -> npt.NDArray[np.int64]:
        """Return ``(images,)`` classes of the model; -1 where the label is missing or no class."""
        if labels is None:
            return np.full(images, -1, np.int64)
        count = classes if self.table is None else len(self.table)
        known = (labels >= 0) & (labels < count)
        if self.table is None:
            return np.where(known, labels, -1)
        return np.where(known, self.table[np.where(known, labels, 0)], -1)


def _places(names: Iterable[str]) -> dict[str, list[int]]:
    """Return name → every index that bears it."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        found.setdefault(name, []).append(index)
    return found
