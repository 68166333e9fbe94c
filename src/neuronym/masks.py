"""How to learn who won: what recording is handed, so that it knows no competition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MaskReader", "ReadMask"]

ReadMask = Callable[[str, int], "Tensor | None"]


@dataclass(frozen=True)
class MaskReader:
    """How to learn who won; the caller gives it, so that recording knows no competition.

    Attributes:
        competitors: Module name → U, for every module that competes.
        open: Returns a context in which forward passes run; it yields a function
            ``(module name, call) → mask`` that is called right after that module's call and
            returns a bool tensor shaped like its output, true where a unit won.
    """

    competitors: Mapping[str, int]
    open: Callable[[], AbstractContextManager[ReadMask]]
