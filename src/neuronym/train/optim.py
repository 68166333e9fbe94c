"""Optimisers by name, and learning rates as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

__all__ = ["OPTIMIZERS", "SCHEDULES", "parameter_groups", "rate_at"]


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split the trainable parameters: weight decay for matrices and kernels, none for the rest."""
    trained = [each for each in module.parameters() if each.requires_grad]
    return [
        {"params": [each for each in trained if each.dim() >= 2], "weight_decay": weight_decay},
        {"params": [each for each in trained if each.dim() < 2], "weight_decay": 0.0},
    ]


def _sgd(groups: list[dict[str, object]], rate: float, momentum: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0)


def _adamw(groups: list[dict[str, object]], rate: float, momentum: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999))


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"sgd": _sgd, "adamw": _adamw}


def _rise(progress: float, warmup: float) -> float:
    return progress / warmup if warmup > 0 else 1.0


def _cosine(progress: float, warmup: float) -> float:
    if progress < warmup:
        return _rise(progress, warmup)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _one_cycle(progress: float, warmup: float) -> float:
    if progress < warmup:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * progress / warmup))
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _constant(progress: float, warmup: float) -> float:
    return min(1.0, _rise(progress, warmup)) if progress < warmup else 1.0


def _step(progress: float, warmup: float) -> float:
    if progress < warmup:
        return _rise(progress, warmup)
    return 0.1 ** sum(progress >= edge for edge in _EDGES)


_EDGES = (1 / 3, 2 / 3, 8 / 9)


SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "one-cycle": _one_cycle,
    "cosine": _cosine,
    "constant": _constant,
    "step": _step,
}
"""Share of the largest rate at a progress in [0, 1).

One-cycle (Smith and Topin, arXiv 1708.07120) rises by a cosine from 4 % and falls by one to zero;
cosine rises in a straight line from zero and falls by a cosine; constant rises and stays; step
rises like cosine and is divided by ten at 1/3, 2/3 and 8/9 (epochs 30, 60 and 80 of 90: Goyal et
al., arXiv 1706.02677).
"""


def rate_at(step: int, steps: int, *, schedule: str, largest: float, warmup: float) -> float:
    """Return the learning rate of step ``step`` (from 0) of ``steps``."""
    return largest * SCHEDULES[schedule]((step + 0.5) / steps, warmup)
