"""Every choice of a head, as one frozen dataclass that is saved with the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from neuronym.errors import DivisibilityError, InputError, unknown
from neuronym.lwta.layout import check_competitors, nearest_divisors
from neuronym.models.head import ACTIVATIONS
from neuronym.models.preprocessing import checked_input_size
from neuronym.train.checks import (
    COUNT,
    NOT_NEGATIVE,
    PART,
    POSITIVE,
    SEED,
    SHARE,
    Check,
    check_ranges,
    read_settings,
)
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
        check_ranges(self, _RANGES, optional=("epochs",))
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
        return read_settings(cls, value, what="head setting")


_RANGES: dict[str, Check] = {
    "hidden": COUNT,
    "epochs": COUNT,
    "batch_size": COUNT,
    "learning_rate": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "dropout": SHARE,
    "label_smoothing": SHARE,
    "kl_weight": NOT_NEGATIVE,
    "samples": COUNT,
    "temperature": POSITIVE,
    "scale": POSITIVE,
    "settle": PART,
    "seed": SEED,
    "holdout": SHARE,
}
