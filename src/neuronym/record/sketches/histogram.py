"""Histograms of float32 values over fixed buckets, eight per octave, and their quantiles.

A bucket is read off the bits of a float32: sign, exponent and the first three bits of the
mantissa. As the buckets never move, histograms merge by addition, exactly and in any order.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError

__all__ = ["BUCKETS", "PER_SIGN", "bucket_of", "centres", "quantiles", "smallest"]

LOWEST_EXPONENT = -20
HIGHEST_EXPONENT = 20
PER_OCTAVE = 8
MANTISSA_SHIFT = 20
"""Bits of the mantissa that a bucket does not see: 23 less the three it does."""

PER_SIGN = (HIGHEST_EXPONENT - LOWEST_EXPONENT) * PER_OCTAVE
BUCKETS = 2 * PER_SIGN + 1
"""Negative values from the largest to the smallest magnitude, zero, then positive ones."""

FIRST = (LOWEST_EXPONENT + 127) * PER_OCTAVE
"""The bits of ``2**LOWEST_EXPONENT``, shifted: where the positive buckets begin."""

_UNITS = 1024


def bucket_of(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return each value's bucket: ``PER_SIGN ± (1 + 8 (e + 20) + m)``, zero in ``PER_SIGN``.

    ``|value| = 2**e · (1 + (m + f) / 8)`` with whole e and m and ``0 ≤ f < 1``. A magnitude below
    ``2**-20`` counts in the first bucket of its sign, one from ``2**20`` on in the last.

    Args:
        values: float32 of any shape, finite.

    Returns:
        int64 of the same shape, 0 to ``BUCKETS - 1``; larger values never have lower buckets.
    """
    magnitude = np.abs(np.asarray(values, np.float32)).view(np.int32).astype(np.int64)
    step = 1 + np.clip((magnitude >> MANTISSA_SHIFT) - FIRST, 0, PER_SIGN - 1)
    signed = np.where(np.signbit(values), -step, step)
    return np.asarray(PER_SIGN + np.where(magnitude == 0, 0, signed), dtype=np.int64)


def centres() -> npt.NDArray[np.float64]:
    """Return the middle of every bucket, ``(BUCKETS,)``; increasing."""
    steps = np.arange(PER_SIGN)
    octave = np.ldexp(1.0, LOWEST_EXPONENT + steps // PER_OCTAVE)
    positive = octave * (1 + (steps % PER_OCTAVE + 0.5) / PER_OCTAVE)
    return np.concatenate([-positive[::-1], [0.0], positive])


def quantiles(
    histogram: npt.NDArray[np.int64],
    p: float,
    *,
    minimum: npt.NDArray[np.float32],
    maximum: npt.NDArray[np.float32],
) -> npt.NDArray[np.float64]:
    """Estimate the value below or at which a share ``p`` of each unit's values lie.

    This is the value of rank ``⌈p N⌉`` of N. It is off by at most 1/16 of the true value where
    that lies between ``2**-20`` and ``2**20`` in magnitude, and by at most ``2**-19`` below; from
    ``2**20`` on, only the minimum and the maximum are known. Ranks 1 and N are exact.

    Args:
        histogram: ``(units, BUCKETS)``, the same number of values N > 0 in every row.
        p: From 0 to 1.
        minimum: ``(units,)``.
        maximum: ``(units,)``.

    Returns:
        ``(units,)`` float64.

    Raises:
        InputError: ``p`` is not from 0 to 1, or there is no value yet.
    """
    if not 0 <= p <= 1:
        raise InputError(f"a quantile must be from 0 to 1, not {p!r}")
    total = int(histogram[0].sum())
    if total == 0:
        raise InputError("a quantile needs at least one image; this sketch has none")
    rank = min(total, max(1, math.ceil(p * total)))
    if rank == 1 or rank == total:
        return (minimum if rank == 1 else maximum).astype(np.float64)
    found = np.empty(len(histogram), np.int64)
    for start in range(0, len(histogram), _UNITS):
        below = histogram[start : start + _UNITS].cumsum(1)
        found[start : start + _UNITS] = (below >= rank).argmax(1)
    return np.clip(centres()[found], minimum.astype(np.float64), maximum.astype(np.float64))


def smallest(
    histogram: npt.NDArray[np.int64],
    count: int,
    *,
    minimum: npt.NDArray[np.float32],
    maximum: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Return the values of rank 1 to ``count`` of each unit, as :func:`quantiles` knows them.

    Args:
        histogram: ``(units, BUCKETS)``.
        count: At most the number of values.
        minimum: ``(units,)``.
        maximum: ``(units,)``.

    Returns:
        ``(units, count)`` float32, rising.

    Raises:
        InputError: There are fewer values.
    """
    total = int(histogram[0].sum())
    if not 0 <= count <= total:
        raise InputError(f"a histogram of {total} values has no {count} smallest")
    middle = centres()
    found = np.empty((len(histogram), count), np.float32)
    for unit, row in enumerate(histogram):
        filled = np.flatnonzero(row)
        found[unit] = middle[np.repeat(filled, np.minimum(row[filled], count))[:count]]
    np.clip(found, minimum[:, None], maximum[:, None], out=found)
    found[:, :1] = minimum[:, None]
    return found
