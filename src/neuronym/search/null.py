"""How often chance fits one text as well: the null of a correlation when the images are permuted.

The statistic is ``T = √N r = Σ_i u_i S_i``: u the unit's activations, centred and of unit length,
S the standardised scores of the text on the images. Under the null every image order is equally
likely. The sum's distribution follows from its cumulant generating function by a saddlepoint
approximation, which is right in the far tail too, and for a unit that fires on a handful of images,
where a Gaussian would be certain of what is luck.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Profile", "p_values", "profile"]

Doubles = npt.NDArray[np.float64]

_TAIL_SHARE, _LEAST_TAIL = 0.01, 10
_LEAST_SCALE = 0.05  # of an exponential tail, in standard deviations of the scores
_GRID = 2048
_NEAR = 1 - 1e-9
_CENTRE = 0.3  # where the formula divides by almost 0, p is interpolated between ± this
_STEPS = 60
_UNITS = 512


@dataclass(frozen=True, eq=False)
class Profile:
    """The shape of the units' activations, centred and of unit length.

    Attributes:
        extremes: ``(units, h)`` u of the most extreme images; they count one by one.
        rest: ``(units,)`` ``Σ u²`` of the other images, whose share of the sum is Gaussian.
        images: N.
    """

    extremes: Doubles
    rest: Doubles
    images: int


def profile(
    extremes: npt.NDArray[np.floating], mean: Doubles, deviation: Doubles, *, images: int
) -> Profile:
    """Return the profile of units that vary.

    Args:
        extremes: ``(units, h)`` activations that count one by one, each of another image.
        mean: ``(units,)`` over all images.
        deviation: ``(units,)`` standard deviation over all images, above 0.
        images: N.
    """
    u = (extremes - mean[:, None]) / (deviation[:, None] * np.sqrt(images))
    squares = (u**2).sum(1)
    over = np.sqrt(np.maximum(squares, 1.0))  # rounding of the extremes must not add to more than 1
    return Profile(u / over[:, None], np.maximum(1 - squares, 0.0), images)


def p_values(correlations: Doubles, units: Profile, scores: Doubles) -> Doubles:
    """p-value of each unit's correlation with one text that was fixed beforehand, one-sided.

    ``K(θ) = Σ_j κ(θ u_j) + θ² Σ_rest u² / 2`` with κ the cumulant generating function of the
    standardised scores: of a sample, whose highest and lowest 1 % (at least 10) are continued by
    exponential tails, because all images reach further than a sample of them. With θ where
    ``K'(θ) = T``, ``w = sign(θ) √(2 (θ T − K))`` and ``v = θ √K''``, the p-value is
    ``Φ(−(w + log(v / w) / w))`` (Lugannani and Rice 1980 in the form of Barndorff-Nielsen 1986).
    Images are drawn with replacement in it, where a permutation draws without: the tails of sums
    are heavier so (Hoeffding 1963), and the variance is corrected by ``N / (N − 1)``.

    Args:
        correlations: ``(units,)`` r over all images.
        units: Their profile.
        scores: ``(sample,)`` scores of the text on a random sample of the images.

    Returns:
        ``(units,)``, above 0 and at most 1; 1 everywhere where the text scores the same on every
        image of the sample.
    """
    statistic = np.asarray(correlations, np.float64) * np.sqrt(units.images - 1)
    found = np.ones(len(statistic))
    if not len(scores) or scores.std() <= 1e-12 * np.abs(scores).max(initial=0.0):
        return found
    cumulants = _Cumulants(scores)
    for start in range(0, len(found), _UNITS):
        part = slice(start, start + _UNITS)
        at, extremes, rest = statistic[part], units.extremes[part], units.rest[part]
        near = np.abs(at) < _CENTRE
        upper = _upper(np.where(near, _CENTRE, at), extremes, rest, cumulants)
        if near.any():
            lower = _upper(np.full(near.sum(), -_CENTRE), extremes[near], rest[near], cumulants)
            upper[near] += (_CENTRE - at[near]) / (2 * _CENTRE) * (lower - upper[near])
        found[part] = upper
    return np.asarray(np.maximum(found, np.finfo(np.float64).tiny))


def _upper(target: Doubles, extremes: Doubles, rest: Doubles, cumulants: _Cumulants) -> Doubles:
    """Probability that each sum is at least its target: ``(units,)``."""
    from scipy.special import ndtr

    theta = _saddlepoint(target, extremes, rest, cumulants)
    k, _, curvature = _sum(theta, extremes, rest, cumulants)
    sign = np.sign(target)
    w = sign * np.sqrt(np.maximum(2 * (theta * target - k), 1e-12))
    v = theta * np.sqrt(np.maximum(curvature, 1e-300))
    return np.asarray(ndtr(-(w + np.log(np.maximum(v / w, 1e-300)) / w)))


def _saddlepoint(
    target: Doubles, extremes: Doubles, rest: Doubles, cumulants: _Cumulants
) -> Doubles:
    """Solve ``K'(θ) = T`` by Newton steps that stay inside a shrinking bracket."""
    sign = np.sign(target)
    low, high = np.zeros(len(target)), cumulants.reach(extremes, sign)
    theta = np.minimum(np.abs(target), high / 2)
    left = np.arange(len(target))
    for _ in range(_STEPS):
        _, slope, curvature = _sum(sign[left] * theta[left], extremes[left], rest[left], cumulants)
        gap = sign[left] * (slope - target[left])
        low[left] = np.where(gap < 0, theta[left], low[left])
        high[left] = np.where(gap > 0, theta[left], high[left])
        step = theta[left] - gap / np.maximum(curvature, 1e-300)
        inside = (step > low[left]) & (step < high[left])
        theta[left] = np.where(inside, step, (low[left] + high[left]) / 2)
        left = left[np.abs(gap) > 1e-7 * (1 + np.abs(target[left]))]
        if not len(left):
            break
    return np.asarray(sign * theta)


