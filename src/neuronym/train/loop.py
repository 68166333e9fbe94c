"""The training loop for classification, one for competitive networks and their dense twins."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronym.lwta import Trace, kl_per_layer, kl_to_uniform, lwta_modules, trace
from neuronym.lwta.schedules import schedule
from neuronym.train.augment import AUGMENTATIONS
from neuronym.train.checkpoint import State
from neuronym.train.data import ImageSource, epoch_order
from neuronym.train.divergence import DivergedError, first_bad_layer
from neuronym.train.measure import Evaluation, calibrate, evaluate, prepared
from neuronym.train.optim import OPTIMIZERS, parameter_groups, rate_at
from neuronym.train.settings import PRECISIONS, TrainSettings

__all__ = [
    "CALIBRATION_BATCHES",
    "Loop",
    "Progress",
    "divergence_of",
    "step_seed",
]

CALIBRATION_BATCHES = 32
_SPEED_MEMORY = 0.9


@dataclass(frozen=True)
class Progress:
    """Where a run is; handed to the ``progress`` callable after every step.

    Attributes:
        epoch: Under way, from 1.
        epochs: In all.
        step: Steps done.
        steps: In all.
        loss: Mean loss of this epoch so far.
        images_per_second: Recent rate.
        seconds_left: Estimate for the remaining steps.
        accuracy: On validation after the last finished epoch, or ``None``.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_second: float
    seconds_left: float
    accuracy: float | None


def step_seed(seed: int, step: int) -> int:
    """Return the seed of one step's random stream (augmentation, dropout, winners)."""
    word = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**64
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    return (word ^ (word >> 31)) % 2**63


