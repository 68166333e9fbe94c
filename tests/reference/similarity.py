"""Every similarity, slow and literal: float64, one unit, one concept, one image at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

Matrix = npt.NDArray[np.float64]


def cosine(activations: Matrix, scores: Matrix) -> Matrix:
    return _each_pair(activations, scores, _cosine_of)


def cosine_cubed(activations: Matrix, scores: Matrix) -> Matrix:
    def cubed(values: Sequence[float]) -> list[float]:
        if max(values) == min(values):
            return [0.0] * len(values)
        mean = math.fsum(values) / len(values)
        return [(value - mean) ** 3 for value in values]

    return _each_pair(activations, scores, lambda q, p: _cosine_of(cubed(q), cubed(p)))


def _cosine_of(q: Sequence[float], p: Sequence[float]) -> float:
    dot = math.fsum(a * b for a, b in zip(q, p, strict=True))
    norms = math.sqrt(math.fsum(a * a for a in q)) * math.sqrt(math.fsum(b * b for b in p))
    return dot / norms if norms else 0.0


def wpmi(
    activations: Matrix, scores: Matrix, *, top_k: int = 28, scale: float = 2.0, weight: float = 0.6
) -> Matrix:
    def log_likelihood(chances: list[float]) -> float:
        return sum(math.log(chance + 1e-7) for chance in chances)

    return _mutual_information(activations, scores, top_k, scale, weight, log_likelihood)


def soft_wpmi(
    activations: Matrix,
    scores: Matrix,
    *,
    top_k: int = 100,
    scale: float = 10.0,
    weight: float = 1.0,
    membership: tuple[float, float] = (0.998, 0.97),
) -> Matrix:
    def log_likelihood(chances: list[float]) -> float:
        total = 0.0
        for rank, chance in enumerate(chances):
            member = membership[0] - rank / top_k * (membership[0] - membership[1])
            total += math.log(1 + member * (chance - 1) + 1e-7)
        return total

    return _mutual_information(activations, scores, top_k, scale, weight, log_likelihood)


def _mutual_information(activations, scores, top_k, scale, weight, log_likelihood):
    images, concepts = scores.shape
    units = activations.shape[1]
    chance = np.empty((images, concepts))
    for i in range(images):
        powers = [math.exp(scale * (scores[i, m] - scores[i].max())) for m in range(concepts)]
        chance[i] = [power / sum(powers) for power in powers]
    likelihood = np.zeros((units, concepts))
    evident = []
    for k in range(units):
        chosen = top_images(list(activations[:, k]), top_k)
        if chosen:
            evident.append(k)
        for m in range(concepts):
            total = log_likelihood([chance[i, m] for i in chosen])
            likelihood[k, m] = total * top_k / len(chosen) if chosen else 0.0
    result = np.zeros((units, concepts))
    for m in range(concepts):
        largest = max((likelihood[k, m] for k in evident), default=0.0)
        mean = sum(math.exp(likelihood[k, m] - largest) for k in evident) / max(len(evident), 1)
        for k in evident:
            result[k, m] = likelihood[k, m] - weight * (largest + math.log(mean))
    return result


def priority(key: int) -> int:
    """splitmix64, in whole numbers."""
    mixed = (key + 0x9E3779B97F4A7C15) % 2**64
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    return mixed ^ (mixed >> 31)


def top_images(values: list[float], top_k: int, keys: Sequence[int] | None = None) -> list[int]:
    """The top images, equals by the priority of their keys; none that ties with the lowest."""
    keys = range(len(values)) if keys is None else keys
    order = sorted(range(len(values)), key=lambda i: (-values[i], priority(keys[i])))
    lowest = min(values)
    if top_k == len(values):
        shared = values.count(lowest) > 1
        return [i for i in order if values[i] > lowest or not shared]
    if values[order[top_k]] == lowest:
        return [i for i in order[:top_k] if values[i] > lowest]
    return order[:top_k]


def cosine_from_images(
    activations: Matrix, images: Matrix, texts: Matrix, *, centred: bool
) -> Matrix:
    """The cosine by sums over one image at a time; scores less their mean where ``centred``."""
    units, concepts = activations.shape[1], len(texts)
    result = np.zeros((units, concepts))
    for m in range(concepts):
        scores = [
            math.fsum(a * b for a, b in zip(image, texts[m], strict=True)) for image in images
        ]
        if centred:
            mean = math.fsum(scores) / len(scores)
            scores = [score - mean for score in scores]
        for k in range(units):
            result[k, m] = _cosine_of(list(activations[:, k]), scores)
    return result


def rank_reorder(
    activations: Matrix,
    scores: Matrix,
    *,
    top_fraction: float = 0.05,
    power: float = 3.0,
    score_power: float = 0.5,
    seed: int = 0,
) -> Matrix:
    images, units = activations.shape
    count = min(images, max(10, int(top_fraction * images)))
    generator = torch.Generator().manual_seed(seed)
    shuffles = [torch.randperm(count, generator=generator).tolist() for _ in range(5)]
    result = np.empty((units, scores.shape[1]))
    for k in range(units):
        top = sorted(range(images), key=lambda i, k=k: (-activations[i, k], i))[:count]
        own = [activations[i, k] for i in top]
        usual = sum(
            abs(own[j] - own[order[j]]) ** power for order in shuffles for j in range(count)
        ) / (5 * count)
        for m in range(scores.shape[1]):
            by_score = sorted(top, key=lambda i, m=m: (-scores[i, m], i))
            differences = [activations[by_score[j], k] - own[j] for j in range(count)]
            error = sum(abs(difference) ** power for difference in differences) / count
            error = error / usual if usual > 0 else 1.0
            strength = max(sum(scores[i, m] for i in top) / count, 1e-3)
            result[k, m] = -error / strength**score_power
    return result


def jensen_shannon(activations: Matrix, scores: Matrix, *, scale: float = 15.0) -> Matrix:
    def distribution(values: Sequence[float]) -> list[float]:
        powers = [math.exp(scale * (value - max(values))) for value in values]
        return [power / math.fsum(powers) for power in powers]

    def divergence(q: Sequence[float], p: Sequence[float]) -> float:
        fired = [max(value, 0.0) for value in q]
        if not math.fsum(fired):
            return -math.log(2)
        q = [value / math.fsum(fired) for value in fired]
        total = 0.0
        for a, b in zip(q, distribution(p), strict=True):
            middle = (a + b) / 2
            total += 0.5 * a * math.log(a / middle) if a else 0.0
            total += 0.5 * b * math.log(b / middle) if b else 0.0
        return -total

    return _each_pair(activations, scores, divergence)


def auroc(
    activations: Matrix,
    scores: Matrix,
    *,
    labels: npt.NDArray[np.bool_] | None = None,
    top_fraction: float = 0.05,
    min_images: int = 10,
) -> Matrix:
    count = max(min_images, round(top_fraction * len(scores)))

    def area(q: Sequence[float], present: Sequence[bool]) -> float:
        with_it = [value for value, there in zip(q, present, strict=True) if there]
        without = [value for value, there in zip(q, present, strict=True) if not there]
        if not with_it or not without:
            return 0.5
        wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in with_it for b in without)
        return wins / (len(with_it) * len(without))

    if labels is None:
        labels = np.array([column >= sorted(column)[-count] for column in scores.T]).T
    return _each_pair(activations, labels, area)


def _each_pair(activations, scores, function):
    return np.array(
        [
            [function(list(activations[:, k]), list(scores[:, m])) for m in range(scores.shape[1])]
            for k in range(activations.shape[1])
        ]
    )
