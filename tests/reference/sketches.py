"""Literal twins of the sketches: all activations at once, float64, one unit at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from neuronym.priority import priority

Array = npt.NDArray[Any]


def moments(activations: Array, embeddings: Array) -> dict[str, Array]:
    """``QᵀI``, ``Σq``, ``Σq²`` and the largest that their rounding could scale with."""
    q, e = activations.astype(np.float64), embeddings.astype(np.float64)
    units, dim = q.shape[1], e.shape[1]
    found = {"products": np.zeros((units, dim)), "sums": np.zeros(units)}
    found["squares"] = np.zeros(units)
    for unit in range(units):
        for d in range(dim):
            found["products"][unit, d] = math.fsum(q[:, unit] * e[:, d])
        found["sums"][unit] = math.fsum(q[:, unit])
        found["squares"][unit] = math.fsum(q[:, unit] ** 2)
    return found


def image_moments(embeddings: Array) -> dict[str, Array]:
    """``ΣI`` and ``IᵀI``."""
    e = embeddings.astype(np.float64)
    sums = [math.fsum(column) for column in e.T]
    products = [[math.fsum(left * right) for right in e.T] for left in e.T]
    return {"sums": np.array(sums), "products": np.array(products)}


def top(values: Array, keys: Array) -> list[tuple[float, int]]:
    """All images of one unit, ``(value, key)``: best first, lower priority first among equals."""
    ranks = priority(keys).tolist()
    order = sorted(range(len(values)), key=lambda i: (-float(values[i]), ranks[i], int(keys[i])))
    return [(float(values[i]), int(keys[i])) for i in order]


def counted(values: Array, keys: Array, top_k: int) -> list[int]:
    """The keys that count of one unit.

    An image counts if it is among the first ``top_k``, unless it lies at the lowest activation
    while another image there does not make the cut, or lies there too.
    """
    ordered = top(values, keys)
    lowest = min(value for value, _ in ordered)
    inside, outside = ordered[:top_k], ordered[top_k:]
    tied = any(value == lowest for value, _ in outside)
    tied |= not outside and sum(value == lowest for value, _ in ordered) > 1
    return [key for value, key in inside if not (tied and value == lowest)]


def bucket(value: float) -> int:
    """The bucket of one float32, by the logarithm."""
    if value == 0:
        return 320
    magnitude = abs(value)
    mantissa, exponent = math.frexp(magnitude)  # mantissa from ½ to 1
    step = 8 * (exponent - 1 + 20) + math.floor((2 * mantissa - 1) * 8)
    step = 1 + min(max(step, 0), 319)
    return 320 + (step if value > 0 else -step)


def histogram(values: Array) -> Array:
    """Counts of one unit's values over the 641 buckets."""
    counts = np.zeros(641, np.int64)
    for value in values.tolist():
        counts[bucket(value)] += 1
    return counts


def together(activations: Array, competitors: int) -> Array:
    """Images on which two competitors of a block are above zero, pair by pair."""
    units = activations.shape[1]
    found = np.zeros((units // competitors, competitors, competitors), np.int64)
    for row in activations:
        for u in range(units):
            for v in range(u - u % competitors, u - u % competitors + competitors):
                if row[u] > 0 and row[v] > 0:
                    found[u // competitors, u % competitors, v % competitors] += 1
    return found


def image_winners(activations: Array, candidates: Array, competitors: int) -> Array:
    """Images that each unit won: of a block's candidates the largest, the first of equals."""
    found = np.zeros(activations.shape[1], np.int64)
    for row, allowed in zip(activations, candidates, strict=True):
        for first in range(0, len(row), competitors):
            block = [u for u in range(first, first + competitors) if allowed[u]]
            if block:
                found[max(block, key=lambda u: (float(row[u]), -u))] += 1
    return found
