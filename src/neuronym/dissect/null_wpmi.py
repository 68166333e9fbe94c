"""The null distribution of the best WPMI or SoftWPMI score: random sets of images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neuronym.errors import InputError, unknown
from neuronym.similarity.common import block_length
from neuronym.similarity.likelihood import terms_at_once
from neuronym.similarity.wpmi import (
    MIN_PROBABILITY,
    SOFT_MEMBERSHIP,
    SOFT_PRIOR_WEIGHT,
    SOFT_SCALE,
    WPMI_PRIOR_WEIGHT,
    WPMI_SCALE,
)
from neuronym.spread import spread

__all__ = ["TopSets", "WpmiKind", "random_sets", "wpmi_p_values"]


@dataclass(frozen=True)
class WpmiKind:
    """Which of the two similarities, with its keywords.

    Attributes:
        name: ``"wpmi"`` or ``"soft_wpmi"``.
        scale: Factor of the concept scores.
        prior_weight: λ.
        membership: First and last s_r of SoftWPMI.
    """

    name: str = "soft_wpmi"
    scale: float = SOFT_SCALE
    prior_weight: float = SOFT_PRIOR_WEIGHT
    membership: tuple[float, float] = SOFT_MEMBERSHIP

    def __post_init__(self) -> None:
        if self.name not in ("wpmi", "soft_wpmi"):
            raise unknown("kind of WPMI", self.name, ["wpmi", "soft_wpmi"])

    def weights(self, ranks: int) -> npt.NDArray[np.float32]:
        """Return s_r for each rank; 1 for WPMI, whose images belong to the top for certain."""
        first, last = self.membership if self.name == "soft_wpmi" else (1.0, 1.0)
        return (first - np.arange(ranks) / ranks * (first - last)).astype(np.float32)

    @classmethod
    def usual(cls, name: str) -> WpmiKind:
        """Return a kind with the published constants."""
        if name == "wpmi":
            return cls(name, WPMI_SCALE, WPMI_PRIOR_WEIGHT)
        return cls(name)


@dataclass(frozen=True, eq=False)
class TopSets:
    """The top images of the units of one site.

    Attributes:
        images: ``(units, top_k)`` int64 image indices, largest activation first.
        counts: ``(units,)`` int64 how many of them count.
    """

    images: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


def random_sets(
    count: int, images: int, draws: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw sets of different images in random order: ``(draws, count)``."""
    return np.stack([generator.choice(images, count, replace=False) for _ in range(draws)])


