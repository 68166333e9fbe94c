"""The joint entropy of units and concepts."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from neuronym.spread import spread

__all__ = ["joint_entropy"]

# ln(1 + f) = f − f²/2 + f³ g(f) for f from √½ − 1 to √2 − 1; g fitted by weighted least squares
# in a Chebyshev basis, relative error of the logarithm below 1e-8 before rounding.
_G0 = np.float32(0.333333283662796)
_G1 = np.float32(-0.2500082850456238)
_G2 = np.float32(0.20001445710659027)
_G3 = np.float32(-0.16623273491859436)
_G4 = np.float32(0.1419764757156372)
_G5 = np.float32(-0.13156946003437042)
_G6 = np.float32(0.12785537540912628)
_G7 = np.float32(-0.07670865207910538)
_LN2 = np.float32(0.6931471805599453)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_TINY = np.float32(1e-37)
_ROOT_HALF_BITS = np.int32(0x3F3504F3)
_MANTISSA = np.int32(23)
_IMAGES = 512


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz", "arcp", "reassoc"})
def _fill_entropy(units: np.ndarray, concepts: np.ndarray, out: np.ndarray) -> None:
    """Add ``−x ln x`` of ``x = q + p`` over the images, with a logarithm that vectorises."""
    images = units.shape[1]
    value = np.empty(_IMAGES, np.float32)
    value_bits = value.view(np.int32)
    mantissa = np.empty(_IMAGES, np.float32)
    mantissa_bits = mantissa.view(np.int32)
    for start in range(0, images, _IMAGES):
        width = min(_IMAGES, images - start)
        for unit in range(units.shape[0]):
            for concept in range(concepts.shape[0]):
                total = np.float32(0.0)
                for i in range(width):
                    value[i] = units[unit, start + i] + concepts[concept, start + i] + _TINY
                for i in range(width):
                    exponent = (value_bits[i] - _ROOT_HALF_BITS) >> _MANTISSA
                    mantissa_bits[i] = value_bits[i] - (exponent << _MANTISSA)
                    f = mantissa[i] - _ONE
                    g = _G7 * f + _G6
                    g = g * f + _G5
                    g = g * f + _G4
                    g = g * f + _G3
                    g = g * f + _G2
                    g = g * f + _G1
                    g = g * f + _G0
                    log = np.float32(exponent) * _LN2 + f + f * f * (f * g - _HALF)
                    total += value[i] * log
                out[unit, concept] -= np.float64(total)


def joint_entropy(units: Tensor, concepts: Tensor) -> Tensor:
    """``−Σ_i (q_ki + p_mi) ln(q_ki + p_mi)``; relative error of each term about 1e-7.

    Args:
        units: ``(units, images)`` float32 on the CPU, at least 0.
        concepts: ``(concepts, images)`` the same.

    Returns:
        ``(units, concepts)`` float64.
    """
    left = np.ascontiguousarray(units.numpy())
    right = np.ascontiguousarray(concepts.numpy())
    result = torch.zeros((len(left), len(right)), dtype=torch.float64)
    out = result.numpy()

    def run(first: int, last: int) -> None:
        _fill_entropy(left[first:last], right, out[first:last])

    spread(run, len(left))
    return result
