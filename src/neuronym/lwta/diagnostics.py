"""Who wins, how often, and how evenly: measured from winners, never from values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neuronym.errors import InputError
from neuronym.lwta.functional import checked_winners
from neuronym.lwta.trace import Trace

__all__ = ["active_fraction", "win_counts", "win_counts_of_trace", "win_entropy"]


def win_counts(winners: Tensor, competitors: int, *, channel_dim: int = -1) -> Tensor:
    """Count the wins of each unit over all positions and images.

    Args:
        winners: Integers in ``0 … U - 1``; dimension ``channel_dim`` holds B blocks.
        competitors: U.
        channel_dim: The dimension of the blocks.

    Returns:
        ``(B, U)`` int64; each row adds up to the number of positions times images.

    Raises:
        InputError: A winner is outside the range, or the dimension does not exist.
    """
    index, axis = checked_winners(winners, competitors, channel_dim)
    flat = index.movedim(axis, -1).reshape(-1, index.shape[axis])
    blocks = flat.shape[1]
    unit = flat + torch.arange(blocks, device=flat.device) * competitors
    counts = torch.bincount(unit.flatten(), minlength=blocks * competitors)
    return counts.view(blocks, competitors)


def win_counts_of_trace(trace: Trace) -> dict[str, Tensor]:
    """Return :func:`win_counts` per module, the calls of one module added up.

    Calls of one module with different numbers of blocks are counted under ``name#call``.

    Args:
        trace: Made with ``keep="winners"``.

    Raises:
        InputError: The trace kept no winners.
    """
    counts: dict[str, Tensor] = {}
    for name, competitions in trace.by_name().items():
        shared = len({competition.blocks for competition in competitions}) == 1
        for competition in competitions:
            key = name if shared else f"{name}#{competition.call}"
            found = win_counts(
                competition.winners, competition.competitors, channel_dim=competition.channel_dim
            )
            counts[key] = counts[key] + found if key in counts else found
    return counts


def win_entropy(counts: Tensor, *, normalised: bool = True) -> Tensor:
    """Return the entropy of each block's win rates.

    Args:
        counts: ``(blocks, competitors)`` numbers of wins.
        normalised: Divide by ``log U``: 0 where one unit always wins, 1 where all win equally
            often. Otherwise in nats.

    Returns:
        ``(blocks,)`` float64; NaN for a block without wins.

    Raises:
        InputError: ``counts`` is not two-dimensional with at least two competitors.
    """
    if counts.dim() != 2 or counts.shape[1] < 2:
        raise InputError(
            f"counts must be (blocks, competitors) with at least 2 competitors, "
            f"not {tuple(counts.shape)}"
        )
    rates = counts.double() / counts.sum(1, keepdim=True)
    entropy = -torch.xlogy(rates, rates).sum(1)
    return entropy / math.log(counts.shape[1]) if normalised else entropy


def active_fraction(trace: Trace) -> float:
    """Return the share of (unit, position) pairs that the masks let pass, over all calls.

    It is counted on the masks, not computed as 1/U.

    Args:
        trace: Made with ``keep="winners"``.

    Raises:
        InputError: The trace is empty or kept no winners.
    """
    if not len(trace):
        raise InputError("the trace is empty: run the model inside `with trace(model)`")
    active = total = 0
    for competition in trace:
        mask = competition.mask
        active += int(mask.sum())
        total += mask.numel()
    if not total:
        raise InputError("the trace holds no positions: the batch was empty")
    return active / total
