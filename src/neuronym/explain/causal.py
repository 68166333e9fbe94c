"""What a winner silenced, or its block handed over, really changes: the network runs again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuronym.calls import split_call
from neuronym.models import Change, variants
from neuronym.modes import evaluation
from neuronym.results import SiteInfo

__all__ = ["Effects", "effects"]


@dataclass(frozen=True)
class Effects:
    """Change of what is explained, in logits, per unit in the order in which they were given.

    Attributes:
        silenced: The unit passes zero, and where it won nobody else passes anything.
        handed_over: It cannot win, and the runner-up passes instead; ``None`` at a dense site. A
            unit's is ``None`` where the model is edited so that no other unit of its block could
            pass.
    """

    silenced: tuple[float, ...]
    handed_over: tuple[float | None, ...] | None


def effects(
    model: nn.Module,
    inputs: Tensor,
    site: SiteInfo,
    units: Sequence[int],
    *,
    target: int,
    against: int | None = None,
) -> Effects:
    """Run one image through the network once per unit and change, many rows at a time.

    Everything behind the site, later winners too, is computed anew.

    Args:
        model: A classifier.
        inputs: ``(1, ...)`` one image, preprocessed.
        site: Where the units are.
        units: Indices; at least one.
        target, against: What is explained: the target's logit, less the other one's if given.
    """
    competes = site.competitors is not None
    dim = None if competes else site.channel_dim
    changes = [Change(site.name, (unit,), "silence", channel_dim=dim) for unit in units]
    rivals = _have_rivals(model, site, units)
    changes += [
        Change(site.name, (unit,), "hand_over")
        for unit, rival in zip(units, rivals, strict=True)
        if rival
    ]
    with evaluation(model), torch.no_grad():
        usual = _explained(model(inputs), target, against)
    logits = variants(model, inputs, changes, silent=True)[:, 0]
    found = (_explained(logits, target, against) - usual).tolist()
    measured = iter(found[len(units) :])
    handed = tuple(next(measured) if rival else None for rival in rivals)
    return Effects(tuple(found[: len(units)]), handed if competes else None)


def _have_rivals(model: nn.Module, site: SiteInfo, units: Sequence[int]) -> list[bool]:
    """Say of each unit whether another one of its block could pass in its place."""
    if site.competitors is None:
        return [False] * len(units)
    name, call = split_call(site.name)
    editor = getattr(model.get_submodule(name), "edit", None)
    if editor is None:
        return [True] * len(units)
    rules, size = editor.composed(call), site.competitors
    return [bool(rules.able(unit // size, size) - {unit}) for unit in units]


def _explained(logits: Tensor, target: int, against: int | None) -> Tensor:
    picked = logits[:, target].double()
    return picked if against is None else picked - logits[:, against].double()
