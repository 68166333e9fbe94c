"""Stochastic depth (Huang et al., arXiv 1603.09382) for networks that have places for it."""

from __future__ import annotations

from torch import nn

from neuronym.errors import InputError

__all__ = ["set_drop_path"]


def set_drop_path(module: nn.Module, rate: float) -> int:
    """Drop residual branches in training, in place: none in the first block, ``rate`` in the last.

    timm's blocks keep a module ``drop_path``, ``drop_path1`` … at the end of each branch, which
    is an identity unless the rate was given when the network was made. The state dict does not
    change, and evaluation is as before.

    Args:
        module: A timm network, or one with such places.
        rate: Of the last block, in [0, 1); it grows in a straight line from 0.

    Returns:
        The number of branches that may be dropped.

    Raises:
        InputError: There is no such place, and ``rate`` is above 0.
    """
    if rate == 0:
        return 0
    from timm.layers import DropPath

    places = [
        name
        for name, part in module.named_modules()
        if name.rpartition(".")[2].startswith("drop_path")
        and (isinstance(part, (nn.Identity, DropPath)))
    ]
    blocks = list(dict.fromkeys(name.rpartition(".")[0] for name in places))
    if not places:
        raise InputError(
            f"drop_path={rate} finds no place in {type(module).__name__} (modules named "
            "drop_path, as timm's transformers have); set drop_path=0"
        )
    for name in places:
        parent, _, last = name.rpartition(".")
        share = blocks.index(parent) / max(1, len(blocks) - 1)
        setattr(module.get_submodule(parent), last, DropPath(rate * share))
    return len(places)
