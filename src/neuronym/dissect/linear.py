"""Linear explanations: a few concepts whose weighted scores predict a unit's activation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.dissect.split import Split
from neuronym.errors import InputError
from neuronym.similarity.common import block_length

__all__ = [
    "LinearRules",
    "Linears",
    "Moments",
    "explain_moments",
    "linear_explanations",
    "moments_of",
]

_FLAT = 1e-7  # of a score's spread over its size: below, a concept is the same on every image


@dataclass(frozen=True)
class LinearRules:
    """How a linear explanation is found.

    Attributes:
        length: Most concepts, L.
        gain: A concept is kept if it raises the share of variance that is predicted on the images
            that choose the length by at least this.
    """

    length: int = 5
    gain: float = 0.005

    def __post_init__(self) -> None:
        length = self.length
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise InputError(f"length must be a whole number of at least 1, not {length!r}")


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of activations q and image embeddings I over some images; they merge by weight.

    Attributes:
        images: Number of images n.
        unit_mean, unit_variance: ``(units,)`` of q.
        image_mean: ``(dim,)`` of I.
        covariance: ``(dim, dim)`` of I, divided by n.
        cross: ``(units, dim)`` covariance of q and I, divided by n.
    """

    images: int
    unit_mean: npt.NDArray[np.float64]
    unit_variance: npt.NDArray[np.float64]
    image_mean: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float32]
    cross: npt.NDArray[np.float32]


def moments_of(
    activations: npt.NDArray[np.float32],
    images: npt.NDArray[np.float32],
    places: npt.NDArray[np.int64],
) -> Moments:
    """Return the moments over some images.

    Args:
        activations: ``(images, units)``.
        images: ``(images, dim)`` embeddings.
        places: Indices of the images that count.
    """
    units = activations[places].astype(np.float64)
    pictures = images[places].astype(np.float64)
    unit_mean, image_mean = units.mean(0), pictures.mean(0)
    level = (units == units[:1]).all(0)
    units -= unit_mean
    units[:, level] = 0.0  # not the rounding of their mean
    pictures -= image_mean
    left = pictures.astype(np.float32)
    return Moments(
        images=len(places),
        unit_mean=unit_mean,
        unit_variance=(units**2).mean(0),
        image_mean=image_mean,
        covariance=left.T @ left / np.float32(len(places)),
        cross=units.astype(np.float32).T @ left / np.float32(len(places)),
    )


@dataclass(frozen=True, eq=False)
class Linears:
    """Linear explanations of units, and how well they predict held-out images.

    Attributes:
        concepts: ``(units, length)`` int64 concept indices in the order of choice; -1: none.
        weights: ``(units, length)`` at least 0, for standardised scores and activation.
        correlation, r_squared: ``(units,)`` of prediction and activation on held-out images; NaN
            for a unit that has none.
        single: ``(units,)`` int64 the best concept alone; -1: none.
        single_correlation: ``(units,)`` its correlation on held-out images.
    """

    concepts: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    correlation: npt.NDArray[np.float64]
    r_squared: npt.NDArray[np.float64]
    single: npt.NDArray[np.int64]
    single_correlation: npt.NDArray[np.float64]


def linear_explanations(
    activations: npt.NDArray[np.float32],
    images: npt.NDArray[np.float32],
    concepts: npt.NDArray[np.float32],
    split: Split,
    *,
    rules: LinearRules | None = None,
) -> Linears:
    """Explain each unit by at most L concepts with non-negative weights.

    As in Oikarinen and Weng, ICML 2024 (arXiv 2405.06855), a unit is a sparse non-negative sum of
    concepts: ``q̂ = Σ_j w_j P̂_j`` with q and P standardised on the fitted images. Concepts are
    added one by one, each the one whose score correlates most with what is left, and all weights
    are fitted anew by non-negative least squares (orthogonal matching pursuit). Every step is
    judged on images that were not fitted, and the first that gains less than ``rules.gain`` of
    the variance there ends it. The result is scored on a third part of the images. Concept
    scores are dot products, so that moments suffice: see :func:`explain_moments`.

    Args:
        activations: ``(images, units)``.
        images: ``(images, dim)`` embeddings.
        concepts: ``(concepts, dim)`` embeddings.
        split: The parts of the images.
        rules: Length and gain.

    Raises:
        InputError: The length is not a whole number of at least 1.
    """
    parts = [
        moments_of(activations, images, each) for each in (split.fit, split.choose, split.score)
    ]
    return explain_moments((parts[0], parts[1], parts[2]), concepts, rules=rules)


def explain_moments(
    parts: tuple[Moments, Moments, Moments],
    concepts: npt.NDArray[np.float32],
    *,
    rules: LinearRules | None = None,
) -> Linears:
    """As :func:`linear_explanations`, from the moments of the three parts alone."""
    rules = rules or LinearRules()
    fit, choose, score = parts
    search = _Search(fit, concepts)
    units = len(fit.unit_mean)
    length = min(rules.length, len(concepts))
    chosen = np.full((units, length), -1, np.int64)
    weights = np.zeros((units, length))
    kept = np.zeros((units, length))
    reached = np.zeros(units)
    going = fit.unit_variance > 0
    for step in range(length):
        active = np.flatnonzero(going)
        if not len(active):
            break
        new = search.best(active, chosen[active, :step], weights[active, :step])
        going[active[new < 0]] = False
        active, new = active[new >= 0], new[new >= 0]
        chosen[active, step] = new
        weights[active, : step + 1] = search.refit(active, chosen[active, : step + 1])
        now = search.r_squared(choose, active, chosen[active, : step + 1], weights[active])
        better = now >= reached[active] + rules.gain
        reached[active[better]] = now[better]
        kept[active[better]] = weights[active[better]]
        going[active[~better]] = False
    single = np.where(fit.unit_variance > 0, chosen[:, 0], -1)
    chosen[kept == 0] = -1
    everyone = np.arange(units)
    return Linears(
        concepts=chosen,
        weights=kept,
        correlation=search.correlation(score, everyone, chosen, kept),
        r_squared=search.r_squared(score, everyone, chosen, kept),
        single=single,
        single_correlation=search.correlation(
            score, everyone, single[:, None], np.where(single >= 0, 1.0, 0.0)[:, None]
        ),
    )


