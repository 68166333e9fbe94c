"""The best concepts of each unit, gathered block by block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Ranking", "best_of", "merged"]


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best concepts of each unit, best first; the lower index first among equals.

    Attributes:
        scores: ``(units, keep)``.
        concepts: ``(units, keep)`` int64 concept indices.
    """

    scores: Tensor
    concepts: Tensor


def best_of(values: Tensor, keep: int) -> Ranking:
    """Return the ``keep`` largest of each row (all, where there are fewer)."""
    keep = min(keep, values.shape[1])
    top, indices = torch.topk(values, keep, dim=1)
    unclear = (values >= top[:, -1:]).sum(1) > keep
    if bool(unclear.any()):
        for rows in unclear.nonzero()[:, 0].split(256):
            ordered = values[rows].sort(dim=1, descending=True, stable=True)
            indices[rows] = ordered.indices[:, :keep]
    by_index = indices.sort(1).values
    found = values.gather(1, by_index)
    order = found.argsort(dim=1, descending=True, stable=True)
    return Ranking(found.gather(1, order), by_index.gather(1, order))


def merged(before: Ranking | None, block: Ranking, start: int, keep: int) -> Ranking:
    """Join the best so far and the best of a block whose first concept is ``start``."""
    if before is None:
        return Ranking(block.scores, block.concepts + start)
    scores = torch.cat([before.scores, block.scores], 1)
    concepts = torch.cat([before.concepts, block.concepts + start], 1)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :keep]
    return Ranking(scores.gather(1, order), concepts.gather(1, order))
