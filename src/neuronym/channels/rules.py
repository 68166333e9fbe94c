"""Where each operation puts the dimension of the units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

__all__ = ["LIKE_POINTWISE", "MANY_OUTPUTS", "PRODUCERS", "RULES", "Call", "Origin"]


@dataclass(frozen=True)
class Origin:
    """What is known of a tensor.

    Attributes:
        channel: Non-negative dimension of the units.
        token: Whether the first position is a class token.
    """

    channel: int
    token: bool = False


@dataclass(frozen=True)
class Call:
    """One operation: its first tensor, arguments and output, and what is known of the first."""

    first: Tensor
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    out: Tensor
    known: Origin | None

    def dims(self, place: int = 1) -> list[int]:
        """Return an argument that holds one dimension or several, as non-negative numbers."""
        given = self.args[place]
        several = given if isinstance(given, (list, tuple)) else [given]
        return [int(dim) % self.first.dim() for dim in several]


Rule = Callable[[Call], Origin | None]


def _second(call: Call) -> Origin:
    return Origin(1)


def _linear(call: Call) -> Origin:
    return Origin(call.out.dim() - 1, call.known is not None and call.known.token)


def _same(call: Call) -> Origin | None:
    return call.known if call.out.dim() == call.first.dim() else None


def _last_norm(call: Call) -> Origin | None:
    if call.known is None and len(call.args[1]) == 1:
        return Origin(call.out.dim() - 1)
    return call.known


def _view(call: Call) -> Origin | None:
    """Find the new dimension with the same size and the same number of elements before it."""
    if call.known is None or call.first.shape[call.known.channel] < 2:
        return None
    size = call.first.shape[call.known.channel]
    before = math.prod(call.first.shape[: call.known.channel])
    for dim in range(call.out.dim()):
        if math.prod(call.out.shape[:dim]) == before and call.out.shape[dim] == size:
            return replace(call.known, channel=dim)
    return None


def _permute(call: Call) -> Origin | None:
    if call.known is None:
        return None
    return replace(call.known, channel=call.dims().index(call.known.channel))


def _transpose(call: Call) -> Origin | None:
    if call.known is None:
        return None
    a, b = (call.dims(1)[0], call.dims(2)[0]) if len(call.args) > 2 else (0, 1)
    moved = {a: b, b: a}.get(call.known.channel, call.known.channel)
    return replace(call.known, channel=moved)


def _without(channel: int, dims: set[int]) -> Origin:
    return Origin(channel - sum(dim < channel for dim in dims))


def _reduce(call: Call, place: int = 1) -> Origin | None:
    if call.known is None or len(call.args) <= place or call.args[place] is None:
        return None
    dims = set(call.dims(place))
    if call.known.channel in dims:
        return None
    if call.out.dim() == call.first.dim():  # keepdim
        return Origin(call.known.channel)
    return _without(call.known.channel, dims)


def _norm(call: Call) -> Origin | None:
    return _reduce(call, 2)  # behind the order of the norm


def _select(call: Call) -> Origin | None:
    dim = call.dims()[0] if len(call.args) > 1 else 0
    if call.known is None or dim == call.known.channel:
        return None
    return _without(call.known.channel, {dim})


def _slice(call: Call) -> Origin | None:
    if call.known is None:
        return None
    dim = call.dims()[0] if len(call.args) > 1 else 0
    start = call.args[2] if len(call.args) > 2 else None
    begins_later = dim not in (0, call.known.channel) and bool(start)
    return replace(call.known, token=call.known.token and not begins_later)


def _unsqueeze(call: Call) -> Origin | None:
    if call.known is None:
        return None
    dim = int(call.args[1]) % call.out.dim()
    return Origin(call.known.channel + (dim <= call.known.channel))


def _squeeze(call: Call) -> Origin | None:
    if call.known is None:
        return None
    given = call.dims() if len(call.args) > 1 else range(call.first.dim())
    gone = {dim for dim in given if call.first.shape[dim] == 1}
    return None if call.known.channel in gone else _without(call.known.channel, gone)


def _expand(call: Call) -> Origin | None:
    if call.known is None:
        return None
    return replace(call.known, channel=call.known.channel + call.out.dim() - call.first.dim())


MANY_OUTPUTS = {"split", "split_with_sizes", "chunk", "unbind"}

LIKE_POINTWISE = {
    *("_softmax", "_log_softmax", "native_dropout", "roll", "flip"),
    *("hardswish", "hardswish_", "hardtanh", "hardtanh_"),
    *("_to_copy", "copy", "copy_", "clone", "detach", "detach_", "alias", "lift_fresh"),
}
"""Operations that leave every dimension where it is, beside those that torch tags pointwise."""

PRODUCERS: dict[str, Rule] = {
    **dict.fromkeys(
        (
            *("convolution", "_convolution", "mkldnn_convolution", "cudnn_convolution"),
            *("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"),
            *("_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
            *("_batch_norm_with_update", "native_group_norm"),
        ),
        _second,
    ),
    **dict.fromkeys(("addmm", "mm", "linear", "_native_multi_head_attention"), _linear),
}
"""Operations that decide where the units are, whatever they are given."""

RULES: dict[str, Rule] = {
    **PRODUCERS,
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm", "rms_norm"), _last_norm),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), _view),
    "permute": _permute,
    **dict.fromkeys(("transpose", "t"), _transpose),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), _reduce),
    "linalg_vector_norm": _norm,
    **dict.fromkeys(("select", "unbind"), _select),
    "slice": _slice,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "expand": _expand,
    **dict.fromkeys(
        (
            *("max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d"),
            *("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d"),
            *("adaptive_max_pool3d", "upsample_nearest2d", "upsample_bilinear2d"),
            *("upsample_bicubic2d", "upsample_nearest3d", "upsample_trilinear3d"),
            *("constant_pad_nd", "reflection_pad2d", "replication_pad2d"),
            *("index_select", "split", "split_with_sizes", "chunk"),
        ),
        _same,
    ),
}
"""Name of an operation → what is known of its output."""
