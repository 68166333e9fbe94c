"""Exponentials, logarithms and the order of float32 numbers, in forms that make vector loops."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["FLAGS", "LN2", "MANTISSA", "ONE_BITS", "exponential", "logarithm", "ordered"]

FLAGS = {"contract", "nsz", "arcp", "reassoc"}
"""What a loop may do to sums and products; NaN and infinity stay what they are."""

LN2 = np.float32(0.6931471805599453)
MANTISSA = np.int32(23)
"""Bits of a float32's mantissa."""

ONE_BITS = np.int32(127 << 23)
"""The bits of 1."""

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
# ln(1 + f) = f − f²/2 + f³ g(f) for f from √½ − 1 to √2 − 1;
# g fitted by weighted least squares in a Chebyshev basis, relative error of the logarithm below
# 1e-8 before rounding.
_G0 = np.float32(0.333333283662796)
_G1 = np.float32(-0.2500082850456238)
_G2 = np.float32(0.20001445710659027)
_G3 = np.float32(-0.16623273491859436)
_G4 = np.float32(0.1419764757156372)
_G5 = np.float32(-0.13156946003437042)
_G6 = np.float32(0.12785537540912628)
_G7 = np.float32(-0.07670865207910538)
_ROOT_HALF_BITS = np.int32(0x3F3504F3)
_SIGN = np.int32(31)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)


@numba.njit(nogil=True, cache=True, fastmath=FLAGS)
def exponential(value: np.float32) -> np.float32:
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
        (g * f + _E0) * np.int32(ONE_BITS + (whole << MANTISSA)).view(np.float32)
    )
    return result


@numba.njit(nogil=True, cache=True, fastmath=FLAGS)
def logarithm(product: np.float32) -> np.float32:
    """Natural logarithm of a normal number above 0, relative error about 1e-7."""
    bits = np.float32(product).view(np.int32)
    exponent = (bits - _ROOT_HALF_BITS) >> MANTISSA
    f = np.int32(bits - (exponent << MANTISSA)).view(np.float32) - _ONE
    g = _G7 * f + _G6
    g = g * f + _G5
    g = g * f + _G4
    g = g * f + _G3
    g = g * f + _G2
    g = g * f + _G1
    g = g * f + _G0
    result: np.float32 = np.float32(np.float32(exponent) * LN2 + f + f * f * (f * g - _HALF))
    return result


@numba.njit(nogil=True, cache=True)
def ordered(bits: np.int32) -> np.int32:
    """Map the bits of float32 numbers to integers of the same order, and back."""
    result: np.int32 = np.int32(bits ^ ((bits >> _SIGN) & _MAGNITUDE))
    return result
