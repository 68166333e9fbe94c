"""Blocks of competitors along a channel dimension: checks and views."""

from __future__ import annotations

from torch import Tensor

from neuronym.errors import DivisibilityError, InputError

__all__ = ["channel_axis", "check_competitors", "nearest_divisors", "to_blocks"]


def nearest_divisors(channels: int, competitors: int) -> list[int]:
    """Return the divisors of ``channels`` (from 2 on) nearest below and above ``competitors``."""
    divisors = [number for number in range(2, channels + 1) if channels % number == 0]
    below = [number for number in divisors if number <= competitors]
    above = [number for number in divisors if number > competitors]
    return below[-1:] + above[:1]


def check_competitors(competitors: int) -> int:
    """Return ``competitors`` if it is an int of at least 2.

    Raises:
        InputError: It is not; one competitor would be the identity.
    """
    if isinstance(competitors, bool) or not isinstance(competitors, int):
        raise InputError(f"competitors must be an int of at least 2, not {competitors!r}")
    if competitors == 1:
        raise InputError(
            "competitors=1 is the identity, not a competition; "
            "use the dense twin (the model as it is) or at least 2"
        )
    if competitors < 1:
        raise InputError(f"competitors must be at least 2, not {competitors}")
    return competitors


def channel_axis(z: Tensor, competitors: int, channel_dim: int, *, where: str = "") -> int:
    """Return the channel dimension as a non-negative index, after checking that U divides it.

    Args:
        z: The activations.
        competitors: U.
        channel_dim: The dimension that holds the units, negative from the end.
        where: Name of the layer, for the message.

    Raises:
        InputError: ``z`` has no such dimension.
        DivisibilityError: U does not divide the number of channels.
    """
    if not -z.dim() <= channel_dim < z.dim():
        raise InputError(
            f"channel_dim {channel_dim} is outside a tensor of shape {tuple(z.shape)}; "
            f"allowed: {-z.dim()} to {z.dim() - 1}"
        )
    axis = channel_dim % z.dim()
    channels = z.shape[axis]
    if channels == 0 or channels % competitors:
        near = " or ".join(map(str, nearest_divisors(channels, competitors))) or "none"
        place = f" of {where}" if where else ""
        raise DivisibilityError(
            f"{competitors} competitors do not divide the {channels} channels{place} "
            f"(dimension {channel_dim} of shape {tuple(z.shape)}); nearest that do: {near}"
        )
    return axis


def to_blocks(z: Tensor, competitors: int, axis: int) -> Tensor:
    """View ``(…, B·U, …)`` as ``(…, B, U, …)``; competitors are at ``axis + 1``."""
    blocks: Tensor = z.unflatten(axis, (z.shape[axis] // competitors, competitors))
    return blocks
