"""Is a name significant? p-values of the best score, and false-discovery control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from neuronym.dissect.null_cosine import cosine_p_values, profiles_of
from neuronym.dissect.null_wpmi import TopSets, WpmiKind, wpmi_p_values
from neuronym.errors import InputError, unknown
from neuronym.similarity import top_images

__all__ = ["FDR_METHODS", "HAVE_NULLS", "NullOptions", "p_values", "q_values"]

HAVE_NULLS = ("cosine", "wpmi", "soft_wpmi")
"""Similarities whose null distribution needs no second naming."""

FDR_METHODS = ("bh", "by")
"""Benjamini and Hochberg (1995); Benjamini and Yekutieli (2001), for any dependence."""


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


def q_values(p: npt.NDArray[np.floating], *, method: str = "bh") -> npt.NDArray[np.float64]:
    """q-value of each test: the smallest false-discovery rate at which it is significant.

    Args:
        p: ``(tests,)`` p-values, of all units that are tested together.
        method: ``"bh"``, which controls the rate for independent tests and under positive
            dependence, or ``"by"``, which controls it under any dependence.

    Returns:
        ``(tests,)``, 0 to 1.

    Raises:
        UnknownNameError: The method is not known.
        InputError: A p-value is outside 0 to 1.
    """
    from scipy.stats import false_discovery_control

    if method not in FDR_METHODS:
        raise unknown("method of false-discovery control", str(method), FDR_METHODS)
    values = np.asarray(p, np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise InputError("p-values must be one row of numbers from 0 to 1")
    if not len(values):
        return values
    return np.asarray(false_discovery_control(values, method=method), np.float64)
