"""Deletion and insertion: which units are removed in which step, and the areas of the curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError, unknown

__all__ = ["ORDERS", "Paths", "Plan", "area", "plan", "removal_counts", "sorted_winners"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Order = Callable[[Floats, Floats], Floats]

ORDERS: Mapping[str, Order] = {
    "signed": lambda contributions, activations: contributions,
    "magnitude": lambda contributions, activations: np.abs(contributions),
    "activation": lambda contributions, activations: activations,
}
"""Name → strength of each winner, from its contribution and its activation; strongest first."""


@dataclass(frozen=True)
class Paths:
    """What one quantity did along the steps of a :class:`Plan`.

    Attributes:
        deletion: ``(points,)``, the strongest winners removed first.
        insertion: ``(points,)``, the strongest winners added first, from none.
        random: ``(random orders, points)``, removed at random.
        kept: ``(fractions,)``, with only the strongest winners.
        random_kept: ``(random orders, fractions)``, with as many winners chosen at random.
        whole: With every winner.
        none: With no winner.
    """

    deletion: Floats
    insertion: Floats
    random: Floats
    kept: Floats
    random_kept: Floats
    whole: float
    none: float


@dataclass(frozen=True)
class Plan:
    """Every set of winners that one image is run with.

    Attributes:
        orders: ``(1 + random orders, winners)`` int64 unit indices, the strongest first and then
            the random orders.
        counts: ``(points,)`` int64, how many winners are removed at each point of a curve: from 0
            to all of them.
        kept: ``(fractions,)`` int64, how many winners are kept for each fraction.
    """

    orders: Ints
    counts: Ints
    kept: Ints

    @property
    def winners(self) -> int:
        """How many winners the image has."""
        return len(self.orders[0])

    @property
    def shares(self) -> Floats:
        """``(points,)``, share of the winners removed (or added) at each point, 0 to 1."""
        return self.counts / self.winners

    def keeps(self, units: int) -> npt.NDArray[np.bool_]:
        """Return ``(runs, units)``, true where a unit passes its output, in the order of read."""
        place = np.full((len(self.orders), units), self.winners)
        np.put_along_axis(place, self.orders, np.arange(self.winners)[None, :], axis=1)
        winner = place[0] < self.winners
        inner = self.counts[1:-1, None]
        parts = [np.stack([winner, np.zeros(units, dtype=bool)])]
        parts += [winner & (row >= inner) for row in place]
        parts += [place[0] < inner]
        parts += [row < self.kept[:, None] for row in place]
        return np.concatenate(parts)

    def read(self, values: Floats) -> Paths:
        """Sort ``(runs,)`` values, one per row of :meth:`keeps`, into curves."""
        points, orders = len(self.counts), len(self.orders)
        whole, none = float(values[0]), float(values[1])
        inner, lines = max(points - 2, 0), orders + 1
        end = 2 + lines * inner
        middle = values[2:end].reshape(lines, inner)
        kept = values[end:].reshape(orders, len(self.kept))
        left = np.concatenate(
            [np.full((orders, 1), whole), middle[:orders], np.full((orders, 1), none)], axis=1
        )
        insertion = np.concatenate([[none], middle[orders], [whole]])
        return Paths(left[0], insertion, left[1:], kept[0], kept[1:], whole, none)


def plan(
    strengths: Floats,
    winners: Ints,
    *,
    steps: int,
    random_orders: int,
    fractions: Sequence[float],
    seed: Sequence[int],
) -> Plan:
    """Lay out the runs of one image.

    Args:
        strengths: ``(units,)``, the larger the earlier; equals in the order of their index.
        winners: ``(winners,)`` int64 indices of the units that passed something, at least 1.
        steps: Points of a curve after the first; fewer where there are fewer winners.
        random_orders: Shuffles of the same winners.
        fractions: Shares of the winners that are kept alone, above 0 and at most 1; rounded up
            to whole winners.
        seed: Of the shuffles: the run's and the image's key.
    """
    if not len(winners):
        raise InputError("an image without winners has no curve")
    ordered = sorted_winners(strengths, winners)
    generator = np.random.default_rng(list(seed))
    shuffled = [generator.permutation(winners) for _ in range(random_orders)]
    kept = [int(np.ceil(round(fraction * len(winners), 9))) for fraction in fractions]
    return Plan(
        np.stack([ordered, *shuffled]).astype(np.int64),
        removal_counts(len(winners), steps),
        np.asarray(kept, dtype=np.int64),
    )


def sorted_winners(strengths: Floats, winners: Ints) -> Ints:
    """Return the winners, strongest first; equals in the order of their index."""
    winners = np.sort(winners)
    return np.asarray(winners[np.argsort(-strengths[winners], kind="stable")], dtype=np.int64)


def removal_counts(winners: int, steps: int) -> Ints:
    """Return how many of the winners are removed at each point: 0 to all, about evenly.

    The counts are the same from both ends, so that a random order read backwards is an insertion
    at the same points. With at most ``steps`` winners every count occurs.
    """
    if steps < 2:
        raise InputError(f"steps must be at least 2, not {steps}")
    half = np.array([(2 * j * winners + steps) // (2 * steps) for j in range(steps // 2 + 1)])
    return np.unique(np.concatenate([half, winners - half])).astype(np.int64)


def area(shares: Floats, values: Floats) -> Floats:
    """Area under curves by the trapezoid rule.

    ``A = Σ_j (s_{j+1} − s_j) (v_j + v_{j+1}) / 2`` over the share s from 0 to 1: the area of
    Petsiuk, Das and Saenko, "RISE" (BMVC 2018), with units in place of pixels.

    Args:
        shares: ``(points,)`` ascending.
        values: ``(..., points)``.

    Returns:
        ``(...)``.
    """
    return np.asarray(np.sum(np.diff(shares) * (values[..., 1:] + values[..., :-1]) / 2, axis=-1))


def checked_order(name: str) -> Order:
    """Return an entry of :data:`ORDERS`.

    Raises:
        UnknownNameError: There is none of that name.
    """
    if name not in ORDERS:
        raise unknown("order of removal", name, tuple(ORDERS))
    return ORDERS[name]
