"""Texts against other words: is a text special to a unit, and does it mean anything at all?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.results import Evidence

__all__ = ["Compared", "compare"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

DIRECTIONS = 500
LEAST_WORDS = 10
_AT_ONCE = 256
_SAME = 1e-5


@dataclass(frozen=True, eq=False)
class Compared:
    """Texts, units and the background.

    Attributes:
        correlations: ``(units, texts)``.
        shares: ``(units, texts)`` share of other words that fit the unit at least as well.
        by_chance: ``(texts,)`` share of random directions whose best unit stands out as much.
    """

    correlations: Doubles
    shares: Doubles
    by_chance: Doubles


def compare(
    evidence: Evidence, sites: Sequence[str], texts: Floats, heard: npt.NDArray[np.bool_]
) -> Compared:
    """Compare texts with the background words and with directions that mean nothing.

    Args:
        evidence: Of the atlas.
        sites: Sites, whose units follow each other in the result.
        texts: ``(texts, dim)`` embeddings.
        heard: ``(units,)`` the units that count for ``by_chance``.
    """
    found = _correlations(evidence, sites, evidence.directions(texts))
    reached = np.zeros(found.shape, np.int64)
    totals, squares = np.zeros(len(found)), np.zeros(len(found))
    other = ~_same(evidence.background, texts)
    words, background = len(evidence.words), _narrow(evidence, evidence.background)
    for start in range(0, words, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        fits = _correlations(evidence, sites, background[part])
        totals += fits.sum(1)
        squares += (fits**2).sum(1)
        for row in range(len(texts)):
            reached[:, row] += (fits[:, other[part, row]] >= found[:, row, None]).sum(1)
    shares = reached / np.maximum(other.sum(0), 1)
    if words < LEAST_WORDS:
        return Compared(found, shares, np.zeros(len(texts)))
    mean = totals / words
    spread = np.sqrt(np.maximum(squares / words - mean**2, 0.0))
    best = _standing(found, mean, spread, heard)
    random = np.concatenate(
        [
            _standing(_correlations(evidence, sites, part), mean, spread, heard)
            for part in np.array_split(_narrow(evidence, _drawn(evidence.background)), 2)
        ]
    )
    return Compared(found, shares, (random[:, None] >= best).mean(0))


def _correlations(
    evidence: Evidence, sites: Sequence[str], directions: npt.NDArray[np.floating]
) -> Doubles:
    return np.concatenate([evidence.along(site, directions) for site in sites])


def _narrow(evidence: Evidence, texts: Floats) -> Floats:
    """Directions of many texts in float32, whose rounding moves no share that is worth telling."""
    return np.asarray(evidence.directions(texts), np.float32)


def _standing(
    correlations: Doubles, mean: Doubles, spread: Doubles, heard: npt.NDArray[np.bool_]
) -> Doubles:
    """``max_k r z`` over the units: how much the best one stands out, ``(texts,)``."""
    safe = np.where(spread > 0, spread, np.inf)
    z = (correlations - mean[:, None]) / safe[:, None]
    both = np.maximum(correlations, 0) * np.maximum(z, 0)
    return np.asarray(both[heard].max(0, initial=0.0))


def _drawn(background: Floats) -> Floats:
    """Draw directions with the mean and the covariance of the words: ``(directions, dim)``."""
    mean = background.mean(0)
    generator = np.random.default_rng(0)  # the same for every query
    weights = generator.standard_normal((DIRECTIONS, len(background)), np.float32)
    return np.asarray(mean + weights @ (background - mean) / np.sqrt(len(background)), np.float32)


def _same(words: Floats, texts: Floats) -> npt.NDArray[np.bool_]:
    """Whether a word is embedded in the direction of a text: ``(words, texts)``."""
    left, right = (
        each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-30)
        for each in (words.astype(np.float64), texts.astype(np.float64))
    )
    return np.asarray(left @ right.T > 1 - _SAME)