class _Search:
    """Matching pursuit on the moments of the fitted images."""

    def __init__(self, fit: Moments, concepts: npt.NDArray[np.float32]) -> None:
        self._fit = fit
        self._concepts = np.ascontiguousarray(concepts, np.float32)
        spread = np.empty(len(concepts))
        step = block_length(8 * concepts.shape[1], len(concepts))
        for start in range(0, len(concepts), step):
            part = self._concepts[start : start + step]
            spread[start : start + step] = ((part @ fit.covariance) * part).sum(1)
        size = np.linalg.norm(self._concepts, axis=1) * np.sqrt(np.trace(fit.covariance))
        spread = np.sqrt(np.maximum(spread, 0))
        self._spread = np.where(spread > _FLAT * size, spread, np.inf)
        self._sigma = np.sqrt(fit.unit_variance)

    def _direction(
        self, chosen: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """``Σ_j w_j t_j / σ_j`` of each unit: ``(units, dim)``."""
        total = np.zeros((len(chosen), self._concepts.shape[1]), np.float32)
        for column in range(chosen.shape[1]):
            scale = weights[:, column] / self._spread[chosen[:, column]]
            total += scale[:, None].astype(np.float32) * self._concepts[chosen[:, column]]
        return total

    def best(
        self,
        units: npt.NDArray[np.int64],
        chosen: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.int64]:
        """Return the concept that correlates most with what is left; -1 where none does."""
        left = self._fit.cross[units] / self._sigma[units, None].astype(np.float32)
        left -= self._direction(chosen, weights) @ self._fit.covariance
        found = np.full(len(units), -1, np.int64)
        most = np.full(len(units), 1e-4, np.float32)
        inverse = (1 / self._spread).astype(np.float32)
        step = block_length(8 * len(units), len(inverse))
        for start in range(0, len(inverse), step):
            stop = min(start + step, len(inverse))
            values = (left @ self._concepts[start:stop].T) * inverse[start:stop]
            for column in chosen.T:
                rows = np.flatnonzero((column >= start) & (column < stop))
                values[rows, column[rows] - start] = -np.inf
            top = values.argmax(1)
            value = values[np.arange(len(units)), top]
            better = value > most
            found[better], most[better] = top[better] + start, value[better]
        return found

    def refit(
        self, units: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Non-negative least squares of the standardised activation on the chosen concepts."""
        from scipy.optimize import nnls

        shown = self._concepts[chosen] / self._spread[chosen][..., None].astype(np.float32)
        gram = ((shown @ self._fit.covariance) @ shown.transpose(0, 2, 1)).astype(np.float64)
        gram[:, np.arange(chosen.shape[1]), np.arange(chosen.shape[1])] += 1e-6
        target = (shown @ self._fit.cross[units][..., None])[..., 0] / self._sigma[units, None]
        factor = np.linalg.cholesky(gram)
        right = np.linalg.solve(factor, target[..., None].astype(np.float64))[..., 0]
        solved = [nnls(root.T, goal)[0] for root, goal in zip(factor, right, strict=True)]
        return np.array(solved).reshape(chosen.shape)

    def r_squared(
        self,
        part: Moments,
        units: npt.NDArray[np.int64],
        chosen: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """Share of the variance on other images that the fitted prediction explains, its level
        included; NaN where there is none to explain or no concept."""
        direction, sigma = (
            self._direction(chosen, weights[:, : chosen.shape[1]]),
            self._sigma[units],
        )
        shift = direction @ (part.image_mean - self._fit.image_mean)
        off = (part.unit_mean - self._fit.unit_mean)[units] / np.where(sigma > 0, sigma, 1) - shift
        variance = part.unit_variance[units] / np.where(sigma > 0, sigma, 1) ** 2
        covariance = (direction * part.cross[units]).sum(1) / np.where(sigma > 0, sigma, 1)
        spread = ((direction @ part.covariance) * direction).sum(1)
        error = variance - 2 * covariance + spread + off**2
        usable = (variance > 0) & (sigma > 0) & (direction != 0).any(1)
        return np.where(usable, 1 - error / np.where(variance > 0, variance, 1), np.nan)

    def correlation(
        self,
        part: Moments,
        units: npt.NDArray[np.int64],
        chosen: npt.NDArray[np.int64],
        weights: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.float64]:
        """Correlation of prediction and activation on other images; NaN where there is none."""
        direction = self._direction(chosen, weights)
        spread = ((direction @ part.covariance) * direction).sum(1).astype(np.float64)
        size = np.sqrt(np.maximum(spread, 0) * part.unit_variance[units])
        covariance = (direction * part.cross[units]).sum(1)
        return np.where(size > 0, covariance / np.where(size > 0, size, 1), np.nan).clip(-1, 1)
