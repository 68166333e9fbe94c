"""The training loop for classification, one for competitive networks and their dense twins."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronym.errors import InputError
from neuronym.lwta import Trace, gradual, kl_per_layer, kl_to_uniform, lwta_modules, trace
from neuronym.lwta.noise import Part
from neuronym.lwta.schedules import schedule
from neuronym.models.folder import fit_weights
from neuronym.train.augment import AUGMENTATIONS
from neuronym.train.checkpoint import FOLDER, LATEST, State
from neuronym.train.data import ImageSource, ImageView, class_names_of, epoch_order
from neuronym.train.divergence import DivergedError, first_bad_layer
from neuronym.train.measure import Evaluation, Plan, calibrate, evaluate_shared, prepared
from neuronym.train.mixing import Mix, draw_mix, mixed, partners
from neuronym.train.optim import OPTIMIZERS, parameter_groups, rate_at
from neuronym.train.settings import PRECISIONS, TrainSettings
from neuronym.train.team import Place, Team, share_of
from neuronym.train.views import view_seed

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
        dead_units: Units that won nowhere in that validation; ``None`` without competition.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_second: float
    seconds_left: float
    accuracy: float | None
    dead_units: int | None = None


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
        team: Team,
    ) -> None:
        """Prepare optimiser and schedule for ``module``, which is trained in place."""
        self.settings, self.team = settings, team
        self.device = team.device
        module = module.to(self.device).to(memory_format=torch.channels_last)
        self.module = team.synced_norms(module)
        self.wrapped = team.wrap(self.module)
        self.training, self.validation, self.sites = training, validation, sites
        self.classes = len(class_names_of(training.probe))
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
        if self.batch_size < team.size:
            raise InputError(
                f"a batch of {self.batch_size} images is too small for {team.size} processes"
            )
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
        self.gradual_steps = round(settings.gradual * self.steps)
        self.augmentation = AUGMENTATIONS[settings.augment]
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
        fit_weights(self.module, state.model, where=f"{FOLDER}/{LATEST}")
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

    def share_at(self, step: int) -> float:
        """Return how far the sites compete at a step: below 1 only where ``gradual`` is set."""
        shape = self.settings.gradual_shape
        return gradual.share_at(step, steps=self.gradual_steps, shape=shape)

    def run_epoch(
        self, after_step: Callable[[Progress], None], last: Mapping[str, Any] | None
    ) -> None:
        """Take the steps that are left of the epoch under way; ``last`` is the record before."""
        epoch, done = divmod(self.step, self.epoch_steps)
        if not done:
            self.sums = {"images": 0.0, "loss": 0.0, "cross_entropy": 0.0, "kl": 0.0}
        order = epoch_order(self.good, seed=self.settings.seed, epoch=epoch)
        ours = share_of(self.batch_size, self.team.rank, self.team.size)
        groups = [
            order[step * self.batch_size : (step + 1) * self.batch_size][ours]
            for step in range(done, self.epoch_steps)
        ]
        self.module.train()
        began = time.perf_counter()
        for pixels, labels in self.training.groups(groups, view=self._view(epoch)):
            with self._arranged():
                count = self._step(pixels, labels)
            self.step += 1
            now = time.perf_counter()
            after_step(self._progress(epoch, count / (now - began), last or {}))
            began = now

    def validate(self) -> tuple[Evaluation, dict[str, Tensor]]:
        """Measure pure competition on validation, with calibrated norms.

        Returns:
            The evaluation, and a copy of the state dict that was measured. The network itself
            goes on with the statistics that it had.
        """
        gradual.set_share(self.module, 1.0)  # the next step sets its own
        before = {name: value.clone() for name, value in self.module.named_buffers()}
        count = CALIBRATION_BATCHES * self.batch_size
        order = epoch_order(self.good, seed=self.settings.seed, epoch=self.settings.epochs)[:count]
        calibrate(
            self.module,
            self.training,
            order=order,
            batch_size=self.batch_size,
            precision=self.precision,
            team=self.team,
        )
        plan = Plan(kl=True, precision=self.precision)
        measured = evaluate_shared(self.module, self.validation, plan, self.team)
        self._check_validation(measured)
        state = {
            name: value.detach().cpu().clone() for name, value in self.module.state_dict().items()
        }
        with torch.no_grad():
            for name, value in self.module.named_buffers():
                value.copy_(before[name])
        return measured, state

    def _view(self, epoch: int) -> ImageView | None:
        view, preprocessing = self.augmentation.view, self.training.preprocessing
        if view is None:
            return None
        seed = self.settings.seed
        return lambda image, index: view(image, view_seed(seed, epoch, index), preprocessing)

    @contextlib.contextmanager
    def _arranged(self) -> Iterator[None]:
        """Seed the step, and set its rate, its temperature and how winners are found."""
        settings = self.settings
        seed = step_seed(settings.seed, self.step)
        torch.manual_seed(seed)
        if self.device.type == "cuda" and self.team.size > 1:
            torch.cuda.manual_seed(step_seed(seed, self.team.rank))  # dropout; not the winners
        rate, temperature = self.rate_of(self.step), self.temperature_of(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        settled = self.step >= self.steps * (1 - settings.settle)
        gradual.set_share(self.module, self.share_at(self.step))
        for competition in self.competitions:
            competition.temperature = temperature
            competition.mode = "argmax" if settled else "auto"
        try:
            yield
        finally:
            for competition in self.competitions:
                competition.mode, competition.part = "auto", None

    def _step(self, pixels: Tensor, labels: Tensor) -> int:
        """Take one step with this process's images; return how many the batch has."""
        counts = self.team.counts(len(labels))
        place = Place(sum(counts[: self.team.rank]), sum(counts))
        if not place.total:
            return 0
        self.optimizer.zero_grad(set_to_none=True)
        found = self._passes(pixels, labels, place)
        if self.settings.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for name, value in found.items():
            self.sums[name] += value
        return place.total

    def _passes(self, pixels: Tensor, labels: Tensor, place: Place) -> dict[str, float]:
        """Run forward and backward over every piece; return sums over the images of the batch."""
        settings, team = self.settings, self.team
        pixels = self.augmentation.batch(pixels, place)
        height, width = pixels.shape[2:]
        mix = draw_mix((height, width), mixup=settings.mixup, cutmix=settings.cutmix)
        pieces = _pieces(len(labels), settings.accumulate)
        state = torch.get_rng_state()
        found = {"images": float(len(labels)), "loss": 0.0, "cross_entropy": 0.0, "kl": 0.0}
        trouble = ""
        for number, piece in enumerate(pieces):
            if number:
                torch.set_rng_state(state)  # the same keys for every piece
            count = piece.stop - piece.start
            whole = count == place.total
            for competition in self.competitions:
                competition.part = None if whole else Part(place.start + piece.start, max(1, count))
            inputs, targets = self._inputs(pixels, labels, piece, place, mix)
            last = number == len(pieces) - 1
            with contextlib.nullcontext() if last else team.no_sync(self.wrapped):
                loss, parts = self._loss(inputs, targets)
                if not torch.isfinite(loss) and not trouble:
                    trouble = self._trouble(float(loss.detach()), inputs)
                    if team.size == 1:
                        raise DivergedError(trouble)
                share = count * team.size / place.total
                self.scaler.scale(loss if share == 1 else loss * share).backward()
            for name, value in {"loss": float(loss.detach()), **parts}.items():
                found[name] += value * count
        names, sums = list(found), team.sum(list(found.values()))
        if team.size > 1 and not math.isfinite(sum(sums)):
            texts = [text for text in team.gather(trouble) if text]
            raise DivergedError(texts[0] if texts else "the loss is not finite in some process")
        return dict(zip(names, sums, strict=True))

    def _inputs(
        self, pixels: Tensor, labels: Tensor, piece: slice, place: Place, mix: Mix | None
    ) -> tuple[Tensor, Tensor]:
        """Return what the network gets of a piece, and its labels, mixed where that is wanted.

        A process whose images are all broken still takes part, with a blank that does not count.
        """
        preprocessing = self.training.preprocessing
        if not len(labels):
            pixels = torch.zeros((1, *preprocessing.input_size), dtype=torch.uint8)
            labels = torch.zeros(1, dtype=torch.int64)
            piece, mix = slice(0, 1), None
        inputs = prepared(pixels[piece], preprocessing, self.device)
        targets = labels[piece].to(self.device)
        if mix is None:
            return inputs, targets
        other = partners(len(labels), place.start)[piece]
        others = prepared(pixels[other], preprocessing, self.device), labels[other].to(self.device)
        return mixed(inputs, targets, others, mix, classes=self.classes)

    def _trouble(self, loss: float, inputs: Tensor) -> str:
        place, advice = first_bad_layer(self.module, inputs, precision=self.precision)
        return f"the loss is {loss} at step {self.step + 1} of {self.steps}: {place}; {advice}"

    def _check_validation(self, measured: Evaluation) -> None:
        """Raise where the network, trained to finite losses, is not finite in evaluation."""
        if math.isfinite(measured.nll):
            return
        text = f"the loss on validation is {measured.nll} after step {self.step} of {self.steps}"
        self.module.eval()
        with torch.no_grad():
            for pixels, _ in self.validation.batches(self.validation.good, self.batch_size):
                inputs = prepared(pixels, self.validation.preprocessing, self.device)
                if not torch.isfinite(self.module(inputs)).all():
                    place, advice = first_bad_layer(self.module, inputs, precision=self.precision)
                    raise DivergedError(f"{text}: {place}; {advice}")
        raise DivergedError(f"{text}, in {self.precision} only; use precision='float32'")

    def _loss(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return cross-entropy plus weighted KL, and both parts as numbers."""
        settings = self.settings
        wanted = settings.kl_weight > 0 and bool(self.competitions)
        enabled = self.precision is not None
        with (
            trace(self.module) if wanted else contextlib.nullcontext() as record,
            torch.autocast(self.device.type, dtype=self.precision, enabled=enabled),
        ):
            logits = self.wrapped(inputs)
        loss = functional.cross_entropy(
            logits.float(), targets, label_smoothing=settings.label_smoothing
        )
        parts = {"cross_entropy": float(loss.detach())}
        if record is not None:
            divergence = divergence_of(record, per_position=settings.kl_per_position)
            parts["kl"] = float(divergence.detach())
            loss = loss + settings.kl_weight * self.share_at(self.step) * divergence
        return loss, parts

    def _progress(self, epoch: int, speed: float, last: Mapping[str, Any]) -> Progress:
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
            accuracy=last.get("accuracy"),
            dead_units=sum(last["dead_units"].values()) if "dead_units" in last else None,
        )


def _pieces(count: int, passes: int) -> list[slice]:
    """Cut ``count`` images into up to ``passes`` pieces that are not empty, at even places.

    Without an image there is one empty piece.
    """
    edges = [min(count, round(count * number / passes / 2) * 2) for number in range(passes)]
    pairs = zip(edges, [*edges[1:], count], strict=True)
    return [slice(start, stop) for start, stop in pairs if stop > start] or [slice(0, 0)]


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
