"""The loops of WPMI and SoftWPMI: softmax over concepts, and products of a unit's terms.

A sum of logarithms is kept as the product of the terms, a float32 from 1 to 2 times a power of
two: no logarithm is taken until all images have been seen. Tiles of a few concepts and all
images of a chunk are copied together, so that the products run inside a processor's cache.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from neuronym.similarity.kernels.elementary import (
    FLAGS,
    MANTISSA,
    ONE_BITS,
    exponential,
    logarithm,
)
from neuronym.spread import spread

__all__ = ["TILE", "accumulate", "inform", "information", "multiply"]

TILE = 128
"""Concepts of a tile; all images' chances of a tile lie together."""

_AHEAD = 32  # rows that are copied before they are worked on: their cache misses overlap
_LN2 = math.log(2.0)
_ZERO = np.float32(0.0)
_ONE = np.float32(1.0)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Entries = tuple[Longs, Ints, Floats, Floats]


@numba.njit(nogil=True, cache=True, fastmath=FLAGS)
def _terms(
    table: Floats,
    starts: Longs,
    rows: Ints,
    weights: Floats,
    floors: Floats,
    flush: int,
    products: Floats,
    powers: Ints,
) -> None:
    """Multiply the products of all units by their terms, for the concepts of a tile."""
    width = products.shape[1]
    part = np.empty(TILE, np.float32)
    exponents = np.empty(TILE, np.int32)
    for unit in range(len(starts) - 1):
        entry, end = starts[unit], starts[unit + 1]
        if entry == end:
            continue
        part[:] = _ONE
        exponents[:] = 0
        for j in range(width):
            part[j] = products[unit, j]
        since = 0
        while entry < end:
            if end - entry >= 4 and flush >= 4:
                a, b = table[rows[entry]], table[rows[entry + 1]]
                c, d = table[rows[entry + 2]], table[rows[entry + 3]]
                wa, wb = weights[entry], weights[entry + 1]
                wc, wd = weights[entry + 2], weights[entry + 3]
                fa, fb = floors[entry], floors[entry + 1]
                fc, fd = floors[entry + 2], floors[entry + 3]
                for j in range(TILE):
                    left = (fa + wa * a[j]) * (fb + wb * b[j])
                    part[j] *= left * ((fc + wc * c[j]) * (fd + wd * d[j]))
                entry += 4
                since += 4
            else:
                a = table[rows[entry]]
                wa, fa = weights[entry], floors[entry]
                for j in range(TILE):
                    part[j] *= fa + wa * a[j]
                entry += 1
                since += 1
            if since + 4 > flush or entry == end:  # bring each product to 1 … 2
                for j in range(TILE):
                    bits = np.float32(part[j]).view(np.int32)
                    exponent = (bits - ONE_BITS) >> MANTISSA
                    part[j] = np.int32(bits - (exponent << MANTISSA)).view(np.float32)
                    exponents[j] += exponent
                since = 0
        for j in range(width):
            products[unit, j] = part[j]
            powers[unit, j] += exponents[j]


@numba.njit(nogil=True, cache=True, fastmath=FLAGS)
def _chances(
    scores: Floats,
    images: tuple[Longs, Floats, Floats],
    scale: np.float32,
    span: tuple[int, int],
    held: Floats,
    tile: Floats,
) -> None:
    """Fill a tile, ``(images, concepts)``, with the chances of a span of the concepts."""
    places, shifts, factors = images
    start, stop = span
    for first in range(0, len(places), _AHEAD):
        count = min(_AHEAD, len(places) - first)
        for r in range(count):
            row = scores[places[first + r], start:stop]
            for j in range(len(row)):
                held[r, j] = row[j]
        for r in range(count):
            shift, factor = shifts[first + r], factors[first + r]
            row, out = held[r], tile[first + r]
            for j in range(len(row)):
                out[j] = exponential(row[j] * scale - shift) * factor


