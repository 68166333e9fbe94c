"""Where a loss stopped being a number."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuronym.errors import NeuronymError

__all__ = ["DivergedError", "Trouble", "first_bad_layer"]


class DivergedError(NeuronymError, ArithmeticError):
    """The loss is NaN or infinite, in training or on validation."""


class Trouble(NamedTuple):
    """Where values stop being finite, and what to try."""

    place: str
    advice: str


def first_bad_layer(
    module: nn.Module, inputs: Tensor, *, precision: torch.dtype | None = None
) -> Trouble:
    """Say where values stop being finite: the input, a layer's weights, or a layer's output.

    Args:
        module: In the mode that gave the loss; it is run once more.
        inputs: The batch that gave the loss.
        precision: Autocast dtype of that run, or ``None``.
    """
    if not torch.isfinite(inputs).all():
        return Trouble("the input images are not finite", "check the preprocessing's mean and std")
    lower = "lower learning_rate, lengthen warmup, or set clip_norm"
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            layer, _, kind = name.rpartition(".")
            place = f"the {kind} of layer {layer!r} is not finite since an earlier step"
            return Trouble(place, lower)
    enabled = precision is not None
    with (
        torch.no_grad(),
        _watched(module) as found,
        torch.autocast(inputs.device.type, dtype=precision, enabled=enabled),
    ):
        module(inputs)
    if not found:
        return Trouble("every layer's output is finite: the loss itself overflows", lower)
    place = f"the first layer whose output is not finite is {found[0]!r}"
    if precision is torch.float16:
        return Trouble(place, "use precision='bfloat16' or 'float32', whose range is wider")
    return Trouble(place, lower)


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