def _sum(
    theta: Doubles, extremes: Doubles, rest: Doubles, cumulants: _Cumulants
) -> tuple[Doubles, Doubles, Doubles]:
    """K, K' and K'' of each unit's sum at its own θ."""
    k, slope, curvature = cumulants(theta[:, None] * extremes)
    return (
        k.sum(1) + rest * theta**2 / 2,
        (extremes * slope).sum(1) + rest * theta,
        (extremes**2 * curvature).sum(1) + rest,
    )


class _Cumulants:
    """κ, κ' and κ'' of standardised scores: a sample between two exponential tails."""

    def __init__(self, scores: Doubles) -> None:
        ordered = np.sort((scores - scores.mean()) / scores.std())
        number = len(ordered)
        tail = min(max(_LEAST_TAIL, round(_TAIL_SHARE * number)), number // 4)
        bulk = ordered[tail : number - tail]
        high, low = _tail(ordered, tail), _tail(-ordered[::-1], tail)
        shares = np.array([len(bulk), tail, tail]) / number
        centre = (
            shares[0] * bulk.mean()
            + shares[1] * (high[0] + high[1])
            - shares[2] * (low[0] + low[1])
        )
        second = shares[0] * (bulk**2).mean() + sum(
            share * ((edge + scale) ** 2 + scale**2)
            for share, (edge, scale) in zip(shares[1:], (high, low), strict=True)
        )
        spread = np.sqrt(second - centre**2)
        self._bulk = (bulk - centre) / spread
        self._share, self._log_share = shares[0], np.log(max(tail / number, 1e-300))
        self._high = ((high[0] - centre) / spread, high[1] / spread)
        self._low = ((low[0] + centre) / spread, low[1] / spread)
        self._tabulate()

    def _tabulate(self) -> None:
        """Tabulate the logarithm of the bulk's generating function, and its tilted moments."""
        self._from, self._to = -1 / self._low[1], 1 / self._high[1]
        self._step = (self._to - self._from) / (_GRID - 1)
        x = np.linspace(self._from, self._to, _GRID)
        exponents = np.multiply.outer(x, self._bulk)
        top = exponents.max(1, keepdims=True)
        weights = np.exp(exponents - top)
        total = weights.sum(1)
        self._log = top[:, 0] + np.log(total / len(self._bulk)) + np.log(self._share)
        self._first = weights @ self._bulk / total
        self._second = weights @ self._bulk**2 / total

    def reach(self, extremes: Doubles, sign: Doubles) -> Doubles:
        """Return the largest size of θ that leaves every tail finite: ``(units,)``."""
        signed = extremes * sign[:, None]
        highest = np.maximum(signed.max(1, initial=0.0) / self._to, 1e-300)
        lowest = np.maximum((-signed).max(1, initial=0.0) / -self._from, 1e-300)
        return np.asarray(_NEAR * np.minimum(np.minimum(1 / highest, 1 / lowest), 1e6))

    def __call__(self, x: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        place = np.clip((x - self._from) / self._step, 0, _GRID - 1 - 1e-9)
        at = place.astype(np.int64)
        part = place - at

        def read(table: Doubles) -> Doubles:
            return np.asarray(table[at] + part * (table[at + 1] - table[at]))

        logs = [read(self._log)]
        means = [read(self._first)]
        seconds = [read(self._second)]
        for sign, (edge, scale) in ((1, self._high), (-1, self._low)):
            room = 1 - sign * x * scale
            logs.append(self._log_share + sign * x * edge - np.log(room))
            tilted = scale / room
            means.append(sign * (edge + tilted))
            seconds.append((edge + tilted) ** 2 + tilted**2)
        top = np.maximum(np.maximum(logs[0], logs[1]), logs[2])
        weights = [np.exp(each - top) for each in logs]
        total = weights[0] + weights[1] + weights[2]
        first = sum(w * m for w, m in zip(weights, means, strict=True)) / total
        second = sum(w * s for w, s in zip(weights, seconds, strict=True)) / total
        return top + np.log(total), first, second - first**2


def _tail(ordered: Doubles, count: int) -> tuple[float, float]:
    """Return where the upper tail of rising values begins, and the mean excess over it."""
    if not count:
        return float(ordered[-1]), _LEAST_SCALE
    edge = float(ordered[len(ordered) - count - 1])
    return edge, max(float(ordered[len(ordered) - count :].mean()) - edge, _LEAST_SCALE)