@numba.njit(nogil=True, cache=True, fastmath=FLAGS)
def _accumulate(
    scores: Floats,
    images: tuple[Longs, Floats, Floats],
    scale: np.float32,
    entries: tuple[Longs, Ints, Floats, Floats],
    flush: int,
    found: tuple[Floats, Ints],
    span: tuple[int, int],
) -> None:
    starts, rows, weights, floors = entries
    products, powers = found
    tile = np.empty((len(images[0]), TILE), np.float32)
    held = np.zeros((_AHEAD, TILE), np.float32)
    for at in range(span[0], span[1], TILE):
        end = min(at + TILE, span[1])
        _chances(scores, images, scale, (at, end), held, tile)
        part = products[:, at:end], powers[:, at:end]
        _terms(tile, starts, rows, weights, floors, flush, part[0], part[1])


def accumulate(
    scores: Floats,
    images: tuple[Longs, Floats, Floats],
    entries: Entries,
    found: tuple[Floats, Ints],
    *,
    scale: float,
    flush: int,
) -> None:
    """Multiply each unit's products by ``floor + weight · P[row, m]`` for its entries.

    ``P[i, m] = factors[i] exp(scale · scores[places[i], m] − shifts[i])``.

    Args:
        scores: ``(any, concepts)``.
        images: ``(images,)`` each: places, shifts and factors.
        entries: ``(units + 1,)`` where each unit's entries start; then for each entry its row of
            P, its weight and its floor.
        found: ``(units, concepts)`` products, 1 to 2, and the same of their exponents of two.
        scale: Factor of the scores.
        flush: That many terms may be multiplied before a float32 comes near its underflow.
    """
    factor = np.float32(scale)

    def run(first: int, last: int) -> None:
        _accumulate(scores, images, factor, entries, flush, found, (first, last))

    spread(run, scores.shape[1], unit=TILE)


@numba.njit(nogil=True, cache=True)
def _multiply(
    table: Floats,
    entries: tuple[Longs, Ints, Floats, Floats],
    flush: int,
    products: Floats,
    powers: Ints,
    first: int,
    last: int,
) -> None:
    starts, rows, weights, floors = entries
    tile = np.zeros((len(table), TILE), np.float32)
    for at in range(first, last, TILE):
        end = min(at + TILE, last)
        tile[:, : end - at] = table[:, at:end]
        _terms(
            tile,
            starts,
            rows,
            weights,
            floors,
            flush,
            products[:, at:end],
            powers[:, at:end],
        )


def multiply(
    table: Floats,
    entries: Entries,
    products: Floats,
    powers: Ints,
    *,
    flush: int,
) -> None:
    """Multiply each unit's products by ``floor + weight · table[row, m]`` for its entries.

    Args:
        table: ``(images, concepts)``.
        entries: ``(units + 1,)`` where each unit's entries start; then for each entry its row of
            the table, its weight and its floor.
        products: ``(units, concepts)``, 1 to 2.
        powers: ``(units, concepts)`` exponents of two.
        flush: That many terms may be multiplied before a float32 comes near its underflow.
    """

    def run(first: int, last: int) -> None:
        _multiply(table, entries, flush, products, powers, first, last)

    spread(run, table.shape[1], unit=TILE)


@numba.njit(nogil=True, cache=True, fastmath=FLAGS)
def _information(
    products: Floats,
    powers: Ints,
    factors: Doubles,
    usable: int,
    prior_weight: float,
    first: int,
    last: int,
) -> None:
    units = len(factors)
    held = np.empty((units, TILE))
    largest = np.empty(TILE)
    total = np.empty(TILE)
    for start in range(first, last, TILE):
        width = min(TILE, last - start)
        largest[:] = -np.inf
        total[:] = 0.0
        for unit in range(units):
            factor = factors[unit]
            if factor == 0.0:
                continue
            value, log = held[unit, :width], products[unit, start : start + width]
            power = powers[unit, start : start + width]
            for j in range(width):
                value[j] = factor * (np.float64(logarithm(log[j])) + np.float64(power[j]) * _LN2)
            for j in range(width):
                largest[j] = max(largest[j], value[j])
        for unit in range(units):
            if factors[unit] > 0.0:
                value = held[unit, :width]
                for j in range(width):
                    total[j] += np.float64(exponential(np.float32(value[j] - largest[j])))
        for j in range(width):
            total[j] = prior_weight * (largest[j] + math.log(total[j] / usable))
        for unit in range(units):
            value, out = held[unit, :width], products[unit, start : start + width]
            if factors[unit] > 0.0:
                for j in range(width):
                    out[j] = np.float32(value[j] - total[j])
            else:
                out[:] = _ZERO


