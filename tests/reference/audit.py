"""The audit's numbers, slowly: one image, one unit and one random set at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

__all__ = ["every_set", "expected_share", "p_value_of_every_set", "share"]


def share(contributions: Sequence[float], units: Sequence[int]) -> float:
    """Part of the positive contributions of one image that comes from some units."""
    total = sum(max(value, 0.0) for value in contributions)
    return sum(max(contributions[unit], 0.0) for unit in units) / total


def every_set(matched: Sequence[int], strata: Sequence[int]) -> list[tuple[int, ...]]:
    """Every set that holds as many units of each stratum as match there."""
    choices = []
    for stratum in sorted(set(strata)):
        inside = [unit for unit, other in enumerate(strata) if other == stratum]
        wanted = sum(unit in matched for unit in inside)
        choices.append(list(combinations(inside, wanted)))
    return [tuple(unit for part in parts for unit in part) for parts in product(*choices)]


def expected_share(
    contributions: Sequence[float], matched: Sequence[int], strata: Sequence[int]
) -> float:
    """Mean share over every such set."""
    sets = every_set(matched, strata)
    return sum(share(contributions, units) for units in sets) / len(sets)


def p_value_of_every_set(
    images: Sequence[Sequence[float]], matched: Sequence[int], strata: Sequence[int]
) -> float:
    """Part of all such sets whose mean share is at least that of the matching units."""

    def mean(units: Sequence[int]) -> float:
        return sum(share(row, units) for row in images) / len(images)

    sets = every_set(matched, strata)
    return sum(mean(units) >= mean(matched) - 1e-12 for units in sets) / len(sets)
