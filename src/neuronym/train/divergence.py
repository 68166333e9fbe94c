"""Where a loss stopped being a number."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from neuronym.errors import NeuronymError

__all__ = ["DivergedError", "first_bad_layer"]


class DivergedError(NeuronymError, ArithmeticError):
    """The training loss is NaN or infinite."""


@torch.no_grad()
def first_bad_layer(module: nn.Module, inputs: Tensor) -> str:
    """Say where values stop being finite: the input, a layer's weights, or a layer's output.

    Args:
        module: In training mode; it is run once more.
        inputs: The batch that gave the loss.
    """
    if not torch.isfinite(inputs).all():
        return "the input images are not finite"
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            layer, _, kind = name.rpartition(".")
            return f"the {kind} of layer {layer!r} is not finite since an earlier step"
    with _watched(module) as found:
        module(inputs)
    if found:
        return f"the first layer whose output is not finite is {found[0]!r}"
    return "every layer's output is finite: the loss itself overflows"


@contextlib.contextmanager
def _watched(module: nn.Module) -> Iterator[list[str]]:
    found: list[str] = []
    handles = []
    try:
        for name, part in module.named_modules():
            if not name or next(part.children(), None) is not None:
                continue

            def hook(_: nn.Module, __: Any, output: Any, *, layer: str = name) -> None:
                if isinstance(output, Tensor) and not torch.isfinite(output).all():
                    found.append(layer)

            handles.append(part.register_forward_hook(hook))
        yield found
    finally:
        for handle in handles:
            handle.remove()
