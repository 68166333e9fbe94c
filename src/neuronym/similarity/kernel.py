"""Fused loops for CPUs: the SoftWPMI sum and the joint entropy. Imported only when used."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from torch import Tensor

__all__ = ["joint_entropy", "soft_log_sum"]

_TILE = 512
_SAFE_LOG = 80.0  # a product of terms stays above exp(-80), far from float32's underflow


@numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz", "arcp", "reassoc"})
def _fill(
    probabilities: np.ndarray,
    indices: np.ndarray,
    counts: np.ndarray,
    weights: np.ndarray,
    floors: np.ndarray,
    flush: int,
    out: np.ndarray,
) -> None:
    """Multiply the terms of a unit and take the logarithm once per ``flush`` of them."""
    concepts = probabilities.shape[1]
    product = np.empty(_TILE, np.float32)
    total = np.empty(_TILE, np.float64)
    for start in range(0, concepts, _TILE):
        width = min(_TILE, concepts - start)
        for unit in range(indices.shape[0]):
            for j in range(width):
                product[j] = np.float32(1.0)
                total[j] = 0.0
            for rank in range(counts[unit]):
                row = probabilities[indices[unit, rank], start : start + width]
                weight = weights[rank]
                floor = floors[rank]
                for j in range(width):
                    product[j] *= floor + weight * row[j]
                if (rank + 1) % flush == 0:
                    for j in range(width):
                        total[j] += math.log(product[j])
                        product[j] = np.float32(1.0)
            for j in range(width):
                out[unit, start + j] = total[j] + math.log(product[j])


def soft_log_sum(
    probabilities: Tensor, indices: Tensor, counts: Tensor, weights: Tensor, epsilon: float
) -> Tensor:
    """``Σ_{r < counts[k]} log(1 − s_r + s_r P̃[i_r, m] + ε)`` in float32.

    The logarithm of a product of several terms replaces several logarithms. Units are spread
    over as many threads as torch uses.

    Args:
        probabilities: ``(images, concepts)`` float32 on the CPU, 0 to 1.
        indices: ``(units, top_k)`` int64 images, best first.
        counts: ``(units,)`` int64, how many of them count.
        weights: ``(top_k,)`` float32 s_r.
        epsilon: Added to every term.

    Returns:
        ``(units, concepts)`` float32.
    """
    table = np.ascontiguousarray(probabilities.numpy())
    exact = weights.double()
    floors = (1 - exact + epsilon).float().numpy()
    smallest = float((1 - exact + epsilon).min())
    flush = max(1, int(_SAFE_LOG / max(-math.log(smallest), 1e-3)))
    result = torch.empty((indices.shape[0], table.shape[1]), dtype=torch.float32)
    images, used, out = indices.numpy(), counts.numpy(), result.numpy()
    scale = weights.float().numpy()

    def run(rows: slice) -> None:
        _fill(table, images[rows], used[rows], scale, floors, flush, out[rows])

    _spread(run, len(used))
    return result


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

    def run(rows: slice) -> None:
        _fill_entropy(left[rows], right, out[rows])

    _spread(run, len(left))
    return result


def _spread(run: Callable[[slice], None], rows: int) -> None:
    """Run a loop that holds no lock over equal shares of the rows, one per torch thread."""
    threads = max(1, min(torch.get_num_threads(), rows))
    if threads == 1:
        run(slice(0, rows))
        return
    bounds = np.linspace(0, rows, threads + 1).astype(int)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda start, stop: run(slice(start, stop)), bounds[:-1], bounds[1:]))
