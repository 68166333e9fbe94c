"""The modes of a module's parts: evaluation for a while, then what each was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

__all__ = ["evaluation"]


@contextlib.contextmanager
def evaluation(module: nn.Module) -> Iterator[None]:
    """Put every sub-module in evaluation mode for the block, then back to what each was."""
    trained = [part for part in module.modules() if part.training]
    if trained:
        module.eval()
    try:
        yield
    finally:
        for part in trained:
            part.training = True
