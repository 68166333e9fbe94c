"""What a winner silenced, or its block handed over, really changes: the network runs again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuronym.modes import evaluation

__all__ = ["Effects", "Variants", "effects"]

_ROWS = 64  # variants in one pass


@dataclass(frozen=True)
class Variants:
    """The site and the units of which each is changed alone.

    Attributes:
        module, call: The site's module, and which of its calls.
        channel_dim: The dimension of the units.
        competitors: U; ``None`` at a dense site, where a unit is only silenced.
        units: Indices of the units.
    """

    module: str
    call: int
    channel_dim: int
    competitors: int | None
    units: tuple[int, ...]


@dataclass(frozen=True)
class Effects:
    """Change of what is explained, in logits, per unit in the order of ``Variants.units``."""

    silenced: tuple[float, ...]
    handed_over: tuple[float, ...] | None


def effects(
    model: nn.Module, inputs: Tensor, variants: Variants, *, target: int, against: int | None
) -> Effects:
    """Run one image through the network once per unit and change, many rows at a time.

    Silenced: the unit passes zero, and where it won nobody else passes anything. Handed over: it
    cannot win, and the largest of the others passes instead. Everything behind the site, later
    winners too, is computed anew.

    Args:
        model: A classifier.
        inputs: ``(1, ...)`` one image, preprocessed.
        variants: What is changed.
        target, against: What is explained: the target's logit, less the other one's if given.
    """
    changes = [(unit, False) for unit in variants.units]
    if variants.competitors is not None:
        changes += [(unit, True) for unit in variants.units]
    found: list[float] = []
    with evaluation(model), torch.no_grad():
        usual = _explained(model(inputs), target, against)
        for start in range(0, len(changes), _ROWS):
            part = changes[start : start + _ROWS]
            with _changed(model, variants, part):
                logits = model(inputs.expand(len(part), *inputs.shape[1:]))
            found += (_explained(logits, target, against) - usual).tolist()
    count = len(variants.units)
    silenced, handed = tuple(found[:count]), tuple(found[count:])
    return Effects(silenced, None if variants.competitors is None else handed)


def _explained(logits: Tensor, target: int, against: int | None) -> Tensor:
    picked = logits[:, target].double()
    return picked if against is None else picked - logits[:, against].double()


@contextlib.contextmanager
def _changed(
    model: nn.Module, variants: Variants, changes: Sequence[tuple[int, bool]]
) -> Iterator[None]:
    """Change one unit in each row of the site's output inside the block."""
    calls = 0

    def hook(
        _: nn.Module, positional: tuple[Any, ...], named: dict[str, Any], output: Tensor
    ) -> Tensor | None:
        nonlocal calls
        calls += 1
        if calls - 1 != variants.call:
            return None
        changed = output.clone()
        rows = changed.movedim(variants.channel_dim, 1)  # a view: writes go into `changed`
        z = (*positional, *named.values())[0] if variants.competitors is not None else output
        responses = z.movedim(variants.channel_dim, 1)
        for row, (unit, hands_over) in enumerate(changes):
            if hands_over and variants.competitors is not None:
                block = slice(*_block(unit, variants.competitors))
                place = unit - block.start
                rows[row, block] = _without(responses[row, block], place)
            else:
                rows[row, unit] = 0
        return changed

    layer = model.get_submodule(variants.module)
    handle = layer.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _block(unit: int, competitors: int) -> tuple[int, int]:
    start = unit // competitors * competitors
    return start, start + competitors


def _without(responses: Tensor, place: int) -> Tensor:
    """Let a block ``(competitors, ...)`` compete again without one of its units."""
    others = responses.clone()
    others[place] = -torch.inf
    winner = others.argmax(0, keepdim=True)
    passed = others.gather(0, winner)
    passed = passed.where(passed.isfinite(), 0)
    return torch.zeros_like(responses).scatter_(0, winner, passed)
