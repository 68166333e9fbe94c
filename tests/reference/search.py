"""Literal float64 twins of searching: slow, and by the definitions."""

from __future__ import annotations

import numpy as np


def correlations(activations: np.ndarray, embeddings: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each unit with each text's dot products; 0 for constants."""
    q, images = activations.astype(np.float64), embeddings.astype(np.float64)
    found = np.zeros((q.shape[1], len(texts)))
    for unit in range(q.shape[1]):
        for number, text in enumerate(texts.astype(np.float64)):
            scores = np.array([sum(image * text) for image in images])
            left, right = q[:, unit] - q[:, unit].mean(), scores - scores.mean()
            length = np.sqrt((left**2).sum() * (right**2).sum())
            if length > 1e-9:
                found[unit, number] = (left * right).sum() / length
    return found


def permuted_share(
    activations: np.ndarray, scores: np.ndarray, *, draws: int, rng: np.random.Generator
) -> float:
    """Share of permutations of the images whose correlation reaches the one that was found."""
    q, scores = activations - activations.mean(), scores - scores.mean()
    observed = q @ scores
    reached = sum(rng.permutation(q) @ scores >= observed - 1e-12 for _ in range(draws))
    return (1 + reached) / (1 + draws)


def false_discovery(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg by hand: ``min over p_j ≥ p of K p_j / rank(p_j)``."""
    return np.array([min(min(1.0, len(p) * b / (p <= b).sum()) for b in p if b >= a) for a in p])