def wpmi_p_values(
    top: TopSets,
    images: npt.NDArray[np.float32],
    concepts: npt.NDArray[np.float32],
    *,
    kind: WpmiKind | None = None,
    population: int | None = None,
    draws: int = 1000,
    generator: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """p-value of each unit's best (Soft)WPMI score over all concepts.

    The null: the images of this unit alone are permuted, those of the other units of the site are
    as observed. Then its top images are a uniformly random set of as many, in random order. Only
    the exchangeability of the images for one unit is used; nothing is asked of the other units,
    and their share in the prior is held. The unit's own share is not: the prior is a mean over
    units that a draw enters in the unit's stead, so that with ``S_−k = Σ_{j ≠ k} p(B_j | m)`` a
    set B scores ``log p(B | m) − λ log((S_−k + p(B | m)) / K)``. (Were the unit's own share held
    too, a draw could score above log K, which no unit can, and no unit would ever be named.) At
    λ = 1 the score rises with ``log p(B | m) − log S_−k``, which is compared instead because it
    does not saturate. The draws are shared by the units of one count. Where a unit has at most 1 %
    of a concept's prior, all of that 1 % is taken out, which raises the draw's score by at most
    0.01 λ nats and p with it.

    Memory is ``draws × (units + counts × concepts of a block)``.

    Args:
        top: The top images of every unit of one site.
        images: ``(images, dim)`` embeddings, centred or not as the scores were.
        concepts: ``(concepts, dim)``.
        kind: The similarity and its keywords.
        population: Sets are drawn from this many of the images, the first ones, which must be all
            images or a random sample of them; ``None`` draws from all that are given.
        draws: R; the smallest p-value is 1 / (1 + R).
        generator: Draws the sets.

    Returns:
        ``(units,)`` p-values ``(1 + reached) / (1 + R)``; 1 for a unit without top images.

    Raises:
        InputError: There are fewer images than ranks.
    """
    from neuronym.dissect.null_kernel import (
        log_sum_of_others,
        reached_by_draws,
        reached_by_units,
    )

    kind = kind or WpmiKind()
    ranks = top.images.shape[1]
    population = len(images) if population is None else population
    if ranks > population:
        raise InputError(f"{ranks} top images cannot be drawn from {population} images")
    p = np.ones(len(top.counts))
    usable = np.flatnonzero(top.counts)
    if not len(usable):
        return p
    sets = random_sets(ranks, population, draws, generator)
    counts, which = np.unique(top.counts[usable], return_inverse=True)
    places, rows = np.unique(
        np.concatenate([top.images[usable].ravel(), sets.ravel()]), return_inverse=True
    )
    rows = rows.reshape(-1, ranks)
    own_rows, drawn_rows = rows[: len(usable)], rows[len(usable) :]
    table = _Probabilities(np.ascontiguousarray(images[places]), concepts, kind)
    observed = np.full(len(usable), -np.inf)
    own = np.full((len(usable), draws), -np.inf, np.float32)
    shared = np.full((len(counts), draws), -np.inf, np.float32)
    for block in table.blocks(len(usable) + draws * (1 + len(counts))):
        units = _log_sums(block, own_rows, top.counts[usable], kind)
        drawn = _drawn_log_sums(block, drawn_rows, counts, kind)
        log_sum, largest, without = log_sum_of_others(units)
        weight = float(kind.prior_weight)
        reached_by_draws(drawn, log_sum, weight, shared)
        reached_by_units(units, drawn, which, log_sum, largest, without, weight, observed, own)
    best = np.maximum(own, shared[which])
    p[usable] = (1 + (best >= observed.astype(np.float32)[:, None]).sum(1)) / (1 + draws)
    return p


class _Probabilities:
    """``P̃[i, m]``, the softmax over concepts, of some images in blocks of concepts."""

    def __init__(
        self,
        images: npt.NDArray[np.float32],
        concepts: npt.NDArray[np.float32],
        kind: WpmiKind,
    ) -> None:
        self._images = torch.from_numpy(images)
        self._concepts = torch.from_numpy(np.ascontiguousarray(concepts))
        self._scale = kind.scale
        self._normaliser = torch.full((len(images),), float("-inf"))
        for scores in self._scores(0):
            part = torch.logsumexp(scores, 1)
            self._normaliser = torch.logaddexp(self._normaliser, part)

    def _scores(self, beside: int) -> Iterator[Tensor]:
        step = block_length(4 * (2 * len(self._images) + beside), len(self._concepts))
        for start in range(0, len(self._concepts), step):
            yield (self._images @ self._concepts[start : start + step].T).mul_(self._scale)

    def blocks(self, beside: int) -> Iterator[Tensor]:
        """Yield ``(images, concepts of a block)``; ``beside`` more rows are held at once."""
        for scores in self._scores(beside):
            yield scores.sub_(self._normaliser[:, None]).exp_()


def _log_sums(
    probabilities: Tensor,
    rows: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    kind: WpmiKind,
) -> npt.NDArray[np.float32]:
    """``log p(B | m)`` of the units, scaled up to all ranks: ``(units, concepts)``."""
    from neuronym.similarity.kernels.likelihood import multiply

    units, ranks = rows.shape
    weights = kind.weights(ranks)
    used = np.arange(ranks) < counts[:, None]
    each = np.broadcast_to(weights, used.shape)[used]
    floors = (1.0 - each.astype(np.float64) + MIN_PROBABILITY).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    table = probabilities.numpy()
    products = np.ones((units, table.shape[1]), np.float32)
    powers = np.zeros(products.shape, np.int32)
    entries = (starts, rows[used].astype(np.int32), each, floors)
    multiply(table, entries, products, powers, flush=_flush(weights))
    logs = np.log(products) + powers * np.float32(math.log(2))
    return np.asarray(logs * (ranks / counts).astype(np.float32)[:, None])


def _flush(weights: npt.NDArray[np.float32]) -> int:
    """Return how many terms may be multiplied before a float32 comes near its underflow."""
    smallest = 1.0 - float(weights.max()) + MIN_PROBABILITY
    return terms_at_once(smallest)


def _drawn_log_sums(
    probabilities: Tensor,
    rows: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    kind: WpmiKind,
) -> npt.NDArray[np.float32]:
    """The same of the first c images of each draw, for every count c: ``(counts, concepts,
    draws)``. Draws are spread over as many threads as torch uses."""
    from neuronym.dissect.null_kernel import prefix_log_sums

    draws, ranks = rows.shape
    weights = kind.weights(ranks)
    flush = _flush(weights)
    table = probabilities.numpy()
    out = np.empty((len(counts), table.shape[1], draws), np.float32)

    def run(first: int, last: int) -> None:
        part = slice(first, last)
        prefix_log_sums(table, rows[part], counts, weights, MIN_PROBABILITY, flush, out[:, :, part])

    spread(run, draws)
    return out
