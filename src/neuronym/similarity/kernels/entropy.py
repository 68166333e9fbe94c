"""The joint entropy of units and concepts."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from neuronym.similarity.kernels.elementary import FLAGS, logarithm
from neuronym.spread import spread

__all__ = ["joint_entropy"]

_TINY = np.float32(1e-37)
_IMAGES = 512


@numba.njit(nogil=True, cache=True, fastmath=FLAGS)
def _fill_entropy(units: np.ndarray, concepts: np.ndarray, out: np.ndarray) -> None:
    """Add ``−x ln x`` of ``x = q + p`` over the images, with a logarithm that vectorises."""
    images = units.shape[1]
    value = np.empty(_IMAGES, np.float32)
    for start in range(0, images, _IMAGES):
        width = min(_IMAGES, images - start)
        for unit in range(units.shape[0]):
            for concept in range(concepts.shape[0]):
                total = np.float32(0.0)
                for i in range(width):
                    value[i] = units[unit, start + i] + concepts[concept, start + i] + _TINY
                for i in range(width):
                    total += value[i] * logarithm(value[i])
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
