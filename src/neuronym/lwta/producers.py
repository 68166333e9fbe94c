"""Which dimension of a tensor holds units, followed from the operation that produced them.

A convolution writes its units to dimension 1, a linear map to the last one, and normalisation
over channels says where they are. Other operations move that dimension or leave it. So the answer
for an activation's input comes from what was computed, never from the number of dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["CONFLICT", "Producers"]

CONFLICT = -1
"""Stands for the dimension where two producers disagree."""

Rule = Callable[[Tensor, Tensor, tuple[Any, ...], "int | None"], "int | None"]
"""(first input, output, arguments, dimension in the first input) → dimension in the output."""


def _one(first: Tensor, out: Tensor, args: tuple[Any, ...], known: int | None) -> int | None:
    return 1


def _last(first: Tensor, out: Tensor, args: tuple[Any, ...], known: int | None) -> int | None:
    return out.dim() - 1


def _same(first: Tensor, out: Tensor, args: tuple[Any, ...], known: int | None) -> int | None:
    return known if first.dim() == out.dim() else None


def _layer_norm(first: Tensor, out: Tensor, args: tuple[Any, ...], known: int | None) -> int | None:
    return out.dim() - 1 if known is None and len(args[1]) == 1 else known


def _view(first: Tensor, out: Tensor, args: tuple[Any, ...], known: int | None) -> int | None:
    """Find the dimension of the same size with the same number of elements before it."""
    if known is None or known == CONFLICT:
        return known
    before, size = math.prod(first.shape[:known]), first.shape[known]
    places = [
        dim
        for dim in range(out.dim())
        if out.shape[dim] == size and math.prod(out.shape[:dim]) == before
    ]
    return places[0] if size > 1 and places else None


def _permute(first: Tensor, out: Tensor, args: tuple[Any, ...], known: int | None) -> int | None:
    if known is None or known == CONFLICT:
        return known
    return [int(dim) % first.dim() for dim in args[1]].index(known)


def _transpose(first: Tensor, out: Tensor, args: tuple[Any, ...], known: int | None) -> int | None:
    if known is None or known == CONFLICT:
        return known
    a, b = (int(dim) % first.dim() for dim in (args[1:3] if len(args) > 2 else (0, 1)))
    return {a: b, b: a}.get(known, known)


def _dims(first: Tensor, args: tuple[Any, ...]) -> list[int]:
    given = args[1] if len(args) > 1 and args[1] is not None else range(first.dim())
    return [int(dim) % first.dim() for dim in ([given] if isinstance(given, int) else given)]


def _reduced(first: Tensor, out: Tensor, args: tuple[Any, ...], known: int | None) -> int | None:
    if known is None or known == CONFLICT:
        return known
    gone = _dims(first, args)
    if known in gone:
        return None
    return known if out.dim() == first.dim() else known - sum(dim < known for dim in gone)


def _squeezed(first: Tensor, out: Tensor, args: tuple[Any, ...], known: int | None) -> int | None:
    if known is None or known == CONFLICT:
        return known
    gone = [dim for dim in _dims(first, args) if first.shape[dim] == 1]
    return None if known in gone else known - sum(dim < known for dim in gone)


def _unsqueezed(first: Tensor, out: Tensor, args: tuple[Any, ...], known: int | None) -> int | None:
    if known is None or known == CONFLICT:
        return known
    return known + (int(args[1]) % out.dim() <= known)


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            *("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution"),
            *("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "native_group_norm"),
            *("_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
            "_batch_norm_with_update",
        ),
        _one,
    ),
    **dict.fromkeys(("addmm", "mm", "linear", "_native_multi_head_attention"), _last),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm", "rms_norm"), _layer_norm),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), _view),
    "permute": _permute,
    **dict.fromkeys(("transpose", "t"), _transpose),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "select", "unbind"), _reduced),
    "squeeze": _squeezed,
    "unsqueeze": _unsqueezed,
    **dict.fromkeys(
        (
            *("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d"),
            *("adaptive_max_pool2d", "upsample_nearest2d", "upsample_bilinear2d"),
            *("upsample_bicubic2d", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"),
            *("slice", "index_select", "split", "split_with_sizes", "chunk", "roll", "flip"),
            *("native_dropout", "_softmax", "_log_softmax", "hardswish", "hardswish_"),
            *("_to_copy", "copy_", "clone", "detach", "detach_", "alias", "lift_fresh"),
        ),
        _same,
    ),
}
"""Name of an operation → where the units are in its output."""


class Producers(TorchDispatchMode):
    """Follows the dimension of the units through every operation inside its block."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, int] = {}
        self._alive: list[Tensor] = []  # an id stays taken while its tensor lives

    def dimension(self, tensor: Tensor) -> int | None:
        """Return the dimension of the units: ``None`` if unknown, :data:`CONFLICT` if disputed."""
        return self._known.get(id(tensor))

    def declare(self, tensor: Tensor, dimension: int) -> None:
        """State where the units of a tensor are, where the operation is known from outside."""
        self._known[id(tensor)] = dimension
        self._alive.append(tensor)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = [
            value
            for value in (result if isinstance(result, (tuple, list)) else [result])
            if isinstance(value, Tensor)
        ]
        name = func.overloadpacket.__name__
        given = args[1:] if name == "addmm" else args  # addmm begins with the bias
        for out in outputs:
            known = self._follow(name, func, given, out)
            if known is None:
                self._known.pop(id(out), None)
            elif known < out.dim():
                self.declare(out, known)
        return result

    def _follow(self, name: str, func: Any, args: tuple[Any, ...], out: Tensor) -> int | None:
        if name == "cat":
            return self._agreed(args[0], out)
        if name in RULES and args and isinstance(args[0], Tensor):
            return RULES[name](args[0], out, args, self.dimension(args[0]))
        if torch.Tag.pointwise in func.tags:
            return self._agreed(args, out)
        return None

    def _agreed(self, values: Any, out: Tensor) -> int | None:
        """Return what the inputs say that have as many dimensions as the output."""
        tensors = [v for v in values if isinstance(v, Tensor) and v.dim() == out.dim()]
        whole = [v for v in tensors if v.shape == out.shape]
        for group in (whole, tensors):  # a broadcast factor counts where nothing else is known
            known = {dim for v in group if (dim := self.dimension(v)) is not None}
            if known:
                return known.pop() if len(known) == 1 else CONFLICT
        return None
