"""Literal twin of faithfulness: one image, one set of units and one float64 pass at a time."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Twin:
    """A network in float64 with a site whose units can be zeroed by name."""

    module: nn.Module
    site: str
    channel_dim: int

    def __post_init__(self) -> None:
        self.module = copy.deepcopy(self.module).double().eval()

    def logits(self, image: Tensor, zeroed: Sequence[int]) -> list[float]:
        """The logits of one image with some units of the site at zero."""

        def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
            changed = output.clone()
            for unit in zeroed:
                changed.select(self.channel_dim, unit).zero_()
            return changed

        handle = self.module.get_submodule(self.site).register_forward_hook(hook)
        with torch.no_grad():
            found = self.module(image[None].double())[0].tolist()
        handle.remove()
        return found

    def probability(self, image: Tensor, zeroed: Sequence[int], target: int) -> float:
        """The target's softmax probability."""
        logits = self.logits(image, zeroed)
        top = max(logits)
        exps = [math.exp(value - top) for value in logits]
        return exps[target] / math.fsum(exps)

    def contributions(self, image: Tensor, target: int) -> list[float]:
        """``Σ over positions of y[k] ∂logit/∂y[k]`` for every unit."""
        kept: list[Tensor] = []

        def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
            kept.append(output.detach().clone().requires_grad_(True))
            return kept[-1] * 1

        handle = self.module.get_submodule(self.site).register_forward_hook(hook)
        logit = self.module(image[None].double())[0, target]
        handle.remove()
        (gradient,) = torch.autograd.grad(logit, kept[0])
        product = (kept[0] * gradient).detach()
        units = product.shape[self.channel_dim]
        return [float(product.select(self.channel_dim, unit).sum()) for unit in range(units)]


def counts(winners: int, steps: int) -> list[int]:
    """How many are removed at each point: rounded from both ends to the same numbers."""
    half = [math.floor(j * winners / steps + 0.5) for j in range(steps // 2 + 1)]
    return sorted(set(half) | {winners - value for value in half})


def area(shares: Sequence[float], values: Sequence[float]) -> float:
    """The trapezoid rule, written out."""
    pieces = []
    for left in range(len(shares) - 1):
        width = shares[left + 1] - shares[left]
        pieces.append(width * (values[left] + values[left + 1]) / 2)
    return math.fsum(pieces)


def deletion(
    twin: Twin, image: Tensor, order: Sequence[int], target: int, steps: int
) -> tuple[float, float]:
    """Areas of the deletion curves of one order: probability, and logit less that at zero."""
    points = counts(len(order), steps)
    shares = [count / len(order) for count in points]
    probabilities = [twin.probability(image, order[:count], target) for count in points]
    logits = [twin.logits(image, order[:count])[target] for count in points]
    return area(shares, probabilities), area(shares, [value - logits[-1] for value in logits])


def insertion(
    twin: Twin, image: Tensor, order: Sequence[int], target: int, steps: int
) -> tuple[float, float]:
    """Areas of the insertion curves of one order, from the site at zero."""
    points = counts(len(order), steps)
    shares = [count / len(order) for count in points]
    probabilities = [twin.probability(image, order[count:], target) for count in points]
    logits = [twin.logits(image, order[count:])[target] for count in points]
    return area(shares, probabilities), area(shares, [value - logits[0] for value in logits])
