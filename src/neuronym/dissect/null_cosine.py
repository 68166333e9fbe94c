"""The null distribution of the best cosine, from moments and a unit's largest deviations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError
from neuronym.similarity.common import block_length

__all__ = ["Profiles", "cosine_p_values", "profiles_of", "profiles_of_moments"]

PLACED = 256
"""Activations per unit that are placed on images one by one, at most a quarter of the images."""
BIN = 0.08
"""Units share draws where the logarithms of their tail weights lie in one bin of this width."""
_LIGHT = 0.02  # tail weights below this one are alike
_ROUNDING = 1e-12

ImageMoments = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Mean ``(dim,)``, unbiased covariance and sum of squares ``(dim, dim)`` of embeddings."""


@dataclass(frozen=True, eq=False)
class Profiles:
    """What the null of a cosine needs of a unit's activations q over N images.

    Attributes:
        placed: ``(units, h)`` the activations that are placed one by one, largest first.
        rest_mean: ``(units,)`` mean of the other N − h.
        rest_spread: ``(units,)`` root of the sum of their squared deviations from that mean.
        norm: ``(units,)`` ‖q‖.
        deviation: ``(units,)`` ‖q − mean q‖.
        sums: ``(units,)`` ``Σ q``.
        images: N.
    """

    placed: npt.NDArray[np.float64]
    rest_mean: npt.NDArray[np.float64]
    rest_spread: npt.NDArray[np.float64]
    norm: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]
    sums: npt.NDArray[np.float64]
    images: int


