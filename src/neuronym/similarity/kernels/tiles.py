"""WPMI and SoftWPMI of a given matrix of scores, tile by tile of concepts.

A first pass over the rows finds each image's normaliser and writes nothing. A second one takes
a few hundred concepts at a time: their probabilities of all images go into tiles that stay in
the cache, where the terms of every unit are multiplied, the logarithm is taken once, and the
prior over the units is subtracted. Only the scores are written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from neuronym.similarity.kernels.spread import spread

__all__ = ["TileEntries", "row_normalisers", "tile_information"]

SUB = 64
"""Concepts of a tile."""
BLOCK = 512
"""Most concepts whose tiles are filled together, so that a row is read in long pieces."""
BUFFER_BYTES = 64 << 20
"""Most bytes of a thread's tiles, but for one tile at least."""

_FLAGS = {"contract", "nsz", "arcp", "reassoc"}
_LOG2_E = np.float32(1.4426950408889634)
_LEAST = np.float32(-125.0)
_HALF = np.float32(0.5)
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
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
_LN2 = 0.6931471805599453
_ROOT2 = 1.4142135623730951

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TileEntries:
    """The terms of every unit: ``floor + weight · P̃[row, m]``.

    Attributes:
        starts: ``(units + 1,)`` where each unit's terms start.
        rows: For each term its place among the needed images.
        weights: Its weight, float32.
        floors: Its floor, float32, above 0.
        factors: ``(units,)`` factor of each unit's logarithms; 0 for a unit without evidence.
        flush: That many terms may be multiplied before a float32 comes near its underflow.
    """

    starts: Longs
    rows: Ints
    weights: Floats
    floors: Floats
    factors: Doubles
    flush: int


@numba.njit(inline="always")
def _power(s: float) -> tuple[float, int]:
    """Return ``2^(s - n)`` and the whole number n nearest to s."""
    whole = np.floor(s + _HALF)
    f = s - whole
    g = _E7 * f + _E6
    g = g * f + _E5
    g = g * f + _E4
    g = g * f + _E3
    g = g * f + _E2
    g = g * f + _E1
    return g * f + _E0, np.int32(whole)


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _normalise(scores: Floats, scale: float, shifts: Floats, first: int, last: int) -> None:
    concepts = scores.shape[1]
    mantissa = np.empty(BLOCK, np.float32)
    power = np.empty(BLOCK, np.float32)
    bits = power.view(np.int32)
    k = np.float32(scale) * _LOG2_E
    for i in range(first, last):
        row = scores[i]
        largest = row[0]
        for j in range(concepts):
            largest = max(largest, row[j])
        largest = largest * k
        total = 0.0
        for start in range(0, concepts, BLOCK):
            width = min(BLOCK, concepts - start)
            for j in range(width):
                g, whole = _power(max(row[start + j] * k - largest, _LEAST))
                mantissa[j] = g
                bits[j] = _ONE_BITS + (whole << _MANTISSA)
            part = _ZERO
            for j in range(width):
                part += mantissa[j] * power[j]
            total += np.float64(part)
        shifts[i] = largest + np.float32(math.log2(total))


