"""The competition in plain tensor operations: any device, any floating dtype.

``literal`` is the formula as it is written, differentiable by autograd to any order, and what
``torch.compile`` and function transforms see. ``forward`` and ``backward`` are the same in a form
that keeps only the activations, the winners and the key between the passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from neuronym.lwta.layout import to_blocks
from neuronym.lwta.noise import gumbel

__all__ = [
    "Outcome",
    "Rule",
    "backward",
    "compute_dtype",
    "divergence",
    "forward",
    "literal",
    "noisy_blocks",
    "onehot",
    "winner_dtype",
]


@dataclass(frozen=True)
class Rule:
    """How one tensor competes.

    Attributes:
        competitors: U.
        axis: The channel dimension, non-negative.
        temperature: Of the relaxed sample; used by the gradient only.
        key: Of the Gumbel noise; ``None`` for the deterministic argmax.
        kl: Whether the divergence from the uniform prior is wanted too.
        offset: Noise index of the first element: above 0 where the tensor is a later part of a
            larger batch, whose noise it then has.
        relaxed: Whether the gradient of a sample goes through the relaxed sample too; else its
            winners are taken as fixed.
    """

    competitors: int
    axis: int
    temperature: float
    key: int | Tensor | None
    kl: bool
    offset: int = 0
    relaxed: bool = True


class Outcome(NamedTuple):
    """Output, winner of each block (``axis`` holds blocks), and the KL summed over all blocks."""

    y: Tensor
    winners: Tensor
    kl: Tensor | None


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which probabilities are computed: at least float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def winner_dtype(competitors: int) -> torch.dtype:
    """Return the smallest dtype that packs a winner's index among ``competitors``."""
    return torch.uint8 if competitors <= 256 else torch.int32


def noisy_blocks(blocks: Tensor, z: Tensor, rule: Rule) -> Tensor:
    """Return ``blocks`` of ``z`` plus the Gumbel noise of the rule's key (none for argmax)."""
    if rule.key is None:
        return blocks
    channels_last = (*z.shape[: rule.axis], *z.shape[rule.axis + 1 :], z.shape[rule.axis])
    noise = gumbel(
        channels_last, key=rule.key, dtype=blocks.dtype, device=z.device, offset=rule.offset
    )
    return blocks + to_blocks(noise.movedim(-1, rule.axis), rule.competitors, rule.axis)


def _log_softmax(blocks: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return q, the softmax, and ``log q`` with 0 where q is 0, so that ``q log q`` is 0 there."""
    log_q = torch.log_softmax(blocks, axis)
    return log_q.exp(), log_q.masked_fill(log_q == -math.inf, 0.0)


def divergence(blocks: Tensor, axis: int) -> Tensor:
    """Sum over blocks of ``Σ_u q_u (log q_u + log U)``, with q the softmax of ``blocks``.

    A unit that cannot win (an activation of minus infinity) adds 0, the limit.
    """
    q, log_q = _log_softmax(blocks, axis)
    return (q * (log_q + math.log(blocks.shape[axis]))).sum()


def onehot(winners: Tensor, competitors: int, axis: int) -> Tensor:
    """Return the bool mask ``(…, B, U, …)`` of winners ``(…, B, …)``; ``axis`` holds blocks."""
    places = torch.arange(competitors, device=winners.device).view(
        -1, *[1] * (winners.dim() - axis - 1)
    )
    return winners.unsqueeze(axis + 1) == places


def literal(z: Tensor, rule: Rule) -> Outcome:
    """Compete by the formula ``y = ξ·z``, ``ξ = hard + soft − stop_gradient(soft)``."""
    blocks = to_blocks(z, rule.competitors, rule.axis).to(compute_dtype(z.dtype))
    among = rule.axis + 1
    noisy = noisy_blocks(blocks, z, rule)
    winners = noisy.argmax(among)
    xi = functional.one_hot(winners, rule.competitors).movedim(-1, among).to(blocks.dtype)
    out = (xi == 0) & (blocks == -math.inf)  # cannot win: the limit of ξ·z is 0
    if rule.key is not None and rule.relaxed:
        soft = torch.softmax(noisy / rule.temperature, among)
        out = out | ((xi == 0) & (soft == 0))
        xi = xi + (soft - soft.detach())
    y = (xi * blocks.masked_fill(out, 0.0)).flatten(rule.axis, among).to(z.dtype)
    kl = divergence(blocks, among) if rule.kl else None
    return Outcome(y, winners.to(winner_dtype(rule.competitors)), kl)


def forward(z: Tensor, rule: Rule) -> Outcome:
    """Compete without recording a graph."""
    raw = to_blocks(z, rule.competitors, rule.axis)
    blocks = raw.to(compute_dtype(z.dtype))
    among = rule.axis + 1
    winners = noisy_blocks(blocks, z, rule).argmax(among)
    won = onehot(winners, rule.competitors, rule.axis)
    y = torch.where(won, raw, torch.zeros((), dtype=z.dtype, device=z.device))
    kl = divergence(blocks, among) if rule.kl else None
    return Outcome(y.flatten(rule.axis, among), winners.to(winner_dtype(rule.competitors)), kl)


def backward(
    z: Tensor, winners: Tensor, grad: Tensor | None, grad_kl: Tensor | None, rule: Rule
) -> Tensor:
    """Return the gradient at ``z``: direct, through the relaxed sample, and of the KL.

    With ``a = grad · z``: ``hard · grad + soft / τ · (a − Σ soft a)
    + grad_kl · q (log q + log U − KL)``.
    """
    among = rule.axis + 1
    blocks = to_blocks(z, rule.competitors, rule.axis).to(compute_dtype(z.dtype))
    total = torch.zeros_like(blocks)
    if grad is not None:
        upstream = to_blocks(grad, rule.competitors, rule.axis).to(blocks.dtype)
        won = onehot(winners, rule.competitors, rule.axis)
        total = torch.where(won, upstream, total)
        if rule.key is not None and rule.relaxed:
            soft = torch.softmax(noisy_blocks(blocks, z, rule) / rule.temperature, among)
            pull = (upstream * blocks).masked_fill(soft == 0, 0.0)  # the limit of soft · z
            pull = pull - (soft * pull).sum(among, keepdim=True)
            total = total + soft * pull / rule.temperature
    if grad_kl is not None:
        q, log_q = _log_softmax(blocks, among)
        excess = log_q - (q * log_q).sum(among, keepdim=True)
        total = total + grad_kl * q * excess
    return total.flatten(rule.axis, among).to(z.dtype)
