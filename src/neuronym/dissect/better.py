"""Linear explanations and compositional names of one site's units, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.dissect.compose import ComposeRules, concept_sets, formulas
from neuronym.dissect.linear import LinearRules, linear_explanations
from neuronym.dissect.split import split_images
from neuronym.results import Formula, LinearFit

__all__ = ["Evidence", "compositional_names", "linear_fits"]


@dataclass(frozen=True, eq=False)
class Evidence:
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


def linear_fits(
    activations: npt.NDArray[np.float32], evidence: Evidence, *, length: int
) -> list[LinearFit | None]:
    """Return the linear explanation of each unit, ``None`` where no concept predicts it.

    Args:
        activations: ``(images, units)``.
        evidence: Embeddings, words and keys.
        length: Most concepts.
    """
    found = linear_explanations(
        activations,
        evidence.images,
        evidence.concepts,
        split_images(evidence.keys),
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
                concepts=tuple(evidence.words[concept] for concept in row[columns]),
                weights=tuple(found.weights[unit, columns].tolist()),
                correlation=float(found.correlation[unit]),
                r_squared=float(found.r_squared[unit]),
                single=evidence.words[found.single[unit]],
                single_correlation=float(found.single_correlation[unit]),
            )
        )
    return fits


def compositional_names(
    activations: npt.NDArray[np.float32], evidence: Evidence, *, length: int
) -> list[Formula | None]:
    """Return the compositional name of each unit, ``None`` where it has none.

    Args:
        activations: ``(images, units)``.
        evidence: Embeddings, words, keys and labels.
        length: Most concepts, up to 3.
    """
    sets = concept_sets(evidence.images, evidence.concepts, labels=evidence.labels)
    found = formulas(
        activations,
        sets,
        evidence.words,
        split_images(evidence.keys),
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
