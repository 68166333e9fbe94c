"""Every choice of a training run, as one frozen dataclass that is saved with the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from neuronym.errors import InputError, unknown
from neuronym.lwta.gradual import SHARES
from neuronym.lwta.layout import check_competitors
from neuronym.lwta.schedules import SCHEDULES as TEMPERATURES
from neuronym.models.preprocessing import checked_input_size
from neuronym.train.augment import AUGMENTATIONS
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
from neuronym.train.optim import OPTIMIZERS, SCHEDULES

__all__ = ["PRECISIONS", "TrainSettings"]

PRECISIONS: dict[str, torch.dtype | None] = {
    "float32": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
FREE = ("device", "workers", "memory_mb", "checkpoint_minutes")
"""Fields that do not change the result, and so may differ when a run resumes."""


@dataclass(frozen=True)
class TrainSettings:
    """How a classifier is trained.

    Attributes:
        model: SPEC of the architecture (a folder made by ``train`` continues from its weights).
        competitors: U of every LWTA site, at least 2; ``None`` only with ``dense``.
        skip: Patterns of activations that do not compete, e.g. ``("stem.*",)``.
        dense: Train the dense twin: the same network with its own activations, all else equal.
        pretrained: Start from published weights.
        input_size: (C, H, W), or ``None`` for the model's own.
        epochs: Passes over the training images.
        batch_size: Images per step, over all processes; the last incomplete batch of an epoch is
            left out.
        accumulate: Passes that a process makes over its share of a batch, to need less memory;
            the step is that of one pass (batch normalisation and dropout excepted).
        optimizer: ``"sgd"`` (Nesterov) or ``"adamw"``.
        learning_rate: The largest of the schedule.
        momentum: Of SGD; β1 of AdamW.
        weight_decay: Of weights with two or more dimensions; biases and norms have none.
        schedule: ``"one-cycle"``, ``"cosine"``, ``"step"`` or ``"constant"``; each step has its own
            rate.
        warmup: Share of all steps in which the rate rises, in [0, 1).
        clip_norm: Largest norm of the gradient, or ``None``.
        label_smoothing: In [0, 1).
        augment: Name of a preset of :data:`~neuronym.train.augment.AUGMENTATIONS`.
        mixup: α of mixup; 0 switches it off. See :mod:`neuronym.train.mixing`.
        cutmix: α of CutMix; 0 switches it off.
        drop_path: Chance that the last residual branch is left out of a training step, growing
            from 0 in the first, in [0, 1). See :func:`neuronym.train.depth.set_drop_path`.
        kl_weight: Factor of the KL of the winners from the uniform prior, which is in nats,
            summed over blocks, positions and layers and averaged over the batch; at least 0.
        kl_per_position: Divide each layer's KL by its number of blocks × positions first, so
            that ``kl_weight`` means the same for a linear layer and for a large map.
        temperature: τ of the relaxed winner at the first step; it shapes gradients only.
        temperature_end: τ at the last step; ``None`` keeps it.
        temperature_schedule: How τ moves: a key of
            :data:`neuronym.lwta.schedules.SCHEDULES`.
        settle: Share of all steps, at the end, in which the largest unit wins without noise, as
            in evaluation, in [0, 1].
        gradual: Share of all steps, at the beginning, over which dense activations fade into
            competition, in [0, 1]; 0 competes from the first step. For pretrained networks. See
            :mod:`neuronym.lwta.gradual`; validation always measures pure competition.
        gradual_shape: How the share grows: a key of :data:`neuronym.lwta.gradual.SHARES`.
        precision: ``"float32"``, or autocast to ``"bfloat16"`` or ``"float16"``.
        seed: Of initial weights, data order, augmentation and noise.
        holdout: Share of the training images that validates where no other set is given.
        device: Where it runs, e.g. ``"cpu"`` or ``"cuda"``.
        workers: Threads that decode images.
        memory_mb: Decoded images are kept in memory up to this size, and else streamed.
        checkpoint_minutes: Besides every epoch's end, a checkpoint is written after so long.
    """

    model: str
    competitors: int | None = None
    skip: Sequence[str] = ()
    dense: bool = False
    pretrained: bool = False
    input_size: tuple[int, int, int] | None = None
    epochs: int = 10
    batch_size: int = 128
    accumulate: int = 1
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one-cycle"
    warmup: float = 0.25
    clip_norm: float | None = None
    label_smoothing: float = 0.1
    augment: str = "light"
    mixup: float = 0.0
    cutmix: float = 0.0
    drop_path: float = 0.0
    kl_weight: float = 1e-6
    kl_per_position: bool = False
    temperature: float = 0.67
    temperature_end: float | None = None
    temperature_schedule: str = "exponential"
    settle: float = 0.0
    gradual: float = 0.0
    gradual_shape: str = "linear"
    precision: str = "float32"
    seed: int = 0
    holdout: float = 0.1
    device: str = "cpu"
    workers: int = 2
    memory_mb: int = 1024
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        if self.dense and self.competitors is not None:
            raise InputError(
                f"dense=True trains the twin without competition; competitors={self.competitors} "
                "must then be left out"
            )
        if not self.dense:
            if self.competitors is None:
                raise InputError(
                    "competitors must be given (at least 2), or dense=True for the dense twin"
                )
            if self.competitors == 1:
                raise InputError(
                    "competitors=1 is the identity, not a competition; use dense=True for the "
                    "dense twin"
                )
            check_competitors(self.competitors)
        if isinstance(self.skip, str):
            raise InputError(f"skip must be a list of patterns, not the string {self.skip!r}")
        object.__setattr__(self, "skip", tuple(self.skip))
        if self.input_size is not None:
            object.__setattr__(self, "input_size", checked_input_size(self.input_size))
        for name, allowed in _NAMES.items():
            if getattr(self, name) not in allowed:
                raise unknown(name, str(getattr(self, name)), list(allowed))
        check_ranges(self, _RANGES, optional=("clip_norm", "temperature_end"))
        if self.gradual + self.settle > 1:
            raise InputError(
                f"gradual={self.gradual} and settle={self.settle} are shares of one run and must "
                "add up to at most 1"
            )
        if self.accumulate > self.batch_size:
            raise InputError(
                f"accumulate={self.accumulate} passes need at least as many images in a batch, "
                f"not batch_size={self.batch_size}"
            )

    def twin(self) -> TrainSettings:
        """Return the dense twin's settings: everything else equal."""
        return replace(self, competitors=None, dense=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        values = asdict(self)
        values["skip"] = list(self.skip)
        values["input_size"] = None if self.input_size is None else list(self.input_size)
        return values

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TrainSettings:
        """Build from what :meth:`to_dict` gave.

        Raises:
            InputError: A field is not known, or has a value that is not allowed.
        """
        return read_settings(cls, value, what="training setting")


_RANGES: dict[str, Check] = {
    "epochs": COUNT,
    "batch_size": COUNT,
    "accumulate": COUNT,
    "learning_rate": POSITIVE,
    "momentum": SHARE,
    "weight_decay": NOT_NEGATIVE,
    "warmup": SHARE,
    "clip_norm": POSITIVE,
    "label_smoothing": SHARE,
    "mixup": NOT_NEGATIVE,
    "cutmix": NOT_NEGATIVE,
    "drop_path": SHARE,
    "kl_weight": NOT_NEGATIVE,
    "temperature": POSITIVE,
    "temperature_end": POSITIVE,
    "settle": PART,
    "gradual": PART,
    "seed": SEED,
    "holdout": SHARE,
    "workers": COUNT,
    "memory_mb": COUNT,
    "checkpoint_minutes": POSITIVE,
}
_NAMES: dict[str, Any] = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "augment": AUGMENTATIONS,
    "temperature_schedule": TEMPERATURES,
    "gradual_shape": SHARES,
    "precision": PRECISIONS,
}
