"""Local winner-takes-all as pure functions.

The K units of a tensor, along its channel dimension, form ``B = K / U`` blocks of U neighbours.
At every position one unit of a block wins and passes its value; the others pass zero. Equations
are numbered as in ``docs/equations.md``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from neuronym.errors import InputError, unknown
from neuronym.lwta import engine
from neuronym.lwta.layout import channel_axis, check_competitors, to_blocks
from neuronym.lwta.noise import draw_key
from neuronym.lwta.plain import Outcome, Rule, compute_dtype

__all__ = [
    "DEFAULT_TEMPERATURE",
    "MODES",
    "check_temperature",
    "compete",
    "compete_with_winners",
    "expected",
    "mask_from_winners",
    "winner_mask",
    "winner_probabilities",
    "winners",
]

DEFAULT_TEMPERATURE = 0.67
"""Two thirds, as Maddison et al. (2017, arXiv 1611.00712) advise for relaxed categoricals."""

MODES = ("sample", "argmax")


def check_temperature(temperature: float) -> float:
    """Return ``temperature`` as a float if it is finite and above zero.

    Raises:
        InputError: It is not.
    """
    if not (isinstance(temperature, (int, float)) and 0 < temperature < math.inf):
        raise InputError(f"temperature must be a finite number above 0, not {temperature!r}")
    return float(temperature)


def compete(
    z: Tensor,
    competitors: int,
    *,
    channel_dim: int = -1,
    mode: str = "sample",
    temperature: float = DEFAULT_TEMPERATURE,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pass the winner of each block and zero the losers: ``y = ξ·z``.

    Args:
        z: Activations of any floating dtype; dimension ``channel_dim`` holds ``B·U`` units, unit
            ``b·U + u`` being competitor u of block b. Every other dimension is a position.
        competitors: U, at least 2; must divide the number of units.
        channel_dim: The dimension of the units: -1 for linear and token layers, 1 for
            convolutions.
        mode: ``"sample"`` draws ξ from ``q = softmax_u(z)`` by the Gumbel trick, with the
            straight-through gradient ``ξ = hard + soft − stop_gradient(soft)``; ``"argmax"``
            takes the largest (the first of equals).
        temperature: τ of ``soft = softmax((z + g) / τ)``. It shapes the gradient, never the
            winner.
        generator: Source of the one key drawn per call; torch's default generator otherwise.

    Returns:
        A tensor like ``z``. A block that holds a NaN is won by a NaN, so that the output shows it.

    Raises:
        DivisibilityError: U does not divide the number of units.
        InputError: Another argument is not allowed.
        UnknownNameError: ``mode`` is neither of the two.
    """
    return _compete(z, competitors, channel_dim, mode, temperature, generator).y


def compete_with_winners(
    z: Tensor,
    competitors: int,
    *,
    channel_dim: int = -1,
    mode: str = "sample",
    temperature: float = DEFAULT_TEMPERATURE,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Do as :func:`compete`, and say who won.

    Returns:
        The output, and the winner of each block: int64 in ``0 … U - 1``, shaped like ``z`` but
        with B blocks in place of the ``B·U`` units.
    """
    outcome = _compete(z, competitors, channel_dim, mode, temperature, generator)
    return outcome.y, outcome.winners.long()


def _compete(
    z: Tensor,
    competitors: int,
    channel_dim: int,
    mode: str,
    temperature: float,
    generator: torch.Generator | None,
) -> Outcome:
    axis = checked_axis(z, competitors, channel_dim)
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    key = draw_key(generator) if mode == "sample" else None
    return engine.run(z, Rule(competitors, axis, check_temperature(temperature), key, kl=False))


def checked_axis(z: Tensor, competitors: int, channel_dim: int) -> int:
    """Check ``z`` and U and return the channel dimension as a non-negative index."""
    if not z.is_floating_point():
        raise InputError(f"z must hold real floating-point numbers, not {z.dtype}")
    return channel_axis(z, check_competitors(competitors), channel_dim)


def winner_probabilities(z: Tensor, competitors: int, *, channel_dim: int = -1) -> Tensor:
    """Return ``q = softmax_u(z)``: the chance of each unit to win its block.

    Returns:
        A tensor like ``z`` (float32 for half precision); each block sums to 1.
    """
    axis = checked_axis(z, competitors, channel_dim)
    blocks = to_blocks(z.to(compute_dtype(z.dtype)), competitors, axis)
    return torch.softmax(blocks, axis + 1).flatten(axis, axis + 1)


def expected(z: Tensor, competitors: int, *, channel_dim: int = -1) -> Tensor:
    """Return the exact expectation of the output, ``E[y] = q·z`` with ``q = softmax_u(z)``.

    Returns:
        A tensor like ``z``, computed in float32 where ``z`` is in half precision; differentiable,
        and in general no unit is zero.
    """
    axis = checked_axis(z, competitors, channel_dim)
    blocks = to_blocks(z.to(compute_dtype(z.dtype)), competitors, axis)
    q = torch.softmax(blocks, axis + 1)
    limited = blocks.masked_fill((blocks == -torch.inf) & (q == 0), 0.0)  # the limit of q · z is 0
    return (q * limited).flatten(axis, axis + 1).to(z.dtype)


def winners(z: Tensor, competitors: int, *, channel_dim: int = -1) -> Tensor:
    """Return the deterministic winner of each block, ``argmax_u z`` (the first of equals).

    Returns:
        int64 in ``0 … U - 1``, shaped like ``z`` with B blocks in place of the units.
    """
    axis = checked_axis(z, competitors, channel_dim)
    with torch.no_grad():
        return engine.run(z, Rule(competitors, axis, 1.0, None, kl=False)).winners.long()


def mask_from_winners(winners: Tensor, competitors: int, *, channel_dim: int = -1) -> Tensor:
    """Return the boolean mask of the winning units.

    Args:
        winners: Integers in ``0 … U - 1``; dimension ``channel_dim`` holds blocks.
        competitors: U.
        channel_dim: The dimension of the blocks, which holds units in the result.

    Raises:
        InputError: A winner is outside ``0 … U - 1``, or ``winners`` has no such dimension.
    """
    index, axis = checked_winners(winners, competitors, channel_dim)
    onehot = functional.one_hot(index, competitors).bool().movedim(-1, axis + 1)
    return onehot.flatten(axis, axis + 1)


def checked_winners(winners: Tensor, competitors: int, channel_dim: int) -> tuple[Tensor, int]:
    """Check winners, and return them as int64 with the block dimension as non-negative index."""
    check_competitors(competitors)
    if not -winners.dim() <= channel_dim < winners.dim():
        raise InputError(
            f"channel_dim {channel_dim} is outside winners of shape {tuple(winners.shape)}"
        )
    if winners.is_floating_point() or winners.dtype == torch.bool:
        raise InputError(f"winners must be integers, not {winners.dtype}")
    index = winners.long()
    if index.numel():
        lowest, highest = (int(value) for value in index.aminmax())
        if lowest < 0 or highest >= competitors:
            raise InputError(
                f"winners range from {lowest} to {highest}; "
                f"with {competitors} competitors allowed: 0 to {competitors - 1}"
            )
    return index, channel_dim % winners.dim()


def winner_mask(z: Tensor, competitors: int, *, channel_dim: int = -1) -> Tensor:
    """Return the boolean mask, shaped like ``z``, of the deterministic winners."""
    won = winners(z, competitors, channel_dim=channel_dim)
    return mask_from_winners(won, competitors, channel_dim=channel_dim)
