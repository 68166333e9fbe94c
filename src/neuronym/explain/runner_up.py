"""Who stands next in line in each block, and what would change had it won."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Seconds", "seconds"]


@dataclass(frozen=True, eq=False)
class Seconds:
    """The second of each winner's block, at the positions that the winner won.

    Attributes:
        unit: ``(units,)`` int64, the competitor that is second at most of these positions (the
            first of equals).
        share: ``(units,)`` float64, at which share of them.
        response: ``(units,)`` float64, what it would pass there, summed.
        change: ``(units,)`` float64, change of what is explained, in logits, had the second won
            at each of them, by the gradient.

    Rows of units that won nowhere mean nothing.
    """

    unit: Tensor
    share: Tensor
    response: Tensor
    change: Tensor


def seconds(responses: Tensor, mask: Tensor, gradient: Tensor, *, competitors: int) -> Seconds:
    """Find each winner's second, and the linear estimate of a change of places.

    With w(p) the winner and r(p) the second of a block at position p, the change is
    ``Σ_p gradient[r(p), p]·z[r(p), p] − gradient[w, p]·z[w, p]`` over the positions that w won.

    Args:
        responses: ``(units, positions)``, z, what competed.
        mask: ``(units, positions)`` bool, true where a unit won.
        gradient: ``(units, positions)``, of what is explained at the site's output.
        competitors: U.
    """
    positions = responses.shape[1]
    shape = (-1, competitors, positions)
    z, won = responses.view(shape), mask.view(shape)
    first = won.to(torch.uint8).argmax(1, keepdim=True)  # (blocks, 1, positions)
    lowest = torch.finfo(z.dtype).min  # so that a rival at minus infinity is one still
    second = z.clamp(min=lowest).masked_fill(won, -torch.inf).argmax(1, keepdim=True)
    passed = z.where(z.isfinite(), 0)  # a response of minus infinity passes nothing
    worth = passed.double() * gradient.view(shape).double()
    gain = (worth.gather(1, second) - worth.gather(1, first))[:, 0]
    blocks = len(z)
    first, second = first[:, 0], second[:, 0]
    change = worth.new_zeros(blocks, competitors).scatter_add_(1, first, gain)
    pair = first * competitors + second
    wide = worth.new_zeros(blocks, competitors * competitors)
    times = wide.scatter_add(1, pair, torch.ones_like(gain)).view(-1, competitors, competitors)
    response = passed.gather(1, second[:, None])[:, 0].double()
    passes = wide.scatter_add(1, pair, response).view(-1, competitors, competitors)
    most, chosen = times.max(-1)
    offset = torch.arange(blocks, device=z.device)[:, None] * competitors
    won_by = times.sum(-1).clamp(min=1)
    return Seconds(
        unit=(chosen + offset).flatten(),
        share=(most / won_by).flatten(),
        response=passes.gather(2, chosen[..., None])[..., 0].flatten(),
        change=change.flatten(),
    )
