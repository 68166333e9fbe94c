"""Fused loops of the null distributions of a best score. Imported only when used."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

__all__ = [
    "largest_shifted",
    "log_sum_of_others",
    "prefix_log_sums",
    "reached_by_draws",
    "reached_by_units",
]

_TILE = 512
NEGLIGIBLE = 0.01
"""Share of a concept's prior up to which a unit is not taken out of it: 0.01 nats at most."""


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz", "arcp", "reassoc"})
def prefix_log_sums(
    probabilities: npt.NDArray[np.float32],
    sets: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float32],
    epsilon: float,
    flush: int,
    out: npt.NDArray[np.float32],
) -> None:
    """``(ranks / c) Σ_{r < c} log(1 − s_r + s_r P̃[i_r, m] + ε)`` for several c at once.

    The logarithm of a product of up to ``flush`` terms replaces as many logarithms.

    Args:
        probabilities: ``(images, concepts)``, 0 to 1.
        sets: ``(draws, ranks)`` images.
        counts: ``(counts,)`` the c, ascending, at most all ranks.
        weights: ``(ranks,)`` s_r.
        epsilon: Added to every term.
        flush: Terms whose product stays above float32's smallest number.
        out: ``(counts, concepts, draws)``, filled.
    """
    concepts = probabilities.shape[1]
    draws, ranks = sets.shape
    product = np.empty(_TILE, np.float32)
    total = np.empty(_TILE, np.float64)
    for start in range(0, concepts, _TILE):
        width = min(_TILE, concepts - start)
        for draw in range(draws):
            product[:] = np.float32(1.0)
            total[:] = 0.0
            at = 0
            for rank in range(counts[-1]):
                row = probabilities[sets[draw, rank], start : start + width]
                weight = weights[rank]
                floor = np.float32(1.0 - np.float64(weight) + epsilon)
                for j in range(width):
                    product[j] *= floor + weight * row[j]
                here = rank + 1 == counts[at]
                if here or (rank + 1) % flush == 0:
                    for j in range(width):
                        total[j] += math.log(product[j])
                        product[j] = np.float32(1.0)
                if here:
                    factor = ranks / counts[at]
                    for j in range(width):
                        out[at, start + j, draw] = total[j] * factor
                    at += 1


@numba.njit(nogil=True, cache=True, fastmath={"nsz", "nnan", "ninf"})
def largest_shifted(
    scores: npt.NDArray[np.float32],
    shift: npt.NDArray[np.float32],
    levels: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Raise ``out[k, r]`` to ``max_m (scores[r, m] + levels[k] · shift[m])``.

    Args:
        scores: ``(draws, concepts)``.
        shift: ``(concepts,)``.
        levels: ``(units,)``.
        out: ``(units, draws)``, raised in place.
    """
    draws, concepts = scores.shape
    for r in range(draws):
        row = scores[r]
        for k in range(levels.shape[0]):
            level = levels[k]
            best = out[k, r]
            for m in range(concepts):
                value = row[m] + level * shift[m]
                best = value if value > best else best
            out[k, r] = best


@numba.njit(nogil=True, cache=True)
def _fit(likelihood: float, others: float, weight: float) -> float:
    """Score of a unit beside others, up to a constant; for a weight of 1 any rising function of
    the score serves, and this one does not saturate where the unit is the prior itself."""
    if weight == 1.0:
        return likelihood - others
    if weight == 0.0:
        return likelihood
    high, low = max(likelihood, others), min(likelihood, others)
    return likelihood - weight * (high + math.log1p(math.exp(low - high)))


@numba.njit(nogil=True, cache=True)
def log_sum_of_others(
    likelihoods: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return ``log Σ_j exp L[j, m]``, the largest unit of each concept, and the sum without it.

    Args:
        likelihoods: ``(units, concepts)``.

    Returns:
        Three ``(concepts,)`` arrays.
    """
    units, concepts = likelihoods.shape
    log_sum = np.empty(concepts)
    largest = np.zeros(concepts, np.int64)
    without = np.empty(concepts)
    for m in range(concepts):
        top = 0
        for k in range(1, units):
            if likelihoods[k, m] > likelihoods[top, m]:
                top = k
        second = -math.inf
        for k in range(units):
            if k != top and likelihoods[k, m] > second:
                second = likelihoods[k, m]
        total = 0.0
        for k in range(units):
            if k != top:
                total += math.exp(likelihoods[k, m] - second)
        rest = second + math.log(total) if total > 0 else -math.inf
        high = float(likelihoods[top, m])
        largest[m], without[m] = top, rest
        log_sum[m] = high + math.log1p(math.exp(rest - high))
    return log_sum, largest, without


@numba.njit(nogil=True, cache=True)
def reached_by_units(
    likelihoods: npt.NDArray[np.float32],
    draws: npt.NDArray[np.float32],
    which: npt.NDArray[np.int64],
    log_sum: npt.NDArray[np.float64],
    largest: npt.NDArray[np.int64],
    without: npt.NDArray[np.float64],
    weight: float,
    observed: npt.NDArray[np.float64],
    own: npt.NDArray[np.float32],
) -> None:
    """Raise each unit's best score, and its draws' best where the unit is part of the prior.

    Args:
        likelihoods: ``(units, concepts)`` of the units.
        draws: ``(counts, concepts, draws)`` of random sets.
        which: ``(units,)`` index of each unit's count.
        log_sum, largest, without: From :func:`log_sum_of_others`.
        weight: Of the prior.
        observed: ``(units,)`` best scores, raised in place.
        own: ``(units, draws)`` best scores of the draws in a unit's stead, raised in place.
    """
    units, concepts = likelihoods.shape
    for k in range(units):
        for m in range(concepts):
            share = math.exp(likelihoods[k, m] - log_sum[m])
            others = without[m] if k == largest[m] else log_sum[m] + math.log1p(-share)
            observed[k] = max(observed[k], _fit(likelihoods[k, m], others, weight))
            if share > NEGLIGIBLE and weight > 0.0:
                row = draws[which[k], m]
                for r in range(row.shape[0]):
                    value = np.float32(_fit(row[r], others, weight))
                    if value > own[k, r]:
                        own[k, r] = value


@numba.njit(nogil=True, cache=True)
def reached_by_draws(
    draws: npt.NDArray[np.float32],
    log_sum: npt.NDArray[np.float64],
    weight: float,
    shared: npt.NDArray[np.float32],
) -> None:
    """Raise the draws' best scores beside a prior that lacks a negligible share.

    Args:
        draws: ``(counts, concepts, draws)``.
        log_sum: ``(concepts,)``.
        weight: Of the prior.
        shared: ``(counts, draws)`` best scores, raised in place.
    """
    counts, concepts, number = draws.shape
    for c in range(counts):
        for m in range(concepts):
            others = log_sum[m] + math.log1p(-NEGLIGIBLE)
            for r in range(number):
                value = np.float32(_fit(draws[c, m, r], others, weight))
                if value > shared[c, r]:
                    shared[c, r] = value
