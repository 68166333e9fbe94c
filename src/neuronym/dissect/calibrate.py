"""Is a name significant? p-values of the best score, and false-discovery control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from neuronym.dissect.null_cosine import cosine_p_values, profiles_of
from neuronym.dissect.null_wpmi import TopSets, WpmiKind, wpmi_p_values
from neuronym.errors import InputError, unknown
from neuronym.false_discovery import q_values
from neuronym.results import Unit
from neuronym.similarity import top_images

__all__ = ["HAVE_NULLS", "NullOptions", "p_values", "with_significance"]

HAVE_NULLS = ("cosine", "wpmi", "soft_wpmi")
"""Similarities whose null distribution needs no second naming."""


@dataclass(frozen=True)
class NullOptions:
    """How the null distribution is drawn.

    Attributes:
        draws: R, at least 1; the smallest p-value is 1 / (1 + R).
        seed: Of the draws.
    """

    draws: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        draws = self.draws
        if isinstance(draws, bool) or not isinstance(draws, int) or draws < 1:
            raise InputError(f"draws must be a whole number of at least 1, not {draws!r}")


def p_values(
    similarity: str,
    activations: npt.NDArray[np.float32],
    images: npt.NDArray[np.float32],
    concepts: npt.NDArray[np.float32],
    *,
    best: npt.NDArray[np.floating],
    keywords: Mapping[str, Any],
    options: NullOptions | None = None,
) -> npt.NDArray[np.float64]:
    """p-value of the best score over all concepts, for every unit of one site.

    See :func:`neuronym.dissect.null_cosine.cosine_p_values` and
    :func:`neuronym.dissect.null_wpmi.wpmi_p_values`, which also work from moments and from lists
    of top images. The result does not depend on other sites.

    Args:
        similarity: One of :data:`HAVE_NULLS`.
        activations: ``(images, units)``.
        images: ``(images, dim)`` embeddings, centred or not as the scores were.
        concepts: ``(concepts, dim)``.
        best: ``(units,)`` best scores.
        keywords: Of the similarity, all of them.
        options: Draws and seed.

    Returns:
        ``(units,)``, above 0 and at most 1.

    Raises:
        UnknownNameError: The similarity has no null distribution of its own.
    """
    if similarity not in HAVE_NULLS:
        raise unknown("similarity with a null distribution", str(similarity), HAVE_NULLS)
    options = options or NullOptions()
    generator = np.random.default_rng(options.seed)
    if similarity == "cosine":
        return cosine_p_values(
            best,
            profiles_of(activations),
            images,
            concepts,
            draws=options.draws,
            generator=generator,
        )
    taken = {name: value for name, value in keywords.items() if name != "top_k"}
    found, counts = top_images(torch.from_numpy(activations), keywords["top_k"])
    return wpmi_p_values(
        TopSets(found.numpy(), counts.numpy()),
        images,
        concepts,
        kind=WpmiKind(similarity, **taken),
        draws=options.draws,
        generator=generator,
    )


def with_significance(
    units: Sequence[Unit], *, level: float | None, method: str = "bh"
) -> list[Unit]:
    """Test all units with a p-value together, and take the name from those that are not above it.

    Args:
        units: Of the whole atlas.
        level: False-discovery rate; ``None`` sets q-values and leaves all names.
        method: See :func:`neuronym.false_discovery.q_values`.

    Returns:
        The units in their order, with ``q_value`` set where there is a p-value. One whose q-value
        is above the level has no name and ``unnamed="not significant"``; its candidates, the best
        first, are its runners-up.
    """
    tested = [place for place, unit in enumerate(units) if unit.p_value is not None]
    rates = q_values(np.array([units[place].p_value for place in tested], float), method=method)
    made = list(units)
    for place, rate in zip(tested, rates.tolist(), strict=True):
        unit = replace(made[place], q_value=rate)
        if level is not None and rate > level and unit.name is not None:
            unit = replace(
                unit,
                name=None,
                score=None,
                unnamed="not significant",
                runner_up_names=(unit.name, *unit.runner_up_names),
                runner_up_scores=(unit.score or 0.0, *unit.runner_up_scores),
            )
        made[place] = unit
    return made
