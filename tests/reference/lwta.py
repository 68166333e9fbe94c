"""Local winner-takes-all, slow and literal: float64, one position, one block, one unit at a time.

Arrays are (positions, units). The straight-through output is built from scalar torch operations,
so that autograd differentiates the formula itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Matrix = npt.NDArray[np.float64]
BITS = 0xFFFFFFFF


def finalise(word: int) -> int:
    word ^= word >> 16
    word = word * 0x85EBCA6B % 2**32
    word ^= word >> 13
    word = word * 0xC2B2AE35 % 2**32
    return word ^ (word >> 16)


def uniform(key: int, index: int) -> float:
    """The uniform number of one element, in whole numbers."""
    first = finalise((key & BITS) ^ 0x9E3779B9)
    second = finalise((key >> 32) ^ first)
    first = finalise((first + second) % 2**32)
    word = ((index & BITS) ^ first) * 0x9E3779B1 % 2**32
    word ^= word >> 16
    word = (word + second + (index >> 32) * 0x9E3779B1) * 0x85EBCA6B % 2**32
    word ^= word >> 15
    word = word * 0xC2B2AE35 % 2**32
    return (math.floor(word / 512) + 0.5) / 2**23


def gumbel(key: int, index: int) -> float:
    return -math.log(-math.log(uniform(key, index)))


def noise(key: int, positions: int, units: int) -> Matrix:
    return np.array(
        [[gumbel(key, n * units + k) for k in range(units)] for n in range(positions)]
    ).reshape(positions, units)


def softmax(values: Sequence[float]) -> list[float]:
    largest = max(values)
    powers = [math.exp(value - largest) for value in values]
    return [power / math.fsum(powers) for power in powers]


def probabilities(z: Matrix, competitors: int) -> Matrix:
    q = np.zeros_like(z)
    for n, b in np.ndindex(z.shape[0], z.shape[1] // competitors):
        block = slice(b * competitors, (b + 1) * competitors)
        q[n, block] = softmax(z[n, block].tolist())
    return q


def winners(scores: Matrix, competitors: int) -> npt.NDArray[np.int64]:
    blocks = scores.shape[1] // competitors
    found = np.zeros((scores.shape[0], blocks), np.int64)
    for n, b in np.ndindex(*found.shape):
        best = 0
        for u in range(1, competitors):
            if scores[n, b * competitors + u] > scores[n, b * competitors + best]:
                best = u
        found[n, b] = best
    return found


def compete(z: Matrix, competitors: int, g: Matrix | None = None) -> Matrix:
    """y = ξ·z with the winners of z (+ g)."""
    won = winners(z if g is None else z + g, competitors)
    y = np.zeros_like(z)
    for n, b in np.ndindex(*won.shape):
        unit = b * competitors + won[n, b]
        y[n, unit] = z[n, unit]
    return y


def expected(z: Matrix, competitors: int) -> Matrix:
    """Σ_ξ q(ξ) ξ·z: every outcome of each block in turn."""
    q = probabilities(z, competitors)
    y = np.zeros_like(z)
    for n, b in np.ndindex(z.shape[0], z.shape[1] // competitors):
        for u in range(competitors):
            unit = b * competitors + u
            y[n, unit] += q[n, unit] * z[n, unit]
    return y


def kl_to_uniform(z: Matrix, competitors: int) -> float:
    """Σ_positions Σ_b Σ_u q (log q + log U), in nats."""
    return math.fsum(
        q * (math.log(q) + math.log(competitors))
        for q in probabilities(z, competitors).flatten().tolist()
        if q > 0
    )


def straight_through(z: Tensor, competitors: int, g: Matrix, temperature: float) -> Tensor:
    """ξ = hard + soft − stop_gradient(soft), y = ξ·z, one scalar at a time."""
    rows = []
    for n in range(z.shape[0]):
        units: list[Tensor] = []
        for b in range(z.shape[1] // competitors):
            block = [z[n, b * competitors + u] for u in range(competitors)]
            noisy = [block[u] + float(g[n, b * competitors + u]) for u in range(competitors)]
            best = max(range(competitors), key=lambda u: float(noisy[u].detach()))
            powers = [torch.exp(value / temperature) for value in noisy]
            total = sum(powers, torch.zeros((), dtype=z.dtype))
            for u in range(competitors):
                soft = powers[u] / total
                hard = 1.0 if u == best else 0.0
                units.append((hard + soft - soft.detach()) * block[u])
        rows.append(torch.stack(units))
    return torch.stack(rows)


def kl_of_logits(z: Tensor, competitors: int) -> Tensor:
    """The divergence once more, from scalar torch operations."""
    total = torch.zeros((), dtype=z.dtype)
    for n in range(z.shape[0]):
        for b in range(z.shape[1] // competitors):
            powers = [torch.exp(z[n, b * competitors + u]) for u in range(competitors)]
            whole = sum(powers, torch.zeros((), dtype=z.dtype))
            for power in powers:
                q = power / whole
                total = total + q * (torch.log(q) + math.log(competitors))
    return total


def expectation(z: Tensor, competitors: int, objective: Callable[[Tensor], Tensor]) -> Tensor:
    """Σ_ξ q(ξ) objective(ξ·z) for one position, over every outcome ξ."""
    blocks = len(z) // competitors
    total = torch.zeros((), dtype=z.dtype)
    for outcome in itertools.product(range(competitors), repeat=blocks):
        chance = torch.ones((), dtype=z.dtype)
        y = torch.zeros_like(z)
        for b, u in enumerate(outcome):
            block = z[b * competitors : (b + 1) * competitors]
            chance = chance * torch.exp(block[u]) / torch.exp(block).sum()
            mask = torch.zeros_like(z)
            mask[b * competitors + u] = 1
            y = y + mask * z
        total = total + chance * objective(y)
    return total