def profiles_of(activations: npt.NDArray[np.float32], *, placed: int = PLACED) -> Profiles:
    """Return the profiles of activations in memory; the largest deviations are placed.

    Args:
        activations: ``(images, units)``.
        placed: h, lowered to a quarter of the images.
    """
    number, units = activations.shape
    h = min(placed, number // 4)
    kept = np.empty((units, h))
    sums, squares = np.empty(units), np.empty(units)
    step = block_length(40 * number, units)
    for start in range(0, units, step):
        part = np.ascontiguousarray(activations[:, start : start + step].T, np.float64)
        sums[start : start + step] = part.sum(1)
        squares[start : start + step] = (part * part).sum(1)
        if h:
            far = np.abs(part - part.mean(1, keepdims=True))
            places = np.argpartition(far, number - h, axis=1)[:, number - h :]
            kept[start : start + step] = np.take_along_axis(part, places, 1)
    return profiles_of_moments(number, sums, squares, kept)


def profiles_of_moments(
    images: int,
    sums: npt.NDArray[np.float64],
    squares: npt.NDArray[np.float64],
    placed: npt.NDArray[np.floating],
) -> Profiles:
    """Return the profiles from moments and a list of each unit's most extreme activations.

    Args:
        images: N.
        sums: ``(units,)`` ``Σ q``.
        squares: ``(units,)`` ``Σ q²``.
        placed: ``(units, h)`` activations that are placed one by one, such as the top images'.

    Raises:
        InputError: All images would be placed.
    """
    h = placed.shape[1]
    if h >= images:
        raise InputError(f"at most {images - 1} of {images} activations can be placed, not {h}")
    ordered = -np.sort(-placed.astype(np.float64), axis=1)
    mean = (sums - ordered.sum(1)) / (images - h)
    left = squares - (ordered**2).sum(1) - (images - h) * mean**2
    whole = squares - sums**2 / images
    floor = _ROUNDING * squares
    return Profiles(
        placed=ordered,
        rest_mean=mean,
        rest_spread=np.sqrt(np.where(left > floor, left, 0.0)),
        norm=np.sqrt(squares),
        deviation=np.sqrt(np.where(whole > floor, whole, 0.0)),
        sums=np.asarray(sums, np.float64),
        images=images,
    )


def cosine_p_values(
    best: npt.NDArray[np.floating],
    profiles: Profiles,
    images: npt.NDArray[np.float32],
    concepts: npt.NDArray[np.float32],
    *,
    moments: ImageMoments | None = None,
    draws: int = 1000,
    generator: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """p-value of each unit's best cosine over all concepts.

    The null: the images of the unit are permuted. The numerator of every concept's cosine is
    ``v · t_m`` with ``v = Σ_i q_i I_i``. Under permutation v has the mean ``N q̄ Ī`` and the
    covariance ``Σ_i (q_i − q̄)² · S``, ``S = Σ_i (I_i − Ī)(I_i − Ī)ᵀ / (N − 1)``, exactly. A draw
    puts the h placed activations on h different random images; given them, the others' share has
    the mean ``q̄_rest (N Ī − Σ_j I_(j))`` exactly, so that ``v = N q̄ Ī + Σ_j (q_j − q̄_rest)
    (I_(j) − Ī) + z`` with a Gaussian z of the covariance ``Σ_rest (q − q̄_rest)² · S`` (S of all
    images, in place of those that are left). The best score of a draw is
    ``max_m v · t_m / (‖q‖ ‖P_m‖)``.

    Units of the same tail weight within 8 %, and skewed the same way, share the draws of the one
    among them with the heaviest tail. There are at most 50 such groups a side, and few in a layer
    of alike units.

    Args:
        best: ``(units,)`` best scores.
        profiles: Of the units.
        images: ``(images, dim)`` embeddings, centred or not as the scores were; of all N images
            or of a random sample of them, on which activations are then placed.
        concepts: ``(concepts, dim)``.
        moments: Of all N images, centred or not as the scores were; ``None`` where ``images`` are
            all. With a sample they are needed: its own mean is off by about 1 / √(its size), and
            that error would grow with √N.
        draws: R; the smallest p-value is 1 / (1 + R).
        generator: Draws images and Gaussians.

    Returns:
        ``(units,)`` p-values ``(1 + reached) / (1 + R)``; 1 for a constant unit.

    Raises:
        InputError: There are more embeddings than images, or too few to place activations on.
    """
    if moments is None and len(images) != profiles.images:
        raise InputError(
            f"profiles are of {profiles.images} images, embeddings of {len(images)}: a sample "
            "needs the moments of all images"
        )
    if not profiles.placed.shape[1] < len(images) <= profiles.images:
        raise InputError(
            f"profiles of {profiles.images} images with {profiles.placed.shape[1]} placed "
            f"activations do not fit {len(images)} embeddings"
        )
    p = np.ones(len(best))
    usable = np.flatnonzero(profiles.deviation > 0)
    if not len(usable):
        return p
    mean, covariance, second = _moments(images) if moments is None else moments
    length = profiles.deviation[usable]
    standard = _standardised(profiles, usable)
    leaders, group = _groups(standard)
    centre = images.mean(0, dtype=np.float64)  # of what is drawn from, so that no draw leans
    sample = _Sample(images, centre, covariance, standard.shape[1] - 1)
    sample.draw(draws, generator)
    directions = _directions(concepts, second)
    levels = profiles.sums[usable] / length
    means = directions @ mean.astype(np.float32)
    matter = np.abs(means).max() * np.abs(levels).max() >= 1e-6  # else centred but for rounding
    shift = means if matter else None
    scores = np.asarray(best, np.float64)[usable] * profiles.norm[usable] / length
    for number, leader in enumerate(leaders):
        members = np.flatnonzero(group == number)
        null = _largest(sample.vectors(standard[leader]), directions, shift, levels[members])
        reached = (null >= scores[members, None].astype(np.float32)).sum(1)
        p[usable[members]] = (1 + reached) / (1 + draws)
    return p


def _moments(
    images: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the mean, the unbiased covariance and the sum of squares of embeddings."""
    number, dim = images.shape
    total, second = np.zeros(dim), np.zeros((dim, dim))
    step = block_length(8 * dim, number)
    for start in range(0, number, step):
        part = images[start : start + step].astype(np.float64)
        total += part.sum(0)
        second += part.T @ part
    mean = total / number
    return mean, (second - number * np.outer(mean, mean)) / (number - 1), second


def _standardised(profiles: Profiles, usable: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return ``(units, h + 1)``: placed minus the rest's mean, and the rest's spread, both divided
    by ‖q − mean q‖."""
    rest = profiles.rest_mean[usable, None]
    columns = [profiles.placed[usable] - rest, profiles.rest_spread[usable, None]]
    return np.asarray(np.concatenate(columns, 1) / profiles.deviation[usable, None])


def _groups(
    standard: npt.NDArray[np.float64],
) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Group profiles of the same tail weight; the leader of a group has the heaviest tail in it.

    The weight is ``κ = √Σ u⁴`` over the placed, standardised deviations u: 1 where one image
    carries all, ``1 / √n`` where n equal ones do. Profiles are also told apart by which way they
    are skewed: ``Σ u³`` above κ / 2, below −κ / 2, or between.
    """
    placed = standard[:, :-1]
    weight = np.sqrt((placed**4).sum(1))
    skew = (placed**3).sum(1)
    side = np.sign(skew) * (np.abs(skew) > weight / 2)
    bins = np.floor(np.log(_LIGHT + weight) / BIN)
    _, group = np.unique(np.stack([side, bins], 1), axis=0, return_inverse=True)
    group = group.reshape(-1)
    leaders = []
    for number in range(group.max() + 1):
        members = np.flatnonzero(group == number)
        leaders.append(int(members[weight[members].argmax()]))
    return leaders, group


class _Sample:
    """Random images and Gaussians that all groups share; both without their mean."""

    def __init__(
        self,
        images: npt.NDArray[np.float32],
        mean: npt.NDArray[np.float64],
        covariance: npt.NDArray[np.float64],
        placed: int,
    ) -> None:
        self._images, self._mean, self._placed = images, mean.astype(np.float32), placed
        self._root = self._mixture(covariance)

    def _mixture(self, covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Return a matrix A with AᵀA the covariance, so that ``g A`` is a draw of it."""
        number, dim = self._images.shape
        if number <= 4 * dim:  # cheaper than the decomposition
            return np.asarray((self._images - self._mean) / np.float32(np.sqrt(number - 1)))
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0))).T, np.float32)

    def draw(self, draws: int, generator: np.random.Generator) -> None:
        self._gauss = generator.standard_normal((draws, len(self._root)), np.float32) @ self._root
        chosen = [
            generator.choice(len(self._images), self._placed, replace=False) for _ in range(draws)
        ]
        self._places, rows = np.unique(np.concatenate(chosen), return_inverse=True)
        self._rows = rows.reshape(draws, self._placed)
        self._shown = self._images[self._places] - self._mean

    def vectors(self, profile: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Return v of each draw for one standardised profile: ``(draws, dim)``."""
        from scipy.sparse import csr_matrix

        draws = len(self._rows)
        weights = np.tile(profile[: self._placed].astype(np.float32), draws)
        starts = np.arange(draws + 1) * self._placed
        shape = (draws, len(self._places))
        found = self._gauss * np.float32(profile[self._placed])
        found += csr_matrix((weights, self._rows.ravel(), starts), shape=shape) @ self._shown
        return np.asarray(found)


def _directions(
    concepts: npt.NDArray[np.float32], second: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Return ``t_m / ‖P_m‖``; 0 where a concept scores 0 on every image."""
    texts = concepts.astype(np.float64)
    norms = np.sqrt(np.maximum(((texts @ second) * texts).sum(1), 0))
    floor = 1e-7 * np.linalg.norm(texts, axis=1) * np.sqrt(np.trace(second))
    scale = np.where(norms > floor, norms, np.inf)
    return (texts / scale[:, None]).astype(np.float32)


def _largest(
    vectors: npt.NDArray[np.float32],
    directions: npt.NDArray[np.float32],
    shift: npt.NDArray[np.float32] | None,
    levels: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """``max_m (v · t_m / ‖P_m‖ + level · shift_m)`` in blocks of concepts: ``(units, draws)``, or
    ``(1, draws)`` without a shift."""
    from neuronym.dissect.null_kernel import largest_shifted

    shape = (1 if shift is None else len(levels), len(vectors))
    best = np.full(shape, -np.inf, np.float32)
    step = block_length(4 * len(vectors), len(directions))
    for start in range(0, len(directions), step):
        scores = vectors @ directions[start : start + step].T
        if shift is None:
            np.maximum(best, scores.max(1), out=best)
        else:
            part = shift[start : start + step]
            largest_shifted(scores, part, levels.astype(np.float32), best)
    return best
