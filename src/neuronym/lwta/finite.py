"""Where activations stop being numbers, by the name of the competition that is given them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from neuronym.errors import InputError, NeuronymError
from neuronym.lwta.module import lwta_modules

__all__ = ["NonFiniteError", "finite"]


class NonFiniteError(NeuronymError, ArithmeticError):
    """Activations are NaN or infinite."""


@contextlib.contextmanager
def finite(model: nn.Module) -> Iterator[nn.Module]:
    """Inside the block, stop at the first LWTA layer that is given a NaN or an infinite value.

    A NaN wins its block, so that it reaches the output without this too, but minus infinity loses
    and is not seen. The check reads each layer's activations once more and says where the trouble
    begins.

    Raises:
        InputError: ``model`` has no LWTA module.
        NonFiniteError: In the block, naming the layer and its call.
    """
    modules = lwta_modules(model)
    if not modules:
        raise InputError("the model has no LWTA module: nothing to check")
    calls: Counter[str] = Counter()

    def check(name: str) -> Any:
        def hook(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
            z = next((v for v in (*positional, *named.values()) if isinstance(v, Tensor)), None)
            if z is not None and not bool(torch.isfinite(z.detach()).all()):
                raise NonFiniteError(_told(name, calls[name], z.detach()))
            calls[name] += 1

        return hook

    handles = [
        module.register_forward_pre_hook(check(name), with_kwargs=True)
        for name, module in modules.items()
    ]
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()


def _told(name: str, call: int, z: Tensor) -> str:
    nan, infinite = int(z.isnan().sum()), int(z.isinf().sum())
    return (
        f"the activations given to LWTA layer {name!r} in call {call} hold {nan} NaN and "
        f"{infinite} infinite of {z.numel()} values; check the inputs and the layers before it, "
        "or try a lower learning rate, gradient clipping, or float32 in place of half precision"
    )
