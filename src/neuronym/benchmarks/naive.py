"""Local winner-takes-all in plain tensor operations, to compare with."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["NaiveLWTA"]


class NaiveLWTA(nn.Module):
    """The layer as published code writes it: blocks, noise, softmax, one-hot."""

    def __init__(self, competitors: int, channel_dim: int = -1) -> None:
        super().__init__()
        self.competitors = competitors
        self.channel_dim = channel_dim

    def forward(self, z: Tensor) -> Tensor:
        blocks = self._blocks(z)
        if self.training:
            u = torch.rand_like(blocks).clamp_(1e-7, 1 - 1e-7)
            noisy = blocks - torch.log(-torch.log(u))
            soft = torch.softmax(noisy / 0.67, -1)
            hard = functional.one_hot(noisy.argmax(-1), self.competitors).to(z.dtype)
            xi = hard + soft - soft.detach()
        else:
            xi = functional.one_hot(blocks.argmax(-1), self.competitors).to(z.dtype)
        axis = self.channel_dim % z.dim()
        y: Tensor = (xi * blocks).movedim(-1, axis + 1).flatten(axis, axis + 1)
        return y

    def divergence(self, z: Tensor) -> Tensor:
        """Return the KL from uniform in nats, averaged over the first dimension."""
        log_q = torch.log_softmax(self._blocks(z), -1)
        return (log_q.exp() * (log_q + math.log(self.competitors))).sum() / len(z)

    def _blocks(self, z: Tensor) -> Tensor:
        axis = self.channel_dim % z.dim()
        blocks: Tensor = z.unflatten(axis, (-1, self.competitors)).movedim(axis + 1, -1)
        return blocks