class Loop:
    """Takes steps from a state; everything random is a function of the seed and the step."""

    def __init__(
        self,
        module: nn.Module,
        settings: TrainSettings,
        *,
        training: ImageSource,
        validation: ImageSource,
        sites: tuple[str, ...],
    ) -> None:
        """Prepare optimiser and schedule for ``module``, which is trained in place."""
        self.settings = settings
        self.device = torch.device(settings.device)
        self.module = module.to(self.device).to(memory_format=torch.channels_last)
        self.training, self.validation, self.sites = training, validation, sites
        groups = parameter_groups(self.module, settings.weight_decay)
        self.optimizer = OPTIMIZERS[settings.optimizer](
            groups, settings.learning_rate, settings.momentum
        )
        self.precision = PRECISIONS[settings.precision]
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.precision is torch.float16
        )
        self.good = training.good
        self.batch_size = min(settings.batch_size, len(self.good))
        self.epoch_steps = len(self.good) // self.batch_size
        self.steps = self.epoch_steps * settings.epochs
        self.competitions = list(lwta_modules(self.module).values())
        self.step = 0
        self.sums: dict[str, float] = {}
        self.temperature_of = schedule(
            settings.temperature_schedule,
            start=settings.temperature,
            end=settings.temperature_end,
            steps=max(1, self.steps),
        )
        self._speed = 0.0

    def state(self) -> State:
        """Return what a checkpoint holds; the tensors are the live ones."""
        return State(
            step=self.step,
            model=self.module.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            sums=dict(self.sums),
        )

    def restore(self, state: State) -> None:
        """Go on from a checkpoint."""
        self.step, self.sums = state.step, dict(state.sums)
        self.module.load_state_dict(state.model)
        self.optimizer.load_state_dict(state.optimizer)
        self.scaler.load_state_dict(state.scaler)

    def rate_of(self, step: int) -> float:
        """Return the learning rate of a step."""
        return rate_at(
            step,
            self.steps,
            schedule=self.settings.schedule,
            largest=self.settings.learning_rate,
            warmup=self.settings.warmup,
        )

    def run_epoch(self, after_step: Callable[[Progress], None], accuracy: float | None) -> None:
        """Take the steps that are left of the epoch under way."""
        epoch, done = divmod(self.step, self.epoch_steps)
        if not done:
            self.sums = {"images": 0.0, "loss": 0.0, "cross_entropy": 0.0, "kl": 0.0}
        order = epoch_order(self.good, seed=self.settings.seed, epoch=epoch)
        order = order[done * self.batch_size : self.epoch_steps * self.batch_size]
        self.module.train()
        began = time.perf_counter()
        for pixels, labels in self.training.batches(order, self.batch_size):
            with self._arranged():
                self._step(pixels, labels)
            self.step += 1
            now = time.perf_counter()
            after_step(self._progress(epoch, len(labels) / (now - began), accuracy))
            began = now

    def validate(self) -> tuple[Evaluation, dict[str, Tensor]]:
        """Measure on validation with calibrated norms.

        Returns:
            The evaluation, and a copy of the state dict that was measured. The network itself
            goes on with the statistics that it had.
        """
        before = {name: value.clone() for name, value in self.module.named_buffers()}
        count = CALIBRATION_BATCHES * self.batch_size
        order = epoch_order(self.good, seed=self.settings.seed, epoch=self.settings.epochs)[:count]
        calibrate(
            self.module,
            self.training,
            order=order,
            batch_size=self.batch_size,
            precision=self.precision,
        )
        measured = evaluate(self.module, self.validation, precision=self.precision)
        state = {
            name: value.detach().cpu().clone() for name, value in self.module.state_dict().items()
        }
        with torch.no_grad():
            for name, value in self.module.named_buffers():
                value.copy_(before[name])
        return measured, state

    @contextlib.contextmanager
    def _arranged(self) -> Iterator[None]:
        """Seed the step, and set its rate, its temperature and how winners are found."""
        settings = self.settings
        torch.manual_seed(step_seed(settings.seed, self.step))
        rate, temperature = self.rate_of(self.step), self.temperature_of(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        settled = self.step >= self.steps * (1 - settings.settle)
        for competition in self.competitions:
            competition.temperature = temperature
            competition.mode = "argmax" if settled else "auto"
        try:
            yield
        finally:
            for competition in self.competitions:
                competition.mode = "auto"

    def _step(self, pixels: Tensor, labels: Tensor) -> None:
        if not len(labels):
            return
        settings = self.settings
        augmented = AUGMENTATIONS[settings.augment](pixels)
        inputs = prepared(augmented, self.training.preprocessing, self.device)
        labels = labels.to(self.device)
        loss, parts = self._loss(inputs, labels)
        if not torch.isfinite(loss):
            raise DivergedError(
                f"the loss is {float(loss.detach())} at step {self.step + 1} of {self.steps}: "
                f"{first_bad_layer(self.module, inputs)}; lower learning_rate, or set clip_norm"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if settings.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for name, value in {"images": 1.0, "loss": float(loss.detach()), **parts}.items():
            self.sums[name] += value * len(labels)

    def _loss(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return cross-entropy plus weighted KL, and both parts as numbers."""
        settings = self.settings
        wanted = settings.kl_weight > 0 and bool(self.competitions)
        enabled = self.precision is not None
        with (
            trace(self.module) if wanted else contextlib.nullcontext() as record,
            torch.autocast(self.device.type, dtype=self.precision, enabled=enabled),
        ):
            logits = self.module(inputs)
        loss = functional.cross_entropy(
            logits.float(), labels, label_smoothing=settings.label_smoothing
        )
        parts = {"cross_entropy": float(loss.detach())}
        if record is not None:
            divergence = divergence_of(record, per_position=settings.kl_per_position)
            parts["kl"] = float(divergence.detach())
            loss = loss + settings.kl_weight * divergence
        return loss, parts

    def _progress(self, epoch: int, speed: float, accuracy: float | None) -> Progress:
        before = self._speed or speed
        self._speed = _SPEED_MEMORY * before + (1 - _SPEED_MEMORY) * speed
        left = (self.steps - self.step) * self.batch_size
        return Progress(
            epoch=epoch + 1,
            epochs=self.settings.epochs,
            step=self.step,
            steps=self.steps,
            loss=self.sums["loss"] / max(1.0, self.sums["images"]),
            images_per_second=self._speed,
            seconds_left=left / self._speed if self._speed else 0.0,
            accuracy=accuracy,
        )


def divergence_of(record: Trace, *, per_position: bool) -> Tensor:
    """Return the KL of a trace that the loss takes, in nats per image.

    Args:
        record: Traced with ``keep="kl"``.
        per_position: Divide each layer's KL by its blocks × positions before adding.
    """
    if not per_position:
        return kl_to_uniform(record)
    layers = kl_per_layer(record)
    sizes = dict.fromkeys(layers, 0)
    for competition in record:
        sizes[competition.name] += competition.blocks * competition.positions
    return torch.stack([value / sizes[name] for name, value in layers.items()]).sum()
