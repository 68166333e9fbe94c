"""The loop that finds each unit's top images: counts by leading bits, then a short sort."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from neuronym.similarity.kernels.elementary import ordered
from neuronym.spread import spread

__all__ = ["top"]

_UNITS = 16  # columns that are copied together: a line of the cache
_SHIFT = np.int32(20)  # sign, exponent and three bits of the mantissa are counted
_BUCKETS = 1 << 12
_MIDDLE = np.int32(_BUCKETS // 2)
_HALF = np.int64(32)
_ZERO = np.float32(0.0)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]


@numba.njit(nogil=True, cache=True)
def _cut(values: Ints, lowest: np.int32, count: int, buckets: Ints) -> np.int32:
    """Return a number such that at least ``count`` values above ``lowest`` reach it, if any do.

    Few more than that reach it, unless many share their leading bits.
    """
    buckets[:] = 0
    for i in range(len(values)):
        buckets[(values[i] >> _SHIFT) + _MIDDLE] += 1
    least = (lowest >> _SHIFT) + _MIDDLE
    found, bucket = 0, np.int32(_BUCKETS)
    while bucket > least and found < count:
        bucket -= np.int32(1)
        found += buckets[bucket]
    return max(np.int32((bucket - _MIDDLE) << _SHIFT), lowest)


@numba.njit(nogil=True, cache=True)
def _top(
    activations: Floats,
    ranks: Ints,
    images: Longs,
    found: tuple[Longs, Longs],
    span: tuple[int, int],
) -> None:
    places, counts = found
    length, top_k = len(activations), places.shape[1]
    tile = np.empty((_UNITS, length), np.int32)
    buckets = np.empty(_BUCKETS, np.int32)
    candidates = np.empty(length, np.int64)
    for first in range(span[0], span[1], _UNITS):
        width = min(_UNITS, span[1] - first)
        for i in range(length):
            for j in range(width):
                value = np.float32(activations[i, first + j] + _ZERO)  # −0 becomes 0
                tile[j, i] = ordered(value.view(np.int32))
        for j in range(width):
            values = tile[j]
            lowest = values.min()
            cut = _cut(values, lowest, top_k + 1, buckets)
            above = 0
            for i in range(length):
                if values[i] >= cut and values[i] > lowest:
                    candidates[above] = (~np.int64(values[i]) << _HALF) | np.int64(ranks[i])
                    above += 1
            best = np.sort(candidates[:above])[:top_k]
            for r in range(len(best)):
                places[first + j, r] = images[best[r] & np.int64(0xFFFFFFFF)]
            counts[first + j] = len(best)
            if above == length - 1 and top_k == length:  # one image alone is the lowest
                places[first + j, above] = values.argmin()
                counts[first + j] = length


def top(activations: Floats, priorities: npt.NDArray[np.uint64], top_k: int) -> tuple[Longs, Longs]:
    """Find each unit's top images; see :func:`neuronym.similarity.top_images`.

    Args:
        activations: ``(images, units)``, finite.
        priorities: ``(images,)``, all different; of equals the lower one comes first.
        top_k: From 1 to all images.

    Returns:
        ``(units, top_k)`` int64 rows of ``activations``, of which those that do not count are 0,
        and ``(units,)`` int64 how many count.
    """
    images = priorities.argsort()
    ranks = np.empty(len(images), np.int32)
    ranks[images] = np.arange(len(images), dtype=np.int32)
    units = activations.shape[1]
    found = np.zeros((units, top_k), np.int64), np.zeros(units, np.int64)
    spread(
        lambda first, last: _top(activations, ranks, images, found, (first, last)),
        units,
        unit=_UNITS,
    )
    return found
