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

from neuronym.spread import spread

__all__ = ["TILE", "accumulate", "information", "log_sums", "multiply"]

TILE = 128
"""Concepts of a tile; all images' chances of a tile lie together."""

_BLOCK = 128  # concepts that are read from each row at once
_ROW = 512
_LN2 = math.log(2.0)
_FLAGS = {"contract", "nsz", "arcp", "reassoc"}
_LOG2_E = np.float32(1.4426950408889634)
_LEAST = np.float32(-100.0)  # 2 to this stays a normal number when divided by a row's sum
# 2^f for f from −½ to ½ by its Taylor series, relative error below 1e-8 before rounding.
_E0 = np.float32(1.0)
_E1 = np.float32(0.6931471805599453)
_E2 = np.float32(0.2402265069591007)
_E3 = np.float32(0.0555041086648216)
_E4 = np.float32(0.0096181291076285)
_E5 = np.float32(0.0013333558146428)
_E6 = np.float32(0.0001540353039338)
_E7 = np.float32(0.0000152527338041)
# ln(1 + f) = f − f²/2 + f³ g(f) for f from √½ − 1 to √2 − 1, as in kernels/entropy.py.
_G0 = np.float32(0.333333283662796)
_G1 = np.float32(-0.2500082850456238)
_G2 = np.float32(0.20001445710659027)
_G3 = np.float32(-0.16623273491859436)
_G4 = np.float32(0.1419764757156372)
_G5 = np.float32(-0.13156946003437042)
_G6 = np.float32(0.12785537540912628)
_G7 = np.float32(-0.07670865207910538)
_ROOT_HALF_BITS = np.int32(0x3F3504F3)
_ONE_BITS = np.int32(127 << 23)
_MANTISSA = np.int32(23)
_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Entries = tuple[Longs, Ints, Floats, Floats]


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _exponential(value: np.float32) -> np.float32:
    """e to ``value``, which may be as low as it likes; not above 80."""
    scaled = max(value * _LOG2_E, _LEAST)
    whole = np.int32(np.floor(scaled + _HALF))
    f = scaled - np.float32(whole)
    g = _E7 * f + _E6
    g = g * f + _E5
    g = g * f + _E4
    g = g * f + _E3
    g = g * f + _E2
    g = g * f + _E1
    result: np.float32 = np.float32(
        (g * f + _E0) * np.int32(_ONE_BITS + (whole << _MANTISSA)).view(np.float32)
    )
    return result


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
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
            high = part[0] * scale
            alien = _ZERO
            for j in range(len(part)):
                high = max(high, part[j] * scale)
                alien += part[j] * _ZERO
            if high > largest:
                total *= math.exp(np.float64(largest) - np.float64(high))
                largest = high
            found = alien  # NaN where a score is NaN or infinite
            for j in range(len(part)):
                found += _exponential(part[j] * scale - largest)
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


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
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
                    exponent = (bits - _ONE_BITS) >> _MANTISSA
                    part[j] = np.int32(bits - (exponent << _MANTISSA)).view(np.float32)
                    exponents[j] += exponent
                since = 0
        for j in range(width):
            products[unit, j] = part[j]
            powers[unit, j] += exponents[j]


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _accumulate(
    scores: Floats,
    images: tuple[Longs, Floats, Floats],
    scale: np.float32,
    entries: tuple[Longs, Ints, Floats, Floats],
    flush: int,
    found: tuple[Floats, Ints],
    span: tuple[int, int],
) -> None:
    places, shifts, factors = images
    starts, rows, weights, floors = entries
    products, powers = found
    first, last = span
    tiles = np.zeros((_BLOCK // TILE, len(places), TILE), np.float32)
    for start in range(first, last, _BLOCK):
        stop = min(start + _BLOCK, last)
        for i in range(len(places)):
            shift, factor = shifts[i], factors[i]
            for at in range(start, stop, TILE):
                row = scores[places[i], at : min(at + TILE, stop)]
                out = tiles[(at - start) // TILE, i]
                for j in range(len(row)):
                    out[j] = _exponential(row[j] * scale - shift) * factor
        for at in range(start, stop, TILE):
            end = min(at + TILE, stop)
            _terms(
                tiles[(at - start) // TILE],
                starts,
                rows,
                weights,
                floors,
                flush,
                products[:, at:end],
                powers[:, at:end],
            )


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

    spread(run, scores.shape[1], unit=_BLOCK)


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


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _logarithm(product: np.float32) -> np.float32:
    """Natural logarithm of a number from 1 to 2."""
    bits = np.float32(product).view(np.int32)
    exponent = (bits - _ROOT_HALF_BITS) >> _MANTISSA
    f = np.int32(bits - (exponent << _MANTISSA)).view(np.float32) - _ONE
    g = _G7 * f + _G6
    g = g * f + _G5
    g = g * f + _G4
    g = g * f + _G3
    g = g * f + _G2
    g = g * f + _G1
    g = g * f + _G0
    result: np.float32 = np.float32(
        np.float32(exponent) * np.float32(_LN2) + f + f * f * (f * g - _HALF)
    )
    return result


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
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
    held = np.empty((units, _BLOCK))
    largest = np.empty(_BLOCK)
    total = np.empty(_BLOCK)
    for start in range(first, last, _BLOCK):
        width = min(_BLOCK, last - start)
        largest[:] = -np.inf
        total[:] = 0.0
        for unit in range(units):
            factor = factors[unit]
            if factor == 0.0:
                continue
            value, log = held[unit, :width], products[unit, start : start + width]
            power = powers[unit, start : start + width]
            for j in range(width):
                value[j] = factor * (np.float64(_logarithm(log[j])) + np.float64(power[j]) * _LN2)
            for j in range(width):
                largest[j] = max(largest[j], value[j])
        for unit in range(units):
            if factors[unit] > 0.0:
                value = held[unit, :width]
                for j in range(width):
                    total[j] += np.float64(_exponential(np.float32(value[j] - largest[j])))
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

    spread(run, products.shape[1], unit=_BLOCK)
