"""Which logit is explained, and how labels of a data set meet the classes of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError, nearest

__all__ = ["LABEL", "PREDICTED", "Labels", "TargetChoice", "class_index"]

PREDICTED, LABEL = "predicted", "label"
TargetChoice = int | str
"""``"predicted"``, ``"label"``, or one class by index or name for every image."""


def class_index(target: int | str, names: Sequence[str] | None) -> int:
    """Return the index of a class given by index or name (case does not count).

    Raises:
        InputError: There is no such class; the text shows the nearest names.
    """
    if isinstance(target, int):
        if target < 0 or (names is not None and target >= len(names)):
            limit = len(names) - 1 if names is not None else "the number of classes minus 1"
            raise InputError(f"target class must be 0 to {limit}, not {target}")
        return target
    if names is None:
        raise InputError(f"the model has no class names; give the index instead of {target!r}")
    lower = [name.lower() for name in names]
    if target.lower() in lower:
        return lower.index(target.lower())
    if target.isdigit():
        return class_index(int(target), names)
    close = ", ".join(nearest(target, names)) or ", ".join(names[:5])
    raise InputError(f"the model has no class {target!r}; nearest: {close}")


@dataclass(frozen=True)
class Labels:
    """How the labels of a source become classes of a model.

    Where both have names, the names decide (case does not count), so that another order does no
    harm; otherwise the index does.

    Attributes:
        table: Class of the model for each label of the source, -1 where it has none; ``None``
            where a label is the index of its class.
        unknown: Names of the labels that are no class of the model.
    """

    table: npt.NDArray[np.int64] | None
    unknown: tuple[str, ...] = ()

    @classmethod
    def between(cls, labels: Sequence[str] | None, classes: Sequence[str] | None) -> Labels:
        """Match the names of a source's labels with those of a model's classes."""
        if labels is None or classes is None:
            return cls(None)
        at = {name.lower(): index for index, name in enumerate(classes)}
        table = np.array([at.get(name.lower(), -1) for name in labels], np.int64)
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