def information(products: Floats, powers: Ints, factors: Doubles, *, prior_weight: float) -> None:
    """Replace the products of a site's units by ``log p(B_k | m) − λ log p(m)``.

    Sums are float64; logarithms and exponentials have a relative error of about 1e-7.

    Args:
        products: ``(units, concepts)``, 1 to 2; overwritten.
        powers: ``(units, concepts)`` exponents of two.
        factors: ``(units,)`` factor of each unit's logarithms; 0 for a unit without evidence,
            which scores 0 and is no prior.
        prior_weight: λ.
    """
    usable = int((factors > 0).sum())
    if not usable:
        products[:] = 0
        return

    def run(first: int, last: int) -> None:
        _information(products, powers, factors, usable, prior_weight, first, last)

    spread(run, products.shape[1], unit=TILE)


@numba.njit(nogil=True, cache=True, fastmath=FLAGS)
def _inform(
    scores: Floats,
    images: tuple[Longs, Floats, Floats],
    scale: np.float32,
    entries: tuple[Longs, Ints, Floats, Floats],
    flush: int,
    sites: tuple[Longs, Doubles, Doubles],
    out: Floats,
    offset: int,
    span: tuple[int, int],
) -> None:
    starts, rows, weights, floors = entries
    bounds, factors, prior_weights = sites
    tile = np.empty((len(images[0]), TILE), np.float32)
    held = np.zeros((_AHEAD, TILE), np.float32)
    products = np.empty((len(factors), TILE), np.float32)
    powers = np.empty((len(factors), TILE), np.int32)
    for start in range(span[0], span[1], TILE):
        width = min(TILE, span[1] - start)
        _chances(scores, images, scale, (offset + start, offset + start + width), held, tile)
        products[:] = _ONE
        powers[:] = 0
        _terms(tile, starts, rows, weights, floors, flush, products, powers)
        for site in range(len(prior_weights)):
            first, last = bounds[site], bounds[site + 1]
            of_site = factors[first:last]
            usable = (of_site > 0.0).sum()
            if usable:
                _information(
                    products[first:last],
                    powers[first:last],
                    of_site,
                    usable,
                    prior_weights[site],
                    0,
                    width,
                )
            else:
                products[first:last] = _ZERO
        for unit in range(len(factors)):
            row = products[unit, :width]
            target = out[unit, start : start + width]
            for j in range(len(row)):
                target[j] = row[j]


def inform(
    scores: Floats,
    images: tuple[Longs, Floats, Floats],
    entries: Entries,
    sites: tuple[Longs, Doubles, Doubles],
    out: Floats,
    *,
    offset: int,
    scale: float,
    flush: int,
) -> None:
    """:func:`accumulate` of all images and :func:`information`, tile by tile.

    Args:
        scores: As in :func:`accumulate`.
        images: As there.
        entries: As there, of all images.
        sites: ``(sites + 1,)`` where the units of each site start, ``(units,)`` factor of each
            unit's logarithms, and ``(sites,)`` λ.
        out: ``(units, concepts)``, written.
        offset: The concept of ``scores`` that is the first one of ``out``.
        scale: As there.
        flush: As there.
    """
    factor = np.float32(scale)

    def run(first: int, last: int) -> None:
        _inform(scores, images, factor, entries, flush, sites, out, offset, (first, last))

    spread(run, out.shape[1], unit=TILE)
