"""Run what comes before a site once per image, however often what comes after it runs."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Prefix", "can_replay", "replayed"]


@dataclass
class _Call:
    """A call that is not finished: what it replays if it is not replayed itself."""

    parts: list[tuple[nn.Module, Tensor]] = field(default_factory=list)


class Prefix:
    """What the modules returned that finished before a site was called, for one image.

    Of nested modules the outermost counts; one whose output is not a tensor that begins with the
    image counts by its parts. Outputs are copies, so that no later operation in place changes
    them.

    Attributes:
        outputs: Module → its outputs, in the order of its calls.
    """

    def __init__(self, module: nn.Module, image: Tensor, site: str) -> None:
        """Run the module once on ``(1, ...)``."""
        self.outputs: dict[nn.Module, deque[Tensor]] = {}
        self._open = [_Call()]
        self._target = module.get_submodule(site)
        self._passed = False
        handles = []
        try:
            for part in module.modules():
                handles.append(part.register_forward_pre_hook(self._enter))
                handles.append(part.register_forward_hook(self._leave))
            module(image)
        finally:
            for handle in handles:
                handle.remove()
        for part, output in self._open[0].parts:
            self.outputs.setdefault(part, deque()).append(output)

    def _enter(self, part: nn.Module, _: object) -> None:
        if part is self._target and not self._passed:
            self._passed = True
            while len(self._open) > 1:  # what is open stays open: only its parts are over
                above = self._open.pop()
                self._open[-1].parts += above.parts
        elif not self._passed:
            self._open.append(_Call())

    def _leave(self, part: nn.Module, _: object, output: object) -> None:
        if self._passed:
            return
        call = self._open.pop()
        if isinstance(output, Tensor) and output.dim() > 0 and output.shape[0] == 1:
            call.parts = [(part, output.clone())]
        self._open[-1].parts += call.parts


def can_replay(module: nn.Module, call: int) -> bool:
    """Whether outputs may stand for calls.

    Not where somebody else watches modules by hooks or has put a forward of their own in one
    (compiled modules do), nor for a later call.

    Args:
        module: The network.
        call: Which call of the site counts; an earlier one might be replayed inside its parent.
    """
    return call == 0 and not any(
        part._forward_hooks
        or part._forward_pre_hooks
        or "forward" in vars(part)
        or isinstance(part, torch.jit.ScriptModule)
        for part in module.modules()
    )


@contextlib.contextmanager
def replayed(prefix: Prefix, images: int) -> Iterator[None]:
    """Let modules return their outputs of a :class:`Prefix`, repeated for so many images.

    A module runs as ever once its outputs are used up. All are as before afterwards.
    """
    parts = list(prefix.outputs)
    try:
        for part in parts:
            part.__dict__["forward"] = _forward(part, deque(prefix.outputs[part]), images)
        yield
    finally:
        for part in parts:
            part.__dict__.pop("forward", None)


def _forward(part: nn.Module, outputs: deque[Tensor], images: int) -> Callable[..., Any]:
    original = part.forward

    def forward(*given: object, **named: object) -> object:
        if not outputs:
            return original(*given, **named)
        output = outputs.popleft()
        return output.expand(images, *output.shape[1:]).clone()

    return forward
