"""The loops of WPMI and SoftWPMI: softmax over concepts, and products of a unit's terms.

A sum of logarithms is kept as the product of the terms, a float32 from 1 to 2 times a power of
two: no logarithm is taken until all images have been seen.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from neuronym.similarity.kernels.spread import spread

__all__ = ["TILE", "exponentials", "information", "multiply", "normaliser"]

TILE = 256
_NARROW = 32
_LN2 = math.log(2.0)
_FLAGS = {"contract", "nsz", "arcp", "reassoc"}
_LOG2_E = np.float32(1.4426950408889634)
_LEAST = np.float32(-125.0)  # 2 to this is a normal number
# 2^f for f from −½ to ½ by its Taylor series, relative error below 1e-8 before rounding.
_E0 = np.float32(1.0)
_E1 = np.float32(0.6931471805599453)
_E2 = np.float32(0.2402265069591007)
_E3 = np.float32(0.0555041086648216)
_E4 = np.float32(0.0096181291076285)
_E5 = np.float32(0.0013333558146428)
_E6 = np.float32(0.0001540353039338)
_E7 = np.float32(0.0000152527338041)
_ONE_BITS = np.int32(127 << 23)
_MANTISSA = np.int32(23)
_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _exponential(row: Floats, shift: np.float32, power_bits: Ints, power: Floats) -> float:
    """``row = exp(row − shift)``; return the sum."""
    width = len(row)
    for j in range(width):
        scaled = max((row[j] - shift) * _LOG2_E, _LEAST)
        whole = np.int32(np.floor(scaled + _HALF))
        f = scaled - np.float32(whole)
        g = _E7 * f + _E6
        g = g * f + _E5
        g = g * f + _E4
        g = g * f + _E3
        g = g * f + _E2
        g = g * f + _E1
        row[j] = g * f + _E0
        power_bits[j] = _ONE_BITS + (whole << _MANTISSA)
    part = _ZERO
    for j in range(width):
        row[j] *= power[j]
        part += row[j]
    return float(part)


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _rows_alone(scores: Floats, sums: Doubles, first: int, last: int) -> None:
    concepts = scores.shape[1]
    power = np.empty(TILE, np.float32)
    bits = power.view(np.int32)
    for i in range(first, last):
        row = scores[i]
        largest = row[0]
        alien = _ZERO
        for j in range(concepts):
            largest = max(largest, row[j])
            alien += row[j] * _ZERO
        total = np.float64(alien)  # NaN where a score is NaN or infinite
        for start in range(0, concepts, TILE):
            width = min(TILE, concepts - start)
            part = row[start : start + width]
            total += _exponential(part, largest, bits[:width], power[:width])
        sums[i] = total


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _rows_shifted(scores: Floats, shifts: Floats, first: int, last: int) -> None:
    concepts = scores.shape[1]
    power = np.empty(TILE, np.float32)
    bits = power.view(np.int32)
    for i in range(first, last):
        for start in range(0, concepts, TILE):
            width = min(TILE, concepts - start)
            part = scores[i, start : start + width]
            _exponential(part, shifts[i], bits[:width], power[:width])


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _log_sums(scores: Floats, totals: Doubles, first: int, last: int) -> None:
    concepts = scores.shape[1]
    power = np.empty(TILE, np.float32)
    bits = power.view(np.int32)
    for i in range(first, last):
        row = scores[i]
        largest = row[0]
        alien = _ZERO
        for j in range(concepts):
            largest = max(largest, row[j])
            alien += row[j] * _ZERO
        total = np.float64(alien)
        for start in range(0, concepts, TILE):
            width = min(TILE, concepts - start)
            part = row[start : start + width]
            total += _exponential(part, largest, bits[:width], power[:width])
        block = np.float64(largest) + math.log(total)
        if totals[i] < block:
            totals[i] = block + math.log1p(math.exp(totals[i] - block))
        else:  # also where either is NaN, which stays
            totals[i] += math.log1p(math.exp(block - totals[i]))


def exponentials(scores: Floats, shifts: Floats | None) -> Doubles | None:
    """Replace each row of scores by its exponentials, in place.

    Args:
        scores: ``(images, concepts)``.
        shifts: ``(images,)`` what is subtracted first; ``None`` subtracts each row's largest.

    Returns:
        ``(images,)`` sums of the rows' exponentials where ``shifts`` is ``None``; NaN where a
        score is NaN or infinite.
    """
    if shifts is not None:
        given = shifts
        spread(lambda first, last: _rows_shifted(scores, given, first, last), len(scores))
        return None
    sums = np.empty(len(scores), np.float64)
    spread(lambda first, last: _rows_alone(scores, sums, first, last), len(scores))
    return sums


def normaliser(scores: Floats, totals: Doubles) -> None:
    """Add ``Σ_m exp(scores[i, m])`` to what ``totals`` is the logarithm of; destroys ``scores``.

    Args:
        scores: ``(images, concepts)``.
        totals: ``(images,)``, minus infinity at first; NaN where a score is NaN or infinite.
    """
    spread(lambda first, last: _log_sums(scores, totals, first, last), len(scores))


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _renormalise(part: Floats, bits: Ints, powers: Ints) -> None:
    """Bring each product to 1 … 2 and add its exponent to the powers."""
    for j in range(len(part)):
        exponent = (bits[j] - _ONE_BITS) >> _MANTISSA
        bits[j] -= exponent << _MANTISSA
        powers[j] += exponent


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _multiply(
    table: Floats,
    starts: Longs,
    rows: Ints,
    weights: Floats,
    floors: Floats,
    flush: int,
    products: Floats,
    powers: Ints,
    first: int,
    last: int,
) -> None:
    """Multiply the products of all units by their terms, for some concepts."""
    held = np.empty(TILE, np.float32)
    bits = held.view(np.int32)
    for start in range(first, last, TILE):
        width = min(TILE, last - start)
        part = held[:width]
        for unit in range(len(starts) - 1):
            entry, end = starts[unit], starts[unit + 1]
            if entry == end:
                continue
            out = products[unit, start : start + width]
            exponents = powers[unit, start : start + width]
            for j in range(width):
                part[j] = out[j]
            since = 0
            while entry < end:
                if end - entry >= 4 and flush >= 4:
                    a = table[rows[entry], start : start + width]
                    b = table[rows[entry + 1], start : start + width]
                    c = table[rows[entry + 2], start : start + width]
                    d = table[rows[entry + 3], start : start + width]
                    wa, wb = weights[entry], weights[entry + 1]
                    wc, wd = weights[entry + 2], weights[entry + 3]
                    fa, fb = floors[entry], floors[entry + 1]
                    fc, fd = floors[entry + 2], floors[entry + 3]
                    for j in range(width):
                        left = (fa + wa * a[j]) * (fb + wb * b[j])
                        part[j] *= left * ((fc + wc * c[j]) * (fd + wd * d[j]))
                    entry += 4
                    since += 4
                else:
                    a = table[rows[entry], start : start + width]
                    wa, fa = weights[entry], floors[entry]
                    for j in range(width):
                        part[j] *= fa + wa * a[j]
                    entry += 1
                    since += 1
                if since + 4 > flush:
                    _renormalise(part, bits[:width], exponents)
                    since = 0
            if since > 0:
                _renormalise(part, bits[:width], exponents)
            for j in range(width):
                out[j] = part[j]


def multiply(
    table: Floats,
    entries: tuple[Longs, Ints, Floats, Floats],
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
    starts, rows, weights, floors = entries
    tile = TILE

    def run(first: int, last: int) -> None:
        _multiply(table, starts, rows, weights, floors, flush, products, powers, first, last)

    spread(run, table.shape[1], unit=tile)


@numba.njit(nogil=True, cache=True)
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
    held = np.empty((units, _NARROW))
    largest = np.empty(_NARROW)
    total = np.empty(_NARROW)
    for start in range(first, last, _NARROW):
        width = min(_NARROW, last - start)
        largest[:] = -np.inf
        total[:] = 0.0
        for unit in range(units):
            factor = factors[unit]
            for j in range(width):
                power = np.float64(powers[unit, start + j])
                value = factor * (math.log(np.float64(products[unit, start + j])) + power * _LN2)
                held[unit, j] = value
                if factor > 0.0:
                    largest[j] = max(largest[j], value)
        for unit in range(units):
            if factors[unit] > 0.0:
                for j in range(width):
                    total[j] += math.exp(held[unit, j] - largest[j])
        for j in range(width):
            total[j] = prior_weight * (largest[j] + math.log(total[j] / usable))
        for unit in range(units):
            for j in range(width):
                value = held[unit, j] - total[j] if factors[unit] > 0.0 else 0.0
                products[unit, start + j] = value


def information(products: Floats, powers: Ints, factors: Doubles, *, prior_weight: float) -> None:
    """Replace the products of a site's units by ``log p(B_k | m) − λ log p(m)``, in float64.

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

    spread(run, products.shape[1], unit=_NARROW)
