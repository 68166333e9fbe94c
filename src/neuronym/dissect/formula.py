"""Formulas over concepts: AND, OR and NOT, with a text and a value on sets of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError

__all__ = ["Formula", "literal"]


@dataclass(frozen=True)
class Formula:
    """A concept, or formulas joined by AND or OR; equal to any other order of the same parts.

    Attributes:
        operator: ``"is"`` or ``"not"`` of one concept, or ``"and"`` or ``"or"`` of parts.
        concept: Index of the concept of a literal, else -1.
        word: Its word, else ``""``.
        parts: At least two formulas, none of the same operator, in one fixed order.
    """

    operator: str
    concept: int = -1
    word: str = ""
    parts: tuple[Formula, ...] = ()

    @property
    def length(self) -> int:
        """Number of literals."""
        return sum(part.length for part in self.parts) or 1

    @property
    def text(self) -> str:
        """Such as ``water AND NOT boat`` or ``(red OR orange) AND circle``."""
        if self.operator == "is":
            return self.word
        if self.operator == "not":
            return f"NOT {self.word}"
        # What is there comes before what is not; ties stay in their order.
        ordered = sorted(self.parts, key=lambda part: part.operator == "not")
        pieces = [f"({part.text})" if part.parts else part.text for part in ordered]
        return f" {self.operator.upper()} ".join(pieces)

    def joined(self, operator: str, other: Formula) -> Formula:
        """Return ``self AND other`` or ``self OR other``; parts of the same operator are one list.

        Raises:
            InputError: The operator is neither ``"and"`` nor ``"or"``.
        """
        if operator not in ("and", "or"):
            raise InputError(f"operator must be 'and' or 'or', not {operator!r}")
        parts = [*self._listed(operator), *other._listed(operator)]
        return Formula(operator, parts=tuple(sorted(parts, key=Formula._order)))

    def holds(self, sets: Mapping[int, npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
        """Return for which images it holds.

        Args:
            sets: Concept index → ``(images,)`` bool, for every concept of the formula.
        """
        if self.operator == "is":
            return sets[self.concept]
        if self.operator == "not":
            return ~sets[self.concept]
        values = [part.holds(sets) for part in self.parts]
        combine = np.logical_and if self.operator == "and" else np.logical_or
        return np.asarray(combine.reduce(values), bool)

    def concepts(self) -> tuple[int, ...]:
        """Return the indices of its concepts, with repeats, in order."""
        if not self.parts:
            return (self.concept,)
        return tuple(concept for part in self.parts for concept in part.concepts())

    def _listed(self, operator: str) -> tuple[Formula, ...]:
        return self.parts if self.operator == operator else (self,)

    def _order(self) -> tuple[int, str, int, str]:
        return (len(self.parts), self.operator, self.concept, self.text)


def literal(concept: int, word: str, *, negated: bool = False) -> Formula:
    """Return the formula of one concept, or of its absence."""
    return Formula("not" if negated else "is", int(concept), word)
