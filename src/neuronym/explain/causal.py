"""What a winner silenced, or its block handed over, really changes: the network runs again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuronym.models import Change, variants
from neuronym.modes import evaluation
from neuronym.results import SiteInfo

__all__ = ["Effects", "effects"]


@dataclass(frozen=True)
class Effects:
    """Change of what is explained, in logits, per unit in the order in which they were given.

    Attributes:
        silenced: The unit passes zero, and where it won nobody else passes anything.
        handed_over: It cannot win, and the runner-up passes instead; ``None`` at a dense site.
    """

    silenced: tuple[float, ...]
    handed_over: tuple[float, ...] | None


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
    if competes:
        changes += [Change(site.name, (unit,), "hand_over") for unit in units]
    with evaluation(model), torch.no_grad():
        usual = _explained(model(inputs), target, against)
    logits = variants(model, inputs, changes)[:, 0]
    found = (_explained(logits, target, against) - usual).tolist()
    count = len(units)
    return Effects(tuple(found[:count]), tuple(found[count:]) if competes else None)


def _explained(logits: Tensor, target: int, against: int | None) -> Tensor:
    picked = logits[:, target].double()
    return picked if against is None else picked - logits[:, against].double()
