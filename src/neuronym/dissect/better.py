"""Linear explanations and compositional names of one site's units, in words."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from neuronym.dissect.compose import ComposeRules, concept_sets, formulas
from neuronym.dissect.linear import LinearRules, linear_explanations
from neuronym.dissect.options import DissectOptions
from neuronym.dissect.split import Split, split_images
from neuronym.results import Formula, LinearFit, Unit

__all__ = ["NamingContext", "compositional_names", "linear_fits", "with_longer_names"]

_UNITS = 512  # whose activations are held at once


@dataclass(frozen=True, eq=False)
class NamingContext:
    """What units are explained by.

    Attributes:
        images: ``(images, dim)`` embeddings.
        concepts: ``(concepts, dim)`` embeddings.
        words: One per concept.
        keys: ``(images,)`` int64, each image's own: they decide which images are held out.
        labels: Concept index → ``(images,)`` bool where the data set says which images have it.
    """

    images: npt.NDArray[np.float32]
    concepts: npt.NDArray[np.float32]
    words: Sequence[str]
    keys: npt.NDArray[np.int64]
    labels: Mapping[int, npt.NDArray[np.bool_]]

    @cached_property
    def sets(self) -> npt.NDArray[np.bool_]:
        """``(concepts, images)``: which images have each concept."""
        return concept_sets(self.images, self.concepts, labels=self.labels)

    @cached_property
    def split(self) -> Split:
        """Which images are fitted, which choose the length, and which are scored."""
        return split_images(self.keys)


def linear_fits(
    activations: npt.NDArray[np.float32], context: NamingContext, *, length: int
) -> list[LinearFit | None]:
    """Return the linear explanation of each unit, ``None`` where no concept predicts it.

    Args:
        activations: ``(images, units)``.
        context: Embeddings, words and keys.
        length: Most concepts.
    """
    found = linear_explanations(
        activations,
        context.images,
        context.concepts,
        context.split,
        rules=LinearRules(length=length),
    )
    fits: list[LinearFit | None] = []
    for unit, row in enumerate(found.concepts):
        scored = np.isfinite([found.correlation[unit], found.single_correlation[unit]]).all()
        columns = np.argsort(-found.weights[unit], kind="stable")
        columns = columns[row[columns] >= 0]
        if not scored or not len(columns):
            fits.append(None)
            continue
        fits.append(
            LinearFit(
                concepts=tuple(context.words[concept] for concept in row[columns]),
                weights=tuple(found.weights[unit, columns].tolist()),
                correlation=float(found.correlation[unit]),
                r_squared=float(found.r_squared[unit]),
                single=context.words[found.single[unit]],
                single_correlation=float(found.single_correlation[unit]),
            )
        )
    return fits


def compositional_names(
    activations: npt.NDArray[np.float32], context: NamingContext, *, length: int
) -> list[Formula | None]:
    """Return the compositional name of each unit, ``None`` where it has none.

    Args:
        activations: ``(images, units)``.
        context: Embeddings, words, keys and labels.
        length: Most concepts, up to 3.
    """
    found = formulas(
        activations,
        context.sets,
        context.words,
        context.split,
        rules=ComposeRules(length=length),
    )
    return [
        None
        if each is None
        else Formula(
            text=each.formula.text,
            auroc=each.auroc,
            share=each.share,
            single=each.single.text,
            single_auroc=each.single_auroc,
        )
        for each in found
    ]


def with_longer_names(
    units: Sequence[Unit],
    activations: Callable[[str, slice], npt.NDArray[np.float32]],
    context: NamingContext,
    options: DissectOptions,
) -> list[Unit]:
    """Return the units with the linear explanations and formulas that the options ask for.

    Units that have no candidate name get neither.

    Args:
        units: Of the whole atlas, ordered by site and index.
        activations: ``(site, units) → (images, units)`` of the context's images.
        context: Embeddings, words, keys and labels.
        options: Lengths and progress.

    Raises:
        InputError: There are too few images to fit and to score.
    """
    made: list[Unit] = []
    for site, group in itertools.groupby(units, lambda unit: unit.site):
        every = list(group)
        for start in range(0, len(every), _UNITS):
            part = every[start : start + _UNITS]
            array = np.ascontiguousarray(activations(site, slice(start, start + len(part))))
            nothing: list[None] = [None] * len(part)
            linear = (
                linear_fits(array, context, length=options.linear) if options.linear else nothing
            )
            formula = (
                compositional_names(array, context, length=options.compose)
                if options.compose > 1
                else nothing
            )
            for unit, fit, found in zip(part, linear, formula, strict=True):
                candidate = unit.name is not None or unit.unnamed == "not significant"
                made.append(replace(unit, linear=fit, formula=found) if candidate else unit)
            if options.progress is not None:
                options.progress(len(made), len(units), "longer names")
    return made
