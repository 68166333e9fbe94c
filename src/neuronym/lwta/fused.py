"""The competition by fused kernels: float32 on the CPU, up to 256 competitors."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neuronym.lwta import threads
from neuronym.lwta.kernels import job as slots
from neuronym.lwta.noise import key_words
from neuronym.lwta.plain import Outcome, Rule

__all__ = ["are_rows", "available", "backward", "dense", "forward", "readable", "run", "supports"]

MOST_COMPETITORS = 256
MOST_ELEMENTS = 2**31 - 1
LAST_INDEX = 2**32 - 1  # the kernels' noise index is a 32-bit word
TASK_ELEMENTS = 4096  # with its scratch, a task stays in the caches of one core
LEAST_PLANE = 64  # positions below which planes are copied to rows
SHARE = 16384  # elements below which another thread costs more than it helps


@functools.cache
def _entries() -> Any:
    """Import numba and the entry points, once; ``None`` (and one warning) where that fails."""
    try:
        from neuronym.lwta.kernels import entries
    except ImportError as error:
        text = f"LWTA kernels are off, plain torch is used: {error}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        return None
    return entries


@functools.cache
def _kernel(name: str) -> Any:
    return _entries().compile_entry(name)


def available() -> bool:
    """Whether the kernels can be used here (the first call imports numba)."""
    return _entries() is not None


def supports(z: Tensor, rule: Rule) -> bool:
    """Whether the kernels serve this tensor: plain float32 memory on the CPU."""
    return rule.offset + z.numel() <= LAST_INDEX and readable(z, rule.competitors)


def readable(z: Tensor, competitors: int) -> bool:
    """Whether ``z`` is memory that the kernels can read, with not too many competitors."""
    return (
        z.dtype == torch.float32
        and z.device.type == "cpu"
        and z.layout == torch.strided
        and type(z) in (Tensor, nn.Parameter)
        and competitors <= MOST_COMPETITORS
        and 0 < z.numel() <= MOST_ELEMENTS
        and available()
    )


def are_rows(z: Tensor, axis: int) -> bool:
    """Whether the units of each position are neighbours in memory."""
    return z.movedim(axis, -1).is_contiguous()


def dense(z: Tensor, axis: int) -> Tensor:
    """Return ``z`` if a kernel can read its memory as it lies and fast, else a dense copy.

    Planes of few positions are too short for vector loops; they are copied to rows.
    """
    if are_rows(z, axis):
        return z
    if math.prod(z.shape[axis + 1 :]) < LEAST_PLANE:
        rows: Tensor = z.movedim(axis, -1).contiguous().movedim(-1, axis)
        return rows
    return z.contiguous()


def _factors(number: int) -> list[int]:
    found, factor = [], 2
    while number > 1:
        while number % factor == 0:
            found.append(factor)
            number //= factor
        factor += 1
    return found


def _job(z: Tensor, rule: Rule) -> tuple[str, npt.NDArray[np.int64]]:
    """Describe the work on ``z``; returns the layout's name and the job without results."""
    job = np.zeros(slots.JOB, np.int64)
    channels, elements = z.shape[rule.axis], z.numel()
    job[slots.Z] = z.data_ptr()
    job[slots.COMPETITORS] = rule.competitors
    job[slots.CHANNELS] = channels
    if rule.key is not None:
        job[slots.SAMPLE] = 1
        job[slots.OFFSET] = rule.offset
        job[slots.WORD_A], job[slots.WORD_B] = key_words(int(rule.key))
        job[slots.FLOATS :].view(np.float64)[0] = 1.0 / rule.temperature
    if are_rows(z, rule.axis):
        blocks = elements // rule.competitors
        share = -(-blocks // torch.get_num_threads())
        step = max(16, min(TASK_ELEMENTS // rule.competitors, share) // 16 * 16)
        factors = _factors(rule.competitors)
        job[slots.BLOCKS], job[slots.STEP] = blocks, step
        job[slots.TASKS] = -(-blocks // step)
        job[slots.ROUNDS] = len(factors)
        job[slots.FACTORS : slots.FACTORS + len(factors)] = factors
        return "rows", job
    plane = math.prod(z.shape[rule.axis + 1 :])
    step = min(plane, max(64, TASK_ELEMENTS // rule.competitors // 16 * 16))
    job[slots.BLOCKS] = elements // plane // rule.competitors
    job[slots.PLANE], job[slots.STEP] = plane, step
    job[slots.TASKS] = job[slots.BLOCKS] * -(-plane // step)
    return "planes", job


def run(name: str, job: npt.NDArray[np.int64], elements: int) -> None:
    """Run a kernel on as many threads as ``elements`` of work are worth."""
    threads.run(_kernel(name), job, threads=min(int(job[slots.TASKS]), 1 + elements // SHARE))


def forward(z: Tensor, rule: Rule) -> Outcome:
    """Compete without recording a graph; ``z`` must be dense."""
    layout, job = _job(z, rule)
    out = torch.empty_like(z)
    blocks = z.shape[rule.axis] // rule.competitors
    positions = (*z.shape[: rule.axis], *z.shape[rule.axis + 1 :])
    if layout == "rows":
        winners = torch.empty((*positions, blocks), dtype=torch.uint8).movedim(-1, rule.axis)
    else:
        shape = (*positions[: rule.axis], blocks, *positions[rule.axis :])
        winners = torch.empty(shape, dtype=torch.uint8)
    job[slots.OUT], job[slots.WINNERS] = out.data_ptr(), winners.data_ptr()
    kl = np.empty(job[slots.TASKS] if rule.kl else 0)
    if rule.kl:
        job[slots.KL] = kl.ctypes.data
    run(f"{layout}_forward", job, z.numel())
    total = torch.tensor(kl.sum(), dtype=torch.float32) if rule.kl else None
    return Outcome(out, winners, total)


def backward(
    z: Tensor, winners: Tensor, grad: Tensor | None, grad_kl: Tensor | None, rule: Rule
) -> Tensor:
    """Return the gradient at ``z``, as :func:`neuronym.lwta.plain.backward`."""
    layout, job = _job(z, rule)
    if not rule.relaxed:
        job[slots.SAMPLE] = 0
    out = torch.empty_like(z)
    job[slots.OUT], job[slots.WINNERS] = out.data_ptr(), winners.data_ptr()
    if grad is not None:
        if grad.stride() != z.stride() or grad.dtype != z.dtype:
            grad = torch.empty_like(z).copy_(grad)
        job[slots.GRAD] = grad.data_ptr()
    if grad_kl is not None:
        job[slots.KL] = 1
        job[slots.FLOATS :].view(np.float64)[1] = float(grad_kl)
    run(f"{layout}_backward", job, z.numel())
    return out
