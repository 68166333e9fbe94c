"""How an LWTA layer tells the linear map after it who won: a note on its output tensor.

The output is complete, losers at zero, whoever else looks at it. The note travels with the tensor
object, through modules that return what they are given (dropout in evaluation, identity); any
operation makes another tensor, without a note, and a change in place makes the note invalid.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from neuronym.lwta.engine import capturing
from neuronym.lwta.plain import Outcome, Rule

__all__ = ["Winners", "attach", "note_on"]

_NOTE = "_neuronym_winners"


@dataclass(frozen=True, eq=False)
class Winners:
    """Who won in a tensor.

    Attributes:
        packed: Winner of each block, in a small integer dtype; ``axis`` holds blocks.
        competitors: U.
        axis: The channel dimension, non-negative.
        source: The LWTA module that let them compete.
        version: The tensor's count of changes in place; ``None`` in inference mode, where torch
            keeps none.
    """

    packed: Tensor
    competitors: int
    axis: int
    source: nn.Module
    version: int | None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Stay behind where the tensor is saved or copied: an empty mapping goes in its place."""
        return OrderedDict, ()


def attach(source: nn.Module, outcome: Outcome, rule: Rule) -> None:
    """Note the winners on ``outcome.y``, unless a gradient is wanted or a graph is captured.

    In inference mode changes in place cannot be seen, so that a module with hooks leaves no note.
    """
    y = outcome.y
    if capturing() or y.requires_grad or type(y) is not Tensor or not y.numel():
        return
    version = None if y.is_inference() else y._version
    if version is None and source._forward_hooks:
        return
    note = Winners(outcome.winners, rule.competitors, rule.axis, source, version)
    setattr(y, _NOTE, note)


def note_on(y: Tensor) -> Winners | None:
    """Return the valid note on a tensor, if it has one."""
    note = getattr(y, _NOTE, None)
    if not isinstance(note, Winners) or y.is_inference() != (note.version is None):
        return None
    return note if note.version is None or note.version == y._version else None
