"""The audit's statistics: strata of units, shares against chance, and intervals over images."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from neuronym.results import Estimate

__all__ = [
    "chance_p_values",
    "difference",
    "excess_weights",
    "mean_of_each",
    "positive_shares",
    "smallest_p_value",
    "strata_of",
]

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STRATA = 4
_ENDS = (2.5, 97.5)
_AT_ONCE = 4_000_000  # numbers in a block of draws


def strata_of(rates: Doubles, matched: Bools) -> Ints:
    """Group the units of a site by how often they fire, for random sets that fire as often.

    Up to four groups of equal size, rarest first. A group of which more than half match is joined
    with its neighbour, so that a random set can differ from the matching one.

    Args:
        rates: ``(units,)`` how often each fires.
        matched: ``(units,)`` which of them match.

    Returns:
        ``(units,)`` number of each unit's group.
    """
    order = np.lexsort((np.arange(len(rates)), rates))
    groups = [list(part) for part in np.array_split(order, min(STRATA, len(rates)))]
    place = 0
    while place < len(groups) and len(groups) > 1:
        if 2 * int(matched[groups[place]].sum()) > len(groups[place]):
            joined = groups.pop(place)
            groups[min(place, len(groups) - 1)] += joined
            place = 0
        else:
            place += 1
    strata = np.empty(len(rates), np.int64)
    for number, units in enumerate(groups):
        strata[units] = number
    return strata


def positive_shares(contributions: Doubles) -> tuple[Doubles, Bools]:
    """Return each unit's part of the sum of positive contributions, per image.

    Args:
        contributions: ``(images, units)`` signed, in logits.

    Returns:
        ``(images, units)`` rows that add up to 1, and ``(images,)`` whether there was anything
        positive; a row of zeros where not.
    """
    positive = np.maximum(contributions, 0.0)
    total = positive.sum(1)
    some = total > 0
    return positive / np.where(some, total, 1.0)[:, None], some


def excess_weights(matched: Bools, strata: Ints) -> Doubles:
    """Weights w with ``Σ_k w_k s_k = share − expected share of a random set``.

    The expected share of sets that draw n_g of the units of every stratum g is
    ``Σ_g n_g mean_{k in g} s_k``, with n_g the number that match there.

    Args:
        matched: ``(units,)``.
        strata: ``(units,)``.
    """
    weights = matched.astype(np.float64)
    for stratum in np.unique(strata):
        inside = strata == stratum
        weights[inside] -= matched[inside].mean()
    return weights


def chance_p_values(
    means: Doubles,
    matched: Bools,
    strata: Ints,
    *,
    draws: int,
    generator: np.random.Generator,
) -> Doubles:
    """p-value of the matching units' share of every class against random sets of units.

    ``p = (1 + #{draws: Σ_{k in R} m_k ≥ Σ_{k matching} m_k}) / (1 + draws)``, R a random set that
    takes from every stratum as many units as match there; the same sets serve all classes.

    Args:
        means: ``(classes, units)`` mean share of each unit over the images of the class.
        matched: ``(units,)``; at least one.
        strata: ``(units,)``.
        draws: Number of sets.
        generator: Of the sets.

    Returns:
        ``(classes,)``, above 0 and at most 1; how small they can be says
        :func:`smallest_p_value`.
    """
    found = means[:, matched].sum(1)
    at_least = np.zeros(len(means), np.int64)
    slack = 1e-12 * np.maximum(found, 1e-300)  # the order of a sum is no difference
    step = max(1, _AT_ONCE // max(len(matched), 1))
    for start in range(0, draws, step):
        members = _sets(matched, strata, min(step, draws - start), generator)
        at_least += (members @ means.T >= (found - slack)).sum(0)
    return np.asarray((1 + at_least) / (1 + draws))


def smallest_p_value(matched: Bools, strata: Ints, *, draws: int) -> float:
    """Return the p-value to expect where no other set of units carries as much.

    The matching set is itself one of the ``N = Π_g C(units in g, matching in g)`` random sets, so
    that 1 in N draws reaches it: ``(1 + draws / N) / (1 + draws)``. With one matching unit N is
    only the size of its stratum.

    Args:
        matched: ``(units,)``; at least one.
        strata: ``(units,)``.
        draws: Number of sets.
    """
    sets = 1
    for stratum in np.unique(strata):
        inside = matched[strata == stratum]
        sets *= math.comb(len(inside), int(inside.sum()))
    return (1 + draws / sets) / (1 + draws)


def _sets(matched: Bools, strata: Ints, count: int, generator: np.random.Generator) -> Doubles:
    """``(count, units)``, 1 for the members of each random set."""
    members = np.zeros((count, len(matched)))
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        wanted = int(matched[inside].sum())
        if wanted:
            keys = generator.random((count, len(inside)))
            picked = np.argpartition(keys, wanted - 1, axis=1)[:, :wanted]
            np.put_along_axis(members, inside[picked], 1.0, axis=1)
    return members


def _resampled(values: Doubles, draws: int, generator: np.random.Generator) -> Iterator[Doubles]:
    """Yield means ``(some draws, columns)`` of images drawn with replacement."""
    count = len(values)
    step = max(1, _AT_ONCE // count)
    for start in range(0, draws, step):
        weights = generator.multinomial(
            count, np.full(count, 1 / count), size=min(step, draws - start)
        )
        yield weights @ values / count


def _boot(values: Doubles, draws: int, generator: np.random.Generator) -> Doubles:
    return np.concatenate(list(_resampled(values, draws, generator)))


def _estimates(means: Doubles, boot: Doubles) -> list[Estimate]:
    low, high = np.percentile(boot, _ENDS, axis=0)
    return [
        Estimate(float(mean), float(lower), float(upper))
        for mean, lower, upper in zip(means, low, high, strict=True)
    ]


def mean_of_each(values: Doubles, *, draws: int, generator: np.random.Generator) -> list[Estimate]:
    """Mean of every column with its interval, the images drawn together for all columns.

    Args:
        values: ``(images, columns)``, at least one image.
        draws: Of the bootstrap.
        generator: Of the bootstrap.
    """
    return _estimates(values.mean(0), _boot(values, draws, generator))


def difference(
    first: Doubles, second: Doubles, *, draws: int, generator: np.random.Generator
) -> Estimate:
    """Mean of ``first`` minus mean of ``second``, ``(images,)`` each, both drawn anew."""
    boot = _boot(first[:, None], draws, generator) - _boot(second[:, None], draws, generator)
    return _estimates(np.array([first.mean() - second.mean()]), boot)[0]
