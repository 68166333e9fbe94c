"""The logarithm of the sum of a row's exponentials."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from neuronym.similarity.kernels.elementary import FLAGS, exponential, ordered
from neuronym.spread import spread

__all__ = ["log_sums"]

_ROW = 512
_ZERO = np.float32(0.0)

Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@numba.njit(nogil=True, cache=True)
def _largest(row: Floats) -> np.float32:
    """The largest number of a row; NaN counts as above all. Integers, for a loop of vectors."""
    bits = row.view(np.int32)
    high = ordered(bits[0])
    for j in range(len(bits)):
        high = max(high, ordered(bits[j]))
    result: np.float32 = np.int32(ordered(high)).view(np.float32)
    return result


@numba.njit(nogil=True, cache=True, fastmath=FLAGS)
def _log_sums(
    scores: Floats, rows: Longs, scale: np.float32, totals: Doubles, first: int, last: int
) -> None:
    concepts = scores.shape[1]
    for i in range(first, last):
        row = scores[rows[i]]
        largest = np.float32(-np.inf)
        total = 0.0
        for start in range(0, concepts, _ROW):
            part = row[start : min(start + _ROW, concepts)]
            high = _largest(part) * scale
            if high > largest:
                total *= math.exp(np.float64(largest) - np.float64(high))
                largest = high
            found = _ZERO
            for j in range(len(part)):  # NaN where a score is NaN or infinite
                found += exponential(part[j] * scale - largest) + part[j] * _ZERO
            total += np.float64(found)
        block = np.float64(largest) + math.log(total)
        if totals[i] < block:
            totals[i] = block + math.log1p(math.exp(totals[i] - block))
        else:  # also where either is NaN, which stays
            totals[i] += math.log1p(math.exp(block - totals[i]))


def log_sums(scores: Floats, rows: Longs, totals: Doubles, *, scale: float = 1.0) -> None:
    """Add ``Σ_m exp(scale · scores[rows[i], m])`` to what ``totals`` is the logarithm of.

    Args:
        scores: ``(any, concepts)``.
        rows: ``(images,)`` places among them.
        totals: ``(images,)``, minus infinity at first; NaN where a score is NaN or infinite.
        scale: Factor of the scores.
    """
    factor = np.float32(scale)
    spread(lambda first, last: _log_sums(scores, rows, factor, totals, first, last), len(rows))
