"""A head on the features of any backbone: what is cut off, what is put on, and the whole.

The features are the input of the backbone's last linear layer (which is cut off), or the pooled
output of any module. The head is linear, local winner-takes-all, linear; its dense twins have a
ReLU in place of the competition, or nothing but one linear layer.
"""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuronym.errors import DivisibilityError, InputError, UnreadableError, unknown
from neuronym.lwta import LWTA
from neuronym.lwta.layout import check_competitors, nearest_divisors

__all__ = ["ACTIVATIONS", "HeadConfig", "HeadedModel", "classifier_of", "linear_of", "make_head"]

ACTIVATIONS = ("lwta", "relu", "linear")
_POOLING = re.compile(r"mean|max|token(:\d+)?")
_FIELDS = ("backbone", "site", "cut", "pooling", "channel_dim", "features", "hidden", "activation")


@dataclass(frozen=True)
class HeadConfig:
    """What a head stands on and what it is made of; saved with the model.

    Attributes:
        backbone: The whole configuration of a backbone that is a model folder itself, else
            ``None`` (the model's SPEC says it).
        site: Name of the module in the backbone where the features are taken.
        cut: Whether the features are the input of that module, which is cut off (the classifier),
            or its output.
        pooling: ``"mean"``, ``"max"`` or ``"token:INDEX"`` over the positions of the output.
        channel_dim: The dimension of the output that holds the units.
        features: How many features there are.
        hidden: Units of the head's hidden layer.
        activation: ``"lwta"``, ``"relu"`` or ``"linear"`` (no hidden layer).
    """

    site: str
    features: int
    hidden: int = 1536
    activation: str = "lwta"
    cut: bool = True
    pooling: str = "mean"
    channel_dim: int = -1
    backbone: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown("activation of the head", str(self.activation), ACTIVATIONS)
        for name in ("features", "hidden"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")
        if not _POOLING.fullmatch(self.pooling):
            raise unknown("pooling of the head", self.pooling, ["mean", "max", "token:INDEX"])

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        values = {name: getattr(self, name) for name in _FIELDS}
        return values | {"backbone": None if self.backbone is None else dict(self.backbone)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> HeadConfig:
        """Build from what :meth:`to_dict` gave.

        Raises:
            UnreadableError: A field is missing.
            InputError: A field has a value that is not allowed.
        """
        for name in _FIELDS:
            if name not in value:
                raise UnreadableError(f"the head lacks the field {name!r}")
        return cls(**{name: value[name] for name in _FIELDS})


class HeadedModel(nn.Module):
    """A backbone and a head on its features.

    Attributes:
        backbone: Where ``config.cut``, its classifier is an ``nn.Identity``.
        head: ``hidden``, ``act`` and ``output``, or ``output`` alone.
        config: What was joined.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, config: HeadConfig) -> None:
        """Join the two; a backbone that is cut is changed in place.

        Raises:
            UnreadableError: The backbone has no module of the name ``config.site``.
        """
        super().__init__()
        names = dict(backbone.named_modules())
        if config.site not in names:
            raise UnreadableError(f"the backbone has no module {config.site!r} for the head")
        if config.cut:
            parent, _, leaf = config.site.rpartition(".")
            setattr(backbone.get_submodule(parent), leaf, nn.Identity())
        self.backbone = backbone
        self.head = head
        self.config = config

    def features(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, features)."""
        if self.config.cut:
            return _checked(self.backbone(x), self.config)
        taken: list[Tensor] = []
        module = self.backbone.get_submodule(self.config.site)
        handle = module.register_forward_hook(lambda _, __, output: taken.append(output))
        try:
            self.backbone(x)
        finally:
            handle.remove()
        return _checked(_pooled(taken[0], self.config), self.config)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, classes) logits."""
        logits: Tensor = self.head(self.features(x))
        return logits


def _checked(features: Any, config: HeadConfig) -> Tensor:
    if not isinstance(features, Tensor) or features.dim() != 2:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise InputError(f"the backbone gives {shape} at {config.site!r}, not (images, features)")
    return features


def _pooled(output: Tensor, config: HeadConfig) -> Tensor:
    """Pool (N, …) over all positions: (N, features)."""
    if output.dim() == 2:
        return output
    positions = output.movedim(config.channel_dim, 1).flatten(2)
    if config.pooling == "mean":
        return positions.mean(-1)
    if config.pooling == "max":
        return positions.amax(-1)
    return positions[..., int(config.pooling.partition(":")[2] or 0)]


def make_head(config: HeadConfig, classes: int, competitors: int | None) -> nn.Sequential:
    """Return a fresh head: (N, features) → (N, classes).

    Raises:
        DivisibilityError: U does not divide the hidden units.
        InputError: U is missing or too small, or is given for a head without competition.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if config.activation != "lwta" and competitors is not None:
        raise InputError(
            f"a head with activation {config.activation!r} has no competition; "
            f"competitors={competitors} must be left out"
        )
    if config.activation == "linear":
        return nn.Sequential(OrderedDict(output=nn.Linear(config.features, classes)))
    parts["hidden"] = nn.Linear(config.features, config.hidden)
    parts["act"] = nn.ReLU()
    if config.activation == "lwta":
        if competitors is None:
            raise InputError("a head with activation 'lwta' needs competitors, at least 2")
        if config.hidden % check_competitors(competitors):
            near = " or ".join(map(str, nearest_divisors(config.hidden, competitors)))
            raise DivisibilityError(
                f"{competitors} competitors do not divide the {config.hidden} hidden units of the "
                f"head; nearest that do: {near}"
            )
        parts["act"] = LWTA(competitors)
    parts["output"] = nn.Linear(config.hidden, classes)
    return nn.Sequential(parts)


def linear_of(head: nn.Module, name: str) -> nn.Linear:
    """Return the linear layer ``name`` of a head.

    Raises:
        InputError: The head has no such linear layer.
    """
    found = dict(head.named_children()).get(name)
    if not isinstance(found, nn.Linear):
        raise InputError(f"the head has no linear layer {name!r}")
    return found


def classifier_of(module: nn.Module, sample: Tensor) -> tuple[str, int]:
    """Return the name of the linear layer whose output is the model's, and its inputs.

    Args:
        module: In evaluation mode.
        sample: (N, C, H, W).

    Raises:
        InputError: The model's output is not that of one linear layer.
    """
    module = copy.deepcopy(module).eval()
    calls: list[tuple[str, nn.Linear, Tensor]] = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear) and name:
            part.register_forward_hook(
                lambda part, _, output, name=name: calls.append((name, part, output))
            )
    with torch.no_grad():
        output = module(sample)
    if isinstance(output, Tensor) and output.dim() == 2:
        for name, part, own in reversed(calls):
            same = own.data_ptr() == output.data_ptr() and own.numel() == output.numel()
            if same and sum(other == name for other, _, _ in calls) == 1:
                return name, part.in_features
    raise InputError(
        f"the output of {type(module).__name__} is not that of one linear layer, so it has no "
        "penultimate features; name a site, e.g. the module before its classifier"
    )
