"""Where competition and recording meet: the mask of every LWTA module, for the recorder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from torch import Tensor, nn

from neuronym.lwta.module import lwta_modules
from neuronym.lwta.trace import trace as trace_of
from neuronym.masks import MaskReader

__all__ = ["mask_reader"]


def mask_reader(module: nn.Module) -> MaskReader | None:
    """Return the reader of winner masks of a model, or ``None`` where nothing competes."""
    competing = lwta_modules(module)
    if not competing:
        return None

    @contextlib.contextmanager
    def opened() -> Iterator[Callable[[str, int], Tensor | None]]:
        with trace_of(module, keep="winners") as trace:

            def read(name: str, call: int) -> Tensor | None:
                for competition in reversed(trace):
                    if competition.name == name and competition.call == call:
                        return competition.mask
                return None

            yield read

    return MaskReader({name: part.competitors for name, part in competing.items()}, opened)
