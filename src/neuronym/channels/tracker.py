"""Follow the dimension that holds the units from operation to operation.

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

from neuronym.channels.rules import LIKE_POINTWISE, MANY_OUTPUTS, PRODUCERS, RULES, Call, Origin

__all__ = ["ChannelTracker"]

_STILL_THE_TOKEN = {"expand", "repeat", "clone", "_to_copy", "detach", "alias", "add", "view"}


class ChannelTracker(TorchDispatchMode):
    """Follows the units' dimension through the operations inside its block.

    Where inputs that are joined disagree, the first one's dimension goes on as :meth:`origin`,
    and the result is :meth:`disputed` until a layer decides anew. It is for the caller to say
    what a dispute means.

    Args:
        class_tokens: Parameters that are class tokens; a tensor to which one is prepended is
            known to begin with it.
        broadcast: Whether an input that is broadcast over the result, such as a factor per
            channel, tells where its units are if no input of the result's shape does.
    """

    def __init__(self, class_tokens: Iterable[Tensor] = (), *, broadcast: bool = False) -> None:
        super().__init__()
        self._origins: dict[int, Origin] = {}
        self._disputed: set[int] = set()
        self._alive: list[Tensor] = list(class_tokens)  # an id stays taken while its tensor lives
        self._tokens = {id(parameter) for parameter in self._alive}
        self._broadcast = broadcast

    def origin(self, tensor: Tensor) -> Origin | None:
        """Return what is known of a tensor that was made inside the block."""
        return self._origins.get(id(tensor))

    def disputed(self, tensor: Tensor) -> bool:
        """Whether the tensors that it was made from disagree about the dimension."""
        return id(tensor) in self._disputed

    def declare(self, tensor: Tensor, channel: int) -> None:
        """State the dimension of the units of ``tensor``, where the one who made it says so."""
        before = self.origin(tensor)
        known = Origin(channel % tensor.dim(), before is not None and before.token)
        self._keep(tensor, known, disputed=False)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        with contextlib.suppress(IndexError, TypeError, ValueError):  # a form that no rule knows
            self._follow(func, args, kwargs or {}, result)
        return result

    def _keep(self, tensor: Tensor, known: Origin | None, *, disputed: bool) -> None:
        key = id(tensor)
        if known is not None and known.channel < tensor.dim():
            self._origins[key] = known
        else:
            self._origins.pop(key, None)
        if disputed:
            self._disputed.add(key)
        else:
            self._disputed.discard(key)
        if key in self._origins or disputed:
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
            disputed = name not in PRODUCERS and self.disputed(first)
            for each in outputs if name in MANY_OUTPUTS else outputs[:1]:
                self._keep(each, found, disputed=disputed)
        elif torch.Tag.pointwise in func.tags or name in LIKE_POINTWISE:
            self._pointwise(args, outputs[0])
        elif torch.Tag.inplace_view in func.tags:  # its dimensions are no longer what they were
            self._keep(outputs[0], None, disputed=False)

    def _pointwise(self, args: tuple[Any, ...], out: Tensor) -> None:
        tensors = [value for value in args if isinstance(value, Tensor)]
        groups = [[value for value in tensors if value.shape == out.shape]]
        if self._broadcast:
            groups.append([value for value in tensors if value.dim() == out.dim()])
        for group in groups:
            origins, disputed = self._heard(group)
            if origins or disputed:
                self._keep(out, origins[0] if origins else None, disputed=disputed)
                return

    def _heard(self, tensors: Iterable[Tensor]) -> tuple[list[Origin], bool]:
        """Return what is known of the tensors, and whether there is a dispute among them."""
        tensors = list(tensors)
        origins = [o for value in tensors if (o := self.origin(value)) is not None]
        old = any(self.disputed(value) for value in tensors)
        return origins, old or len({each.channel for each in origins}) > 1

    def _joined(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor
    ) -> None:
        parts = list(args[0])
        dim = int(args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.dim()
        origins, disputed = self._heard(parts)
        known = origins[0] if origins else None
        if known is not None and name == "stack":
            known = Origin(known.channel + (dim <= known.channel))
        elif known is not None and dim != known.channel:
            known = replace(known, token=id(parts[0]) in self._tokens)
        self._keep(out, known, disputed=disputed)
