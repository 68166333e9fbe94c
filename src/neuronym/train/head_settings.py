"""Every choice of a head, as one frozen dataclass that is saved with the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from neuronym.errors import DivisibilityError, InputError, unknown
from neuronym.lwta.layout import check_competitors, nearest_divisors
from neuronym.models.head import ACTIVATIONS
from neuronym.models.preprocessing import checked_input_size
from neuronym.train.settings import PRECISIONS

__all__ = ["HeadSettings"]


@dataclass(frozen=True)
class HeadSettings:
    """How a head on frozen features is made and trained.

    Attributes:
        competitors: U; ``None`` for the dense twins.
        activation: ``"lwta"``, or a dense twin: ``"relu"``, or ``"linear"`` without hidden layer.
        hidden: Units of the hidden layer.
        site: Name of the backbone's module whose output is the features; ``None`` takes the
            input of its last linear layer.
        pooling: ``"mean"``, ``"max"`` or ``"token:INDEX"`` over the positions of ``site``;
            ``None`` takes the class token where there is one, else the mean.
        input_size: (C, H, W) of the images, or ``None`` for the backbone's own.
        mirror: Whether the mirrored images are learned from too (twice the features).
        epochs: Passes over the features; ``None`` takes 10, or more where that is fewer than 600
            steps.
        batch_size: Images per step.
        learning_rate: The largest, of AdamW; it rises for a tenth of the steps and falls by a
            cosine.
        weight_decay: Of the weights; biases have none.
        dropout: Share of the features that is set to zero at each step, in [0, 1).
        label_smoothing: In [0, 1).
        kl_weight: Factor of the KL of the winners from the uniform prior, in nats per image,
            summed over blocks; at least 0.
        samples: Draws of the winners per image and step, over which the loss is averaged: less
            noise in the gradient for little time, because the hidden layer is computed once.
        temperature: τ of the relaxed winner; it shapes gradients only.
        scale: Standard deviation that the hidden layer's responses begin with; the winners'
            noise is as large as it is small.
        settle: Share of all steps, at the end, in which the largest unit wins without noise.
        precision: Of the training: ``"float32"``, or autocast to ``"bfloat16"`` (several times
            faster where the processor has it) or, on accelerators, ``"float16"``. What is
            measured and saved is float32.
        seed: Of the weights, the order and the noise.
        holdout: Share of the images that validates where no other set is given.
        device: Where backbone and head run.
    """

    competitors: int | None = 16
    activation: str = "lwta"
    hidden: int = 1536
    site: str | None = None
    pooling: str | None = None
    input_size: tuple[int, int, int] | None = None
    mirror: bool = False
    epochs: int | None = None
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    dropout: float = 0.2
    label_smoothing: float = 0.0
    kl_weight: float = 1e-3
    samples: int = 4
    temperature: float = 0.67
    scale: float = 0.5
    settle: float = 0.0
    precision: str = "float32"
    seed: int = 0
    holdout: float = 0.1
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise unknown("activation of the head", str(self.activation), ACTIVATIONS)
        if self.precision not in PRECISIONS:
            raise unknown("precision", str(self.precision), list(PRECISIONS))
        for name, (fits, text) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name == "epochs":
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not fits(value):
                raise InputError(f"{name} must be {text}, not {value!r}")
        if self.input_size is not None:
            object.__setattr__(self, "input_size", checked_input_size(self.input_size))
        if self.activation != "lwta":
            if self.competitors is not None:
                raise InputError(
                    f"activation={self.activation!r} is a twin without competition; "
                    f"competitors={self.competitors} must then be None"
                )
        elif self.competitors is None:
            raise InputError("competitors must be given (at least 2), or a dense twin chosen")
        elif self.hidden % check_competitors(self.competitors):
            near = " or ".join(map(str, nearest_divisors(self.hidden, self.competitors)))
            raise DivisibilityError(
                f"{self.competitors} competitors do not divide the {self.hidden} hidden units of "
                f"the head; nearest that do: {near}"
            )

    def twin(self, activation: str = "relu") -> HeadSettings:
        """Return a dense twin's settings, ``"relu"`` or ``"linear"``: everything else equal."""
        return replace(self, activation=activation, competitors=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        size = None if self.input_size is None else list(self.input_size)
        return asdict(self) | {"input_size": size}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> HeadSettings:
        """Build from what :meth:`to_dict` gave.

        Raises:
            InputError: A field is not known, or has a value that is not allowed.
        """
        names = [each.name for each in fields(cls)]
        for name in value:
            if name not in names:
                raise unknown("head setting", name, names)
        return cls(**value)


_Check = tuple[Callable[[Any], bool], str]
_POSITIVE: _Check = (lambda value: value > 0, "above 0")
_COUNT: _Check = (lambda value: value >= 1 and value == int(value), "a whole number of at least 1")
_SHARE: _Check = (lambda value: 0 <= value < 1, "in [0, 1)")
_NOT_NEGATIVE: _Check = (lambda value: value >= 0, "at least 0")
_RANGES: dict[str, _Check] = {
    "hidden": _COUNT,
    "epochs": _COUNT,
    "batch_size": _COUNT,
    "learning_rate": _POSITIVE,
    "weight_decay": _NOT_NEGATIVE,
    "dropout": _SHARE,
    "label_smoothing": _SHARE,
    "kl_weight": _NOT_NEGATIVE,
    "samples": _COUNT,
    "temperature": _POSITIVE,
    "scale": _POSITIVE,
    "settle": (lambda value: 0 <= value <= 1, "in [0, 1]"),
    "seed": (lambda value: value >= 0 and value == int(value), "a whole number of at least 0"),
    "holdout": _SHARE,
}