def row_normalisers(scores: Floats, scale: float) -> Floats:
    """Return ``log2 Σ_m exp(scale · scores[i, m])`` of each row: ``(images,)`` float32."""
    shifts = np.empty(len(scores), np.float32)
    spread(lambda first, last: _normalise(scores, scale, shifts, first, last), len(scores))
    return shifts


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _fill(
    scores: Floats,
    needed: Longs,
    k: np.float32,
    shifts: Floats,
    tiles: Floats,
    first: int,
    width: int,
) -> None:
    """Fill the tiles with ``exp`` of some concepts' normalised scores."""
    mantissa = np.zeros(BLOCK, np.float32)
    power = np.zeros(BLOCK, np.float32)
    bits = power.view(np.int32)
    for i in range(len(needed)):
        shift = shifts[i]
        row = scores[needed[i], first : first + width]
        for j in range(width):
            g, whole = _power(max(row[j] * k - shift, _LEAST))
            mantissa[j] = g
            bits[j] = _ONE_BITS + (whole << _MANTISSA)
        for tile in range(-(-width // SUB)):
            out = tiles[tile, i]
            for j in range(SUB):
                out[j] = mantissa[tile * SUB + j] * power[tile * SUB + j]


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _multiply(
    tile: Floats,
    starts: Longs,
    rows: Ints,
    weights: Floats,
    floors: Floats,
    flush: int,
    factors: Doubles,
    logs: Doubles,
) -> None:
    """``factor · Σ log(floor + weight · tile[row])`` of every unit: ``(units, SUB)``."""
    held = np.empty(SUB, np.float32)
    bits = held.view(np.int32)
    exponents = np.empty(SUB, np.int32)
    for unit in range(len(starts) - 1):
        entry, end = starts[unit], starts[unit + 1]
        for j in range(SUB):
            held[j] = _ONE
            exponents[j] = 0
        since = 0
        while entry < end:
            if end - entry >= 4 and flush >= 4:
                a, b = tile[rows[entry]], tile[rows[entry + 1]]
                c, d = tile[rows[entry + 2]], tile[rows[entry + 3]]
                wa, wb = weights[entry], weights[entry + 1]
                wc, wd = weights[entry + 2], weights[entry + 3]
                fa, fb = floors[entry], floors[entry + 1]
                fc, fd = floors[entry + 2], floors[entry + 3]
                for j in range(SUB):
                    left = (fa + wa * a[j]) * (fb + wb * b[j])
                    held[j] *= left * ((fc + wc * c[j]) * (fd + wd * d[j]))
                entry += 4
                since += 4
            else:
                a = tile[rows[entry]]
                wa, fa = weights[entry], floors[entry]
                for j in range(SUB):
                    held[j] *= fa + wa * a[j]
                entry += 1
                since += 1
            if since + 4 > flush or entry >= end:
                for j in range(SUB):
                    exponent = (bits[j] - _ONE_BITS) >> _MANTISSA
                    bits[j] -= exponent << _MANTISSA
                    exponents[j] += exponent
                since = 0
        out = logs[unit]
        factor = factors[unit]
        for j in range(SUB):  # log m = log √2 + 2 artanh((m − √2) / (m + √2)), m from 1 to 2
            m = np.float64(held[j])
            t = (m - _ROOT2) / (m + _ROOT2)
            square = t * t
            r = (2.0 / 13) * square + 2.0 / 11
            r = r * square + 2.0 / 9
            r = r * square + 2.0 / 7
            r = r * square + 2.0 / 5
            r = r * square + 2.0 / 3
            r = r * square + 2.0
            out[j] = factor * (r * t + (np.float64(exponents[j]) + 0.5) * _LN2)


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _prior(logs: Doubles, factors: Doubles, usable: int, prior: Doubles) -> None:
    """``log`` of the mean of ``exp(logs)`` over the units with evidence: ``(SUB,)``."""
    largest = np.full(SUB, -np.inf)
    value = np.empty(SUB)
    power = np.empty(SUB)
    bits = power.view(np.int64)
    prior[:] = 0.0
    for unit in range(len(factors)):
        if factors[unit] > 0:
            for j in range(SUB):
                largest[j] = max(largest[j], logs[unit, j])
    for unit in range(len(factors)):
        if factors[unit] > 0:
            row = logs[unit]
            for j in range(SUB):
                s = max((row[j] - largest[j]) / _LN2, -1000.0)
                whole = np.floor(s + 0.5)
                f = (s - whole) * _LN2
                r = f / 39916800 + 1.0 / 3628800
                r = r * f + 1.0 / 362880
                r = r * f + 1.0 / 40320
                r = r * f + 1.0 / 5040
                r = r * f + 1.0 / 720
                r = r * f + 1.0 / 120
                r = r * f + 1.0 / 24
                r = r * f + 1.0 / 6
                r = r * f + 0.5
                r = r * f + 1.0
                value[j] = r * f + 1.0
                bits[j] = (np.int64(whole) + np.int64(1023)) << np.int64(52)
            for j in range(SUB):
                prior[j] += value[j] * power[j]
    for j in range(SUB):
        prior[j] = largest[j] + math.log(prior[j] / usable)


@numba.njit(nogil=True, cache=True, fastmath=_FLAGS)
def _write(
    logs: Doubles, factors: Doubles, prior: Doubles, weight: float, out: Floats, first: int
) -> None:
    width = min(SUB, out.shape[1] - first)
    for unit in range(len(factors)):
        row = out[unit]
        for j in range(width):
            row[first + j] = logs[unit, j] - weight * prior[j] if factors[unit] > 0 else 0.0


def tile_information(
    scores: Floats, needed: Longs, scale: float, entries: TileEntries, *, prior_weight: float
) -> Floats:
    """``log p(B_k | m) − λ log p(m)`` of every unit and concept.

    Args:
        scores: ``(images, concepts)``, finite.
        needed: ``(needed,)`` images that are some unit's.
        scale: Factor of the scores.
        entries: The terms of the units.
        prior_weight: λ.

    Returns:
        ``(units, concepts)``; units without evidence score 0 and are no prior.
    """
    units, concepts = len(entries.factors), scores.shape[1]
    out = np.zeros((units, concepts), np.float32)
    usable = int((entries.factors > 0).sum())
    if not usable:
        return out
    shifts = row_normalisers(scores, scale)[needed]
    k = np.float32(scale) * _LOG2_E
    most = max(1, min(BLOCK // SUB, BUFFER_BYTES // (4 * SUB * len(needed))))

    def run(first: int, last: int) -> None:
        tiles = np.empty((most, len(needed), SUB), np.float32)
        logs, prior = np.empty((units, SUB)), np.empty(SUB)
        for start in range(first, last, most * SUB):
            width = min(most * SUB, last - start)
            _fill(scores, needed, k, shifts, tiles, start, width)
            for tile in range(-(-width // SUB)):
                _multiply(
                    tiles[tile],
                    entries.starts,
                    entries.rows,
                    entries.weights,
                    entries.floors,
                    entries.flush,
                    entries.factors,
                    logs,
                )
                _prior(logs, entries.factors, usable, prior)
                _write(logs, entries.factors, prior, prior_weight, out, start + tile * SUB)

    spread(run, concepts, unit=SUB)
    return out
