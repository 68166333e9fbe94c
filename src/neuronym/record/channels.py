"""Which dimension of a tensor holds the units: followed from operation to operation.

Convolutions write their units into dimension 1 and linear maps into the last one. Everything
else in a network moves that dimension around (permutations, views, reductions) or leaves it
where it is. :class:`ChannelTracker` follows it through one forward pass, so that the answer for
a block, a residual sum or an activation comes from what was computed and not from a shape.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from neuronym.record.rules import LIKE_POINTWISE, MANY_OUTPUTS, RULES, Call, Origin

__all__ = ["ChannelTracker"]

_STILL_THE_TOKEN = {"expand", "repeat", "clone", "_to_copy", "detach", "alias", "add", "view"}


class ChannelTracker(TorchDispatchMode):
    """Follows the units' dimension through the operations inside its block.

    Args:
        class_tokens: Parameters that are class tokens; a tensor to which one is prepended is
            known to begin with it.
    """

    def __init__(self, class_tokens: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._origins: dict[int, Origin] = {}
        self._alive: list[Tensor] = list(class_tokens)  # an id stays taken while its tensor lives
        self._tokens = {id(parameter) for parameter in self._alive}

    def origin(self, tensor: Tensor) -> Origin | None:
        """Return what is known of a tensor that was made inside the block."""
        return self._origins.get(id(tensor))

    def declare(self, tensor: Tensor, channel: int) -> None:
        """State the dimension of the units of ``tensor``, where the one who made it says so."""
        before = self.origin(tensor)
        self._keep(tensor, Origin(channel % tensor.dim(), before is not None and before.token))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        with contextlib.suppress(IndexError, TypeError, ValueError):  # a form that no rule knows
            self._follow(func, args, kwargs or {}, result)
        return result

    def _keep(self, tensor: Tensor, origin: Origin) -> None:
        self._origins[id(tensor)] = origin
        self._alive.append(tensor)

    def _follow(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
    ) -> None:
        name = func.overloadpacket.__name__
        several = result if isinstance(result, (tuple, list)) else [result]
        outputs = [value for value in several if isinstance(value, Tensor)]
        if not outputs:
            return
        if name in ("cat", "stack"):
            self._joined(name, args, kwargs, outputs[0])
            return
        given = args[1:] if name == "addmm" else args  # addmm begins with the bias
        first = given[0] if given and isinstance(given[0], Tensor) else None
        if id(first) in self._tokens and name in _STILL_THE_TOKEN:
            self._tokens.add(id(outputs[0]))
            self._alive.append(outputs[0])
        if first is not None and name in RULES:
            found = RULES[name](Call(first, args, kwargs, outputs[0], self.origin(first)))
            for each in outputs if name in MANY_OUTPUTS else outputs[:1]:
                if found is not None and found.channel < each.dim():
                    self._keep(each, found)
        elif torch.Tag.pointwise in func.tags or name in LIKE_POINTWISE:
            self._pointwise(args, outputs[0])

    def _pointwise(self, args: tuple[Any, ...], out: Tensor) -> None:
        for value in args:
            known = self.origin(value) if isinstance(value, Tensor) else None
            if known is not None and value.shape == out.shape:
                self._keep(out, known)
                return

    def _joined(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor
    ) -> None:
        parts = list(args[0])
        dim = int(args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.dim()
        known = next((o for part in parts if (o := self.origin(part)) is not None), None)
        if known is None:
            return
        if name == "stack":
            known = Origin(known.channel + (dim <= known.channel))
        elif dim != known.channel:
            known = replace(known, token=id(parts[0]) in self._tokens)
        self._keep(out, known)
