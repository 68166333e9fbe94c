"""A linear map of masked activations that reads only the winners' columns of its weight."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from neuronym.lwta import fused
from neuronym.lwta.handover import Winners
from neuronym.lwta.kernels import job as slots

__all__ = ["product"]

TASK_POSITIONS = 64  # a multiple of the kernel's TURN


def product(y: Tensor, won: Winners, columns: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``W y + bias``, adding up at each position ``y[winner] · W[:, winner]`` over blocks.

    Units that are neighbours in memory, other dtypes than float32 and other devices than the CPU
    go through ``embedding_bag``; planes of units (contiguous maps) have a kernel.

    Args:
        y: Masked activations, the units in dimension ``won.axis``: the last one, or dimension 1 of
            a map (images, units, height, width).
        won: Who won in ``y``.
        columns: ``(units, outputs)``, contiguous: the transposed weight.
        bias: ``(outputs,)`` or ``None``.

    Returns:
        Like ``y`` with ``outputs`` in place of the units, in the same memory format.
    """
    rows = fused.are_rows(y, won.axis)
    if not rows and columns.dtype == torch.float32 and fused.readable(y, won.competitors):
        return _of_planes(y.contiguous(), won, columns, bias)
    out = _of_rows(y.movedim(won.axis, -1), won, columns, bias).movedim(-1, won.axis)
    return out if rows else out.contiguous()


def _of_rows(y: Tensor, won: Winners, columns: Tensor, bias: Tensor | None) -> Tensor:
    """Take the sum over bags of columns; ``y`` has its units last."""
    units, width = columns.shape
    offset = torch.arange(0, units, won.competitors, device=y.device)
    index = won.packed.movedim(won.axis, -1).reshape(-1, len(offset)) + offset
    values = y.reshape(-1, units).gather(1, index)
    out = functional.embedding_bag(index, columns, mode="sum", per_sample_weights=values)
    if bias is not None:
        out += bias
    return out.view(*y.shape[:-1], width)


def _of_planes(y: Tensor, won: Winners, columns: Tensor, bias: Tensor | None) -> Tensor:
    """Run the kernel on contiguous ``y``, whose units are planes of positions."""
    units, width = columns.shape
    samples, plane = math.prod(y.shape[: won.axis]), math.prod(y.shape[won.axis + 1 :])
    winners = won.packed.contiguous()
    out = torch.empty((*y.shape[: won.axis], width, *y.shape[won.axis + 1 :]))
    added = None if bias is None else bias.contiguous()
    step = min(plane, TASK_POSITIONS)
    job = np.zeros(slots.JOB, np.int64)
    job[slots.Z], job[slots.WINNERS] = y.data_ptr(), winners.data_ptr()
    job[slots.OUT], job[slots.COLUMNS] = out.data_ptr(), columns.data_ptr()
    job[slots.BIAS] = 0 if added is None else added.data_ptr()
    job[slots.COMPETITORS], job[slots.CHANNELS] = won.competitors, units
    job[slots.BLOCKS] = units // won.competitors
    job[slots.PLANE], job[slots.STEP], job[slots.WIDTH] = plane, step, width
    job[slots.TASKS] = samples * -(-plane // step)
    fused.run("planes_columns", job, y.numel() // won.competitors * width)
    return out
