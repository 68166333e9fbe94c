"""Linear explanations and formulas of a run's units, beside their names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from neuronym.dissect.compose import ComposeRules, concept_sets, formulas
from neuronym.dissect.evidence import Comparison, Rows, rows_of
from neuronym.dissect.linear import LinearRules, Linears, linear_explanations
from neuronym.dissect.options import DissectOptions
from neuronym.dissect.split import Split, split_images
from neuronym.record.runs import Run
from neuronym.results import Formula, LinearFit, Unit

__all__ = ["explained"]

_UNITS = 512  # whose activations are held at a time


def explained(
    units: Sequence[Unit],
    run: Run,
    comparison: Comparison,
    labels: Mapping[int, Tensor],
    options: DissectOptions,
) -> list[Unit]:
    """Return the units with the linear explanations and formulas that the options ask for.

    They are fitted on some of the images whose activations are known and scored on others, see
    :func:`neuronym.dissect.split.split_images`. Units that have no candidate name get neither.

    Args:
        units: All units of the run, ordered by site and index.
        run: The run.
        comparison: Words and their embeddings.
        labels: Concept index → ``(images,)`` bool over :func:`.evidence.rows_of` the run.
        options: Lengths.

    Raises:
        InputError: There are too few images to fit and to score.
    """
    if not options.linear and options.compose < 2:
        return list(units)
    rows = rows_of(run)
    split = split_images(rows.keys)
    masks = {concept: mask.numpy() for concept, mask in labels.items()}
    sets = None
    if options.compose > 1:
        sets = concept_sets(rows.embeddings, comparison.words, labels=masks)
    found = {unit.key: unit for unit in units}
    done = 0
    for site in run.sites:
        for start in range(0, site.units, _UNITS):
            stop = min(start + _UNITS, site.units)
            part = [found[f"{site.name}/{index}"] for index in range(start, stop)]
            array = rows.activations(site.name, slice(start, stop))
            if options.linear:
                part = _with_linear(part, array, rows, comparison, split, options.linear)
            if sets is not None:
                part = _with_formulas(part, array, sets, comparison, split, options.compose)
            found.update({unit.key: unit for unit in part})
            done += len(part)
            if options.progress is not None:
                options.progress(done, len(units), "explaining")
    return list(found.values())


def _with_linear(
    units: list[Unit],
    array: npt.NDArray[np.float32],
    rows: Rows,
    comparison: Comparison,
    split: Split,
    length: int,
) -> list[Unit]:
    fits = linear_explanations(
        array, rows.embeddings, comparison.words, split, rules=LinearRules(length=length)
    )
    words = comparison.concepts.words
    return [
        dataclasses.replace(unit, linear=_linear(fits, place, words))
        if _has_candidate(unit)
        else unit
        for place, unit in enumerate(units)
    ]


def _linear(fits: Linears, unit: int, words: Sequence[str]) -> LinearFit | None:
    used = np.flatnonzero((fits.concepts[unit] >= 0) & (fits.weights[unit] > 0))
    numbers = (fits.correlation[unit], fits.r_squared[unit], fits.single_correlation[unit])
    if not len(used) or not np.isfinite(numbers).all():
        return None
    used = used[np.argsort(-fits.weights[unit][used], kind="stable")]
    return LinearFit(
        concepts=tuple(words[concept] for concept in fits.concepts[unit][used]),
        weights=tuple(fits.weights[unit][used].tolist()),
        correlation=float(numbers[0]),
        r_squared=float(numbers[1]),
        single=words[fits.single[unit]],
        single_correlation=float(numbers[2]),
    )


def _with_formulas(
    units: list[Unit],
    array: npt.NDArray[np.float32],
    sets: npt.NDArray[np.bool_],
    comparison: Comparison,
    split: Split,
    length: int,
) -> list[Unit]:
    wanted = [place for place, unit in enumerate(units) if _has_candidate(unit)]
    composed = formulas(
        np.ascontiguousarray(array[:, wanted]),
        sets,
        comparison.concepts.words,
        split,
        rules=ComposeRules(length=length),
    )
    result = list(units)
    for place, found in zip(wanted, composed, strict=True):
        if found is not None:
            formula = Formula(
                text=found.formula.text,
                auroc=found.auroc,
                share=found.share,
                single=found.single.text,
                single_auroc=found.single_auroc,
            )
            result[place] = dataclasses.replace(units[place], formula=formula)
    return result


def _has_candidate(unit: Unit) -> bool:
    return unit.name is not None or unit.unnamed == "not significant"
