"""Fused loops over units: one pass over a batch updates all that a site counts.

Imported only when used, as numba takes a while to import.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from neuronym.record.sketches.histogram import FIRST, MANTISSA_SHIFT, PER_SIGN

__all__ = ["Rows", "Tables", "fill", "insert", "order"]

_TILE = 16
_FIRST = np.int32(FIRST)
_LAST = np.int32(PER_SIGN - 1)
_SHIFT = np.int32(MANTISSA_SHIFT)
_MAGNITUDE = np.int32(0x7FFFFFFF)


class Rows(NamedTuple):
    """A batch: values ``(images, units)`` float32, priorities and keys ``(images,)``."""

    values: np.ndarray
    priorities: np.ndarray
    keys: np.ndarray


class Tables(NamedTuple):
    """What a site counts per unit; see ``neuronym.record.sketches.tables``."""

    sums: np.ndarray
    squares: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    at_minimum: np.ndarray
    fired: np.ndarray
    histogram: np.ndarray
    top_values: np.ndarray
    top_priorities: np.ndarray
    top_keys: np.ndarray


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc"})
def _moments(row: np.ndarray, tables: Tables, unit: int) -> None:
    """Sums, extremes and the number of images above zero."""
    total, square, fired = 0.0, 0.0, 0
    for i in range(len(row)):
        value = np.float64(row[i])
        total += value
        square += value * value
        fired += row[i] > np.float32(0)
    tables.sums[unit] += total
    tables.squares[unit] += square
    tables.fired[unit] += fired
    low, high = row[0], row[0]
    for i in range(1, len(row)):
        low = min(low, row[i])
        high = max(high, row[i])
    tables.maximum[unit] = max(tables.maximum[unit], high)
    if low > tables.minimum[unit]:
        return
    if low < tables.minimum[unit]:
        tables.minimum[unit], tables.at_minimum[unit] = low, 0
    lowest = 0
    for i in range(len(row)):
        lowest += row[i] == low
    tables.at_minimum[unit] += lowest


@numba.njit(nogil=True, cache=True)
def _count(row: np.ndarray, histogram: np.ndarray) -> None:
    """Add one to the bucket of each value."""
    bits = row.view(np.int32)
    for i in range(len(row)):
        magnitude = bits[i] & _MAGNITUDE
        if magnitude == 0:
            histogram[PER_SIGN] += 1
        else:
            step = 1 + min(max((magnitude >> _SHIFT) - _FIRST, 0), _LAST)
            histogram[PER_SIGN + (step if bits[i] >= 0 else -step)] += 1


@numba.njit(nogil=True, cache=True)
def _sink(
    values: np.ndarray, priorities: np.ndarray, keys: np.ndarray, place: int, length: int
) -> None:
    """Restore the heap below a place: its worst image, the first to go, is at the root."""
    value, priority, key = values[place], priorities[place], keys[place]
    while True:
        child = 2 * place + 1
        if child >= length:
            break
        right = child + 1
        if right < length and (
            values[right] < values[child]
            or (values[right] == values[child] and priorities[right] > priorities[child])
        ):
            child = right
        if value < values[child] or (value == values[child] and priority > priorities[child]):
            break
        values[place], priorities[place], keys[place] = (
            values[child],
            priorities[child],
            keys[child],
        )
        place = child
    values[place], priorities[place], keys[place] = value, priority, key


@numba.njit(nogil=True, cache=True)
def _offer(
    row: np.ndarray, priorities: np.ndarray, keys: np.ndarray, tables: Tables, unit: int
) -> None:
    """Put each image that is better than the worst of the heap in its place."""
    held, held_priorities = tables.top_values[unit], tables.top_priorities[unit]
    held_keys = tables.top_keys[unit]
    worst = held[0]
    for i in range(len(row)):
        if row[i] < worst or (row[i] == worst and priorities[i] > held_priorities[0]):
            continue
        held[0], held_priorities[0], held_keys[0] = row[i], priorities[i], keys[i]
        _sink(held, held_priorities, held_keys, 0, len(held))
        worst = held[0]


@numba.njit(nogil=True, cache=True)
def fill(rows: Rows, tables: Tables, start: int, stop: int) -> None:
    """Update the tables of the units from ``start`` to ``stop`` with at least one image."""
    images = rows.values.shape[0]
    tile = np.empty((_TILE, images), np.float32)
    for first in range(start, stop, _TILE):
        width = min(_TILE, stop - first)
        for i in range(images):
            for j in range(width):
                tile[j, i] = rows.values[i, first + j]
        for j in range(width):
            _moments(tile[j], tables, first + j)
            _count(tile[j], tables.histogram[first + j])
            _offer(tile[j], rows.priorities, rows.keys, tables, first + j)


@numba.njit(nogil=True, cache=True)
def insert(rows: Rows, tables: Tables, start: int, stop: int) -> None:
    """Offer each unit images of its own; here all of ``rows`` is ``(units, images)``."""
    for unit in range(start, stop):
        _offer(rows.values[unit], rows.priorities[unit], rows.keys[unit], tables, unit)


@numba.njit(nogil=True, cache=True)
def order(
    values: np.ndarray, priorities: np.ndarray, keys: np.ndarray, start: int, stop: int
) -> None:
    """Sort the heaps of units in place, best image first."""
    for unit in range(start, stop):
        for last in range(values.shape[1] - 1, 0, -1):
            held, own, named = values[unit], priorities[unit], keys[unit]
            held[0], held[last] = held[last], held[0]
            own[0], own[last] = own[last], own[0]
            named[0], named[last] = named[last], named[0]
            _sink(held, own, named, 0, last)


@numba.njit(nogil=True, cache=True)
def _ones(word: Any) -> Any:
    """Count the set bits of a word."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + (
        (word >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@numba.njit(nogil=True, cache=True)
def compete(
    values: np.ndarray,
    candidates: np.ndarray,
    image_winners: np.ndarray,
    together: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Count image winners and pairs that are above zero together, in blocks start to stop.

    ``values`` and ``candidates`` are ``(images, blocks · competitors)``.
    """
    images, competitors = values.shape[0], together.shape[1]
    words = np.empty((competitors, (images + 63) // 64), np.uint64)
    for block in range(start, stop):
        words[:] = 0
        first = block * competitors
        for i in range(images):
            best = -1
            for u in range(competitors):
                value = values[i, first + u]
                if value > np.float32(0):
                    words[u, i >> 6] |= np.uint64(1) << np.uint64(i & 63)
                if candidates[i, first + u] and (best < 0 or value > values[i, first + best]):
                    best = u
            if best >= 0:
                image_winners[first + best] += 1
        for u in range(competitors):
            for v in range(u, competitors):
                pairs = 0
                for word in range(words.shape[1]):
                    pairs += _ones(words[u, word] & words[v, word])
                together[block, u, v] += pairs
                if v > u:
                    together[block, v, u] += pairs
