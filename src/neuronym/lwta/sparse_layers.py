"""Linear layers and 1×1 convolutions that read only the columns of the winners before them.

The weight keeps its shape, name and values; only its memory is laid out column by column. It is
the one copy, so that whatever changes it, such as ``load_state_dict`` or an optimiser, holds at
once, and so does a write into what ``state_dict`` returns.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronym.lwta.columns import product
from neuronym.lwta.engine import capturing
from neuronym.lwta.handover import Winners, note_on

__all__ = ["Layer", "SparseConv2d", "SparseLinear", "columns_of", "dense_layer", "sparse_layer"]


class SparseLinear(nn.Linear):
    """A linear layer that reads only the winners' columns where an LWTA layer says who won."""

    def forward(self, input: Tensor) -> Tensor:
        found = _product(self, input)
        if found is None:
            return functional.linear(input, self.weight, self.bias)
        return found


class SparseConv2d(nn.Conv2d):
    """A 1×1 convolution that reads only the winners' columns where an LWTA layer names them."""

    def forward(self, input: Tensor) -> Tensor:
        found = _product(self, input)
        if found is None:
            dense: Tensor = self._conv_forward(input, self.weight, self.bias)
            return dense
        return found


Layer: TypeAlias = SparseLinear | SparseConv2d


def sparse_layer(dense: nn.Linear | nn.Conv2d) -> Layer:
    """Return the sparse layer with the parameters, hooks and mode of ``dense``."""
    kind: type[Layer] = SparseLinear if isinstance(dense, nn.Linear) else SparseConv2d
    made = kind.__new__(kind)
    made.__dict__.update(dense.__dict__)
    made.weight.data = _turned(made.weight.data)
    return made


def dense_layer(layer: Layer) -> nn.Module:
    """Return the ordinary layer with the parameters, hooks and mode of ``layer``."""
    kind = nn.Linear if isinstance(layer, SparseLinear) else nn.Conv2d
    made: Any = kind.__new__(kind)
    made.__dict__.update(layer.__dict__)
    made.weight.data = made.weight.data.contiguous()
    return made  # type: ignore[no-any-return]


def columns_of(weight: Tensor) -> Tensor:
    """Return the transposed weight ``(units, outputs)``, contiguous; a view where it can be."""
    return _view(weight).contiguous()


def _view(weight: Tensor) -> Tensor:
    return (weight if weight.dim() == 2 else weight[:, :, 0, 0]).t()


def _turned(weight: Tensor) -> Tensor:
    """Return the same values laid out column by column."""
    turned: Tensor = columns_of(weight).t().view(weight.shape)
    return turned


def _product(layer: Layer, y: Tensor) -> Tensor | None:
    """Return the product with the winners' columns, or ``None`` where it is not to be used."""
    won = note_on(y)
    if won is None or not _may(layer, y, won):
        return None
    if not _view(layer.weight).is_contiguous():  # someone gave it other memory
        layer.weight.data = _turned(layer.weight.data)
    bias = layer.bias.detach() if layer.bias is not None else None
    return product(y, won, _view(layer.weight.detach()), bias)


def _may(layer: Layer, y: Tensor, won: Winners) -> bool:
    weights = layer.weight.requires_grad or (layer.bias is not None and layer.bias.requires_grad)
    return _reads(layer, y, won) and not (
        layer.training
        or (torch.is_grad_enabled() and weights)
        or capturing()
        or _autocast(y.device.type)
        or y.dtype != layer.weight.dtype
        or (won.version is None and layer._forward_pre_hooks)
    )


def _reads(layer: Layer, y: Tensor, won: Winners) -> bool:
    """Whether the axis that competed is the one that the layer multiplies."""
    if isinstance(layer, SparseLinear):
        axis, units = y.dim() - 1, layer.in_features
    else:
        axis, units = 1 if y.dim() == 4 else -1, layer.in_channels
    return won.axis == axis and y.shape[axis] == units


def _autocast(device: str) -> bool:
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # before torch 2.4 it takes no device
        return torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled()
