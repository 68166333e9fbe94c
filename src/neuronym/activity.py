"""The active fraction, by the one definition that recording, training and diagnosis share.

Where units compete, an entry of the output is active if the mask is true there, also if the
winner's value happens to be zero; elsewhere it is active if it is not zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Activity"]


@dataclass
class Activity:
    """Counts the active entries of a site's outputs.

    Attributes:
        active: Entries that the mask let pass or, at a dense site, that are not zero.
        values: All entries: units, positions and images.
    """

    active: int = 0
    values: int = 0

    def add(self, output: Tensor, mask: Tensor | None = None) -> None:
        """Count one output, by its mask (bool, shaped like it) where there is one."""
        self.active += int(torch.count_nonzero(output if mask is None else mask))
        self.values += output.numel()

    def merge(self, other: Activity) -> None:
        """Add what another one counted."""
        self.active += other.active
        self.values += other.values

    @property
    def fraction(self) -> float | None:
        """Share of the entries that are active; ``None`` where there was none."""
        return self.active / self.values if self.values else None
