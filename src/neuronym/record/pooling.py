"""Poolings: how the positions of a site become one number per unit and image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from math import inf

import torch
from torch import Tensor

from neuronym.calls import is_index
from neuronym.errors import InputError, unknown
from neuronym.record.sites import Site

__all__ = [
    "DEFAULTS",
    "POOLINGS",
    "ChosenPooling",
    "Pooling",
    "PoolingChoice",
    "candidates_of",
    "mark_winners",
    "pooling_for",
    "token_of",
]

Pooling = Callable[[Tensor, "Tensor | None"], Tensor]
"""``(activations (images, units, positions), won (the same, bool) or None) → (images, units)``."""


def mean(activations: Tensor, won: Tensor | None) -> Tensor:
    """Mean over the positions."""
    return activations.mean(-1)


def maximum(activations: Tensor, won: Tensor | None) -> Tensor:
    """Largest over the positions."""
    return activations.amax(-1)


def token(activations: Tensor, won: Tensor | None, *, index: int = 0) -> Tensor:
    """The activation at one token, by default the class token (the first)."""
    return activations[..., index]


def winner(activations: Tensor, won: Tensor | None) -> Tensor:
    """Mean over all positions of the masked activation: what the unit passed where it won.

    The mask decides, so a winner below zero counts with its value and a loser with zero.
    """
    if won is None:
        raise InputError("pooling 'winner' needs a site that competes; use 'mean'")
    return activations.where(won, 0).mean(-1)


POOLINGS: dict[str, Pooling] = {"mean": mean, "max": maximum, "token": token, "winner": winner}
"""By name. ``"token:3"`` is the token 3."""

DEFAULTS: dict[tuple[str, bool], str] = {
    ("image", False): "mean",
    ("tokens", False): "mean",
    ("map", False): "mean",
    ("image", True): "winner",
    ("tokens", True): "winner",
    ("map", True): "winner",
}
"""(layout, competes) → pooling; ``"token"`` where the tokens begin with a class token."""

PoolingChoice = str | Pooling | Mapping[str, "str | Pooling"] | None


@dataclass(frozen=True)
class ChosenPooling:
    """The pooling of one site.

    Attributes:
        name: Under which it is recorded.
        pool: The function.
        known: Whether its name determines it (a function of one's own has no such name).
    """

    name: str
    pool: Pooling
    known: bool


def pooling_for(choice: PoolingChoice, site: Site, *, competes: bool) -> ChosenPooling:
    """Choose how a site is pooled.

    Args:
        choice: A name, a function, a mapping from site patterns to either, or ``None``; what a
            mapping does not match, and ``None``, get the default of the site's layout.
        site: The site.
        competes: Whether it competes.

    Raises:
        UnknownNameError: There is no pooling of that name.
        InputError: The pooling does not fit the site.
    """
    if isinstance(choice, Mapping):
        matching = [key for key in choice if fnmatchcase(site.name, key)]
        choice = choice[matching[0]] if matching else None
    if choice is None:
        choice = "token" if site.class_token else DEFAULTS[site.layout, competes]
    if callable(choice):
        name = getattr(choice, "__qualname__", type(choice).__name__)
        return ChosenPooling(name, choice, known=False)
    return ChosenPooling(choice, _by_name(choice, site, competes), known=True)


def token_of(name: str) -> int | None:
    """Return which token a pooling of that name reads, or ``None`` where it reads all positions."""
    kind, _, index = name.partition(":")
    return int(index or 0) if kind == "token" else None


def candidates_of(won: Tensor, pooling: str) -> Tensor:
    """Return which units may be the image winner of their block.

    Args:
        won: ``(..., units, positions)`` bool.
        pooling: Name of the site's pooling: where it reads one token, only who won there.

    Returns:
        ``(..., units)`` bool.
    """
    token = token_of(pooling)
    return won.any(-1) if token is None else won[..., token]


def mark_winners(pooled: Tensor, candidates: Tensor, competitors: int) -> Tensor:
    """Mark the image winner of every block: of its candidates the largest, the first of equals.

    Args:
        pooled: ``(..., units)``, pooled masked activations.
        candidates: ``(..., units)`` bool, from :func:`candidates_of`.
        competitors: Units of a block.

    Returns:
        ``(..., units)`` bool with one true entry per block.
    """
    blocks = pooled.masked_fill(~candidates, -inf).unflatten(-1, (-1, competitors))
    marked = torch.zeros_like(blocks, dtype=torch.bool)
    return marked.scatter_(-1, blocks.argmax(-1, keepdim=True), True).flatten(-2)


def _by_name(name: str, site: Site, competes: bool) -> Pooling:
    kind, colon, index = name.partition(":")
    if kind not in POOLINGS or (colon and kind != "token"):
        raise unknown("pooling", name, [*POOLINGS, "token:INDEX"])
    if kind == "winner" and not competes:
        raise InputError(f"pooling 'winner' needs a site that competes; {site.name!r} does not")
    if kind != "token":
        return POOLINGS[kind]
    if site.layout != "tokens":
        raise InputError(
            f"pooling {name!r} needs a site of tokens; {site.name!r} has the layout "
            f"{site.layout!r}: use 'mean' or 'max'"
        )
    if colon and not is_index(index):
        raise InputError(f"pooling {name!r} must be 'token' or 'token:INDEX'")
    number = token_of(name) or 0
    if number >= site.positions:
        raise InputError(f"pooling {name!r}: {site.name!r} has tokens 0 to {site.positions - 1}")
    return partial(token, index=number)
