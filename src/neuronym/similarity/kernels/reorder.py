"""The loop of rank reorder: no sort per pair of unit and concept.

Each concept's order of all images is found once, by a stable radix sort. For a unit, the ranks of
its top images are marked in a bitmap; the number of marks before a rank, from running counts and
one population count, is the place among the unit's own images.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from neuronym.spread import spread

__all__ = ["reordered_errors"]

_FLAGS = {"contract", "nsz", "arcp", "reassoc"}
_BITS = 11
_BUCKETS = 1 << _BITS
_TOGETHER = 4  # concepts that share one reading of the units
_SIGN = np.uint32(0x80000000)
_FULL = np.uint32(0xFFFFFFFF)
_ZERO = np.float32(0.0)
_1 = np.uint64(1)
_63 = np.uint64(63)
_M1 = np.uint64(0x5555555555555555)
_M2 = np.uint64(0x3333333333333333)
_M4 = np.uint64(0x0F0F0F0F0F0F0F0F)
_H01 = np.uint64(0x0101010101010101)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]


@numba.njit(nogil=True, cache=True)
def _population(x: np.uint64) -> Any:
    """Return the number of ones; compilers know this as one instruction."""
    x = x - ((x >> _1) & _M1)
    x = (x & _M2) + ((x >> np.uint64(2)) & _M2)
    x = (x + (x >> np.uint64(4))) & _M4
    return (x * _H01) >> np.uint64(56)


@numba.njit(nogil=True, cache=True)
def _rank(scores: Floats, ranks: Ints, keys: np.ndarray, orders: np.ndarray) -> None:
    """Write each image's rank by descending score, the lower index first among equals."""
    images = len(scores)
    counts = np.zeros((3, _BUCKETS), np.int64)
    mask = np.uint32(_BUCKETS - 1)
    values = keys[2].view(np.float32)
    for i in range(images):
        values[i] = scores[i] + _ZERO  # minus zero equals zero
    for i in range(images):
        bits = keys[2, i]
        # Ascending keys for descending values: of a positive number all but the sign turn over.
        key = bits if bits & _SIGN else np.uint32(~(bits ^ _SIGN))
        keys[0, i] = key
        orders[0, i] = i
        counts[0, key & mask] += 1
        counts[1, (key >> np.uint32(_BITS)) & mask] += 1
        counts[2, key >> np.uint32(2 * _BITS)] += 1
    for turn in range(3):
        source, target = turn % 2, 1 - turn % 2
        shift = np.uint32(turn * _BITS)
        total = 0
        for bucket in range(_BUCKETS):
            before = counts[turn, bucket]
            counts[turn, bucket] = total
            total += before
        for i in range(images):
            key = keys[source, i]
            bucket = (key >> shift) & mask
            place = counts[turn, bucket]
            counts[turn, bucket] = place + 1
            keys[target, place] = key
            orders[target, place] = orders[source, i]
    for i in range(images):
        ranks[orders[1, i]] = i


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _pair(
    images: Ints,
    own: Floats,
    largest: Floats,
    ranks: Ints,
    scores: Floats,
    marks: np.ndarray,
    before: Ints,
    power: float,
) -> tuple[float, float]:
    """Return the error and the sum of the concept's scores for one unit and concept."""
    count = len(images)
    marks[:] = np.uint64(0)
    strength = 0.0
    for j in range(count):
        image = images[j]
        rank = np.uint64(ranks[image])
        marks[rank >> np.uint64(6)] |= _1 << (rank & _63)
        strength += scores[image]
    total = np.int32(0)
    for word in range(len(marks)):
        before[word] = total
        total += np.int32(_population(marks[word]))
    error = 0.0
    for j in range(count):
        rank = np.uint64(ranks[images[j]])
        word = rank >> np.uint64(6)
        lower = marks[word] & ((_1 << (rank & _63)) - _1)
        difference = abs(largest[before[word] + np.int64(_population(lower))] - own[j])
        if power == 3.0:
            error += difference * difference * difference
        elif power == 2.0:
            error += difference * difference
        else:
            error += difference**power
    return error, strength


@numba.njit(nogil=True, cache=True)
def _fill(
    scores: Floats,
    images: Ints,
    own: Floats,
    largest: Floats,
    power: float,
    errors: Doubles,
    strengths: Doubles,
    first: int,
    last: int,
) -> None:
    width = scores.shape[1]
    keys = np.empty((3, width), np.uint32)
    orders = np.empty((2, width), np.int32)
    ranks = np.empty((_TOGETHER, width), np.int32)
    marks = np.empty((width + 63) // 64, np.uint64)
    before = np.empty(len(marks), np.int32)
    for start in range(first, last, _TOGETHER):
        together = min(_TOGETHER, last - start)
        for c in range(together):
            _rank(scores[start + c], ranks[c], keys, orders)
        for unit in range(len(images)):
            for c in range(together):
                errors[unit, start + c], strengths[unit, start + c] = _pair(
                    images[unit],
                    own[unit],
                    largest[unit],
                    ranks[c],
                    scores[start + c],
                    marks,
                    before,
                    power,
                )


def reordered_errors(
    scores: Floats, images: Ints, own: Floats, largest: Floats, *, power: float
) -> tuple[Doubles, Doubles]:
    """Sum the errors of each unit's top activations in the order of each concept.

    Args:
        scores: ``(concepts, images)``.
        images: ``(units, n)`` the top images of each unit, ascending.
        own: ``(units, n)`` their activations.
        largest: ``(units, n)`` the same activations, descending.
        power: Exponent of the differences.

    Returns:
        ``(units, concepts)`` sums of ``|largest[place of the image by score] − own|^power``, and
        ``(units, concepts)`` sums of the scores of the images.
    """
    errors = np.empty((len(images), len(scores)))
    strengths = np.empty_like(errors)

    def run(first: int, last: int) -> None:
        _fill(scores, images, own, largest, power, errors, strengths, first, last)

    spread(run, len(scores))
    return errors, strengths
