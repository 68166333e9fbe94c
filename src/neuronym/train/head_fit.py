"""The training of a head on features: standardised, fitted, and folded into plain layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronym.errors import InputError
from neuronym.lwta import kl_to_uniform, lwta_modules, trace
from neuronym.models.head import HeadConfig, linear_of, make_head
from neuronym.modes import evaluation
from neuronym.train.divergence import DivergedError
from neuronym.train.features import Features, FloatArray
from neuronym.train.head_settings import HeadSettings
from neuronym.train.measure import Evaluation
from neuronym.train.optim import parameter_groups, rate_at
from neuronym.train.settings import PRECISIONS

__all__ = ["HeadFit", "HeadProgress", "fit_head", "measure_head"]

_ROWS = 4096
_WARMUP = 0.1
_EPOCHS, _STEPS = 10, 600  # at least, where the settings leave it open


@dataclass(frozen=True)
class HeadProgress:
    """Where a fit is.

    Attributes:
        epoch: From 1.
        epochs: How many there will be.
        step: Steps done.
        steps: Steps in all.
        loss: Mean of the epoch so far, in nats.
        accuracy: Validation accuracy of the epoch before, or ``None``.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class HeadFit:
    """A fitted head.

    Attributes:
        head: Takes raw features; the standardisation is folded into its first layer.
        best_epoch: Whose weights these are, from 1.
        history: One record per epoch.
    """

    head: nn.Sequential
    best_epoch: int
    history: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class _Moments:
    """Mean and reciprocal deviation of each feature, ``(features,)`` float32."""

    mean: Tensor
    inverse: Tensor

    def apply(self, values: Tensor) -> Tensor:
        return (values - self.mean) * self.inverse


def fit_head(
    settings: HeadSettings,
    training: Features,
    validation: Features,
    *,
    classes: int,
    progress: Callable[[HeadProgress], None] | None = None,
) -> HeadFit:
    """Train a head; the weights of the epoch with the best validation accuracy are kept.

    Features are standardised by the mean and deviation of the training images. Of equal epochs
    the last counts. The caller's random state is not touched; equal settings, features and number
    of threads give equal weights.

    Args:
        settings: What to train.
        training: Features to learn from.
        validation: Features that choose the epoch, measured with the largest unit winning.
        classes: Outputs.
        progress: Called after every step.

    Raises:
        InputError: There are fewer than 2 training images, or as in ``make_head``.
        DivergedError: The loss is not finite.
    """
    if len(training) < 2:
        raise InputError("a head needs at least 2 training images")
    device = torch.device(settings.device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        config = HeadConfig("features", training.values.shape[1], settings.hidden)
        run = _Fit(settings, training, config=config, classes=classes, progress=progress)
        return run.go(validation)


class _Fit:
    def __init__(
        self,
        settings: HeadSettings,
        training: Features,
        *,
        config: HeadConfig,
        classes: int,
        progress: Callable[[HeadProgress], None] | None,
    ) -> None:
        self.settings, self.training, self.progress = settings, training, progress
        self.device = torch.device(settings.device)
        config = replace(config, activation=settings.activation)
        self.head = make_head(config, classes, settings.competitors).to(self.device)
        _initialise(self.head, settings)
        self.moments = _moments(training.values, self.device)
        groups = parameter_groups(self.head, settings.weight_decay)
        self.optimizer = _adamw(groups, settings.learning_rate)
        self.precision = PRECISIONS[settings.precision]
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.precision is torch.float16
        )
        self.batch = min(settings.batch_size, len(training))
        self.epoch_steps = len(training) // self.batch
        self.epochs = settings.epochs or max(_EPOCHS, -(-_STEPS // self.epoch_steps))
        self.steps = self.epoch_steps * self.epochs
        self.step = 0
        self.labels = torch.from_numpy(training.labels)

    def go(self, validation: Features) -> HeadFit:
        """Run every epoch and return the best."""
        history: list[dict[str, Any]] = []
        best, best_state, best_epoch = -1.0, {}, 0
        for epoch in range(self.epochs):
            accuracy = history[-1]["accuracy"] if history else None
            sums = self._epoch(epoch, accuracy)
            measured, _ = measure_head(self.head, validation, moments=self.moments)
            history.append(
                {"epoch": epoch + 1, **sums, "accuracy": measured.accuracy, "nll": measured.nll}
            )
            if measured.accuracy >= best:
                best, best_epoch = measured.accuracy, epoch + 1
                best_state = {k: v.detach().clone() for k, v in self.head.state_dict().items()}
        self.head.load_state_dict(best_state)
        _fold(self.head, self.moments)
        return HeadFit(self.head.cpu().eval(), best_epoch, tuple(history))

    def _epoch(self, epoch: int, accuracy: float | None) -> dict[str, float]:
        self.head.train()
        order = np.random.default_rng((self.settings.seed, epoch)).permutation(len(self.training))
        sums = {"loss": 0.0, "cross_entropy": 0.0, "kl": 0.0}
        for number in range(self.epoch_steps):
            rows = order[number * self.batch : (number + 1) * self.batch]
            with self._arranged():
                parts = self._step(rows)
            self.step += 1
            for name, value in parts.items():
                sums[name] += value
            if self.progress is not None:
                loss = sums["loss"] / (number + 1)
                state = (epoch + 1, self.epochs, self.step, self.steps, loss, accuracy)
                self.progress(HeadProgress(*state))
        return {name: value / self.epoch_steps for name, value in sums.items()}

    @contextlib.contextmanager
    def _arranged(self) -> Iterator[None]:
        """Set the step's rate, temperature and how winners are found."""
        settings = self.settings
        rate = rate_at(
            self.step,
            self.steps,
            schedule="cosine",
            largest=settings.learning_rate,
            warmup=_WARMUP,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        settled = self.step >= self.steps * (1 - settings.settle)
        for part in lwta_modules(self.head).values():
            part.temperature = settings.temperature
            part.mode = "argmax" if settled else "auto"
        try:
            yield
        finally:
            for part in lwta_modules(self.head).values():
                part.mode = "auto"

    def _inputs(self, rows: npt.NDArray[np.int64]) -> Tensor:
        values: FloatArray = self.training.values[rows]
        if self.training.mirrored is not None:
            chosen = (torch.rand(len(rows)) < 0.5).numpy()[:, None]
            values = np.where(chosen, self.training.mirrored[rows], values)
        inputs = self.moments.apply(torch.from_numpy(values).to(self.device))
        return functional.dropout(inputs, self.settings.dropout)

    def _sampled(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and labels of several draws of the winners, from one hidden layer."""
        count = self.settings.samples
        if self.settings.activation != "lwta" or count == 1:
            return self.head(inputs).float(), labels
        responses = linear_of(self.head, "hidden")(inputs).repeat(count, 1)
        winners = self.head.get_submodule("act")(responses)
        return linear_of(self.head, "output")(winners).float(), labels.repeat(count)

    def _step(self, rows: npt.NDArray[np.int64]) -> dict[str, float]:
        settings = self.settings
        labels = self.labels[torch.from_numpy(rows)].to(self.device)
        wanted = settings.kl_weight > 0 and settings.activation == "lwta"
        enabled = self.precision is not None
        with (
            trace(self.head) if wanted else contextlib.nullcontext() as record,
            torch.autocast(self.device.type, dtype=self.precision, enabled=enabled),
        ):
            logits, labels = self._sampled(self._inputs(rows), labels)
        loss = functional.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
        parts = {"cross_entropy": float(loss.detach())}
        if record is not None:
            divergence = kl_to_uniform(record, batch=len(labels))
            parts["kl"] = float(divergence.detach())
            loss = loss + settings.kl_weight * divergence
        parts["loss"] = float(loss.detach())
        if not np.isfinite(parts["loss"]):
            raise DivergedError(
                f"the loss of the head is {parts['loss']} at step {self.step + 1} of {self.steps}; "
                "lower learning_rate or scale"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return parts


def _adamw(groups: list[dict[str, object]], rate: float) -> torch.optim.Optimizer:
    """Return AdamW in one pass over the weights, where this torch has that for their device."""
    try:
        return torch.optim.AdamW(groups, lr=rate, fused=True)
    except RuntimeError:
        return torch.optim.AdamW(groups, lr=rate)


def _initialise(head: nn.Sequential, settings: HeadSettings) -> None:
    """Give hidden responses the wanted scale, and logits the scale that a dense layer has.

    Of U competitors one passes, so an output layer as torch draws it would begin with a variance
    U times smaller than behind a dense layer.
    """
    if settings.activation == "linear":
        return
    hidden, output = linear_of(head, "hidden"), linear_of(head, "output")
    active = 0.5 if settings.competitors is None else 1 / settings.competitors
    with torch.no_grad():
        hidden.weight.normal_(0, settings.scale * hidden.in_features**-0.5)
        hidden.bias.zero_()
        output.weight.normal_(0, (output.in_features * active) ** -0.5 / settings.scale / 3)
        output.bias.zero_()


def _moments(values: FloatArray, device: torch.device) -> _Moments:
    """Return mean and reciprocal deviation; a feature that never changes gets deviation 1."""
    total = np.zeros(values.shape[1])
    for start in range(0, len(values), _ROWS):
        total += values[start : start + _ROWS].sum(0, dtype=np.float64)
    mean = total / len(values)
    square = np.zeros(values.shape[1])
    for start in range(0, len(values), _ROWS):
        square += ((values[start : start + _ROWS] - mean) ** 2).sum(0)
    deviation = np.sqrt(square / len(values))
    floor = max(1e-4 * float(deviation.max()), np.finfo(np.float32).tiny)
    deviation = np.where(deviation > floor, deviation, 1.0)
    mean, inverse = mean.astype(np.float32), (1 / deviation).astype(np.float32)
    return _Moments(torch.from_numpy(mean).to(device), torch.from_numpy(inverse).to(device))


@torch.no_grad()
def _fold(head: nn.Sequential, moments: _Moments) -> None:
    """Let the first layer take raw features: ``W (x - m) / s + b = (W / s) x + (b - W m / s)``."""
    names = [name for name, _ in head.named_children()]
    first = linear_of(head, names[0])
    weight = first.weight.double() * moments.inverse.double()
    first.bias.copy_(first.bias.double() - weight @ moments.mean.double())
    first.weight.copy_(weight)


@torch.no_grad()
def measure_head(
    head: nn.Sequential, features: Features, *, moments: _Moments | None = None
) -> tuple[Evaluation, Tensor]:
    """Measure a head on features, with the largest unit winning.

    Returns:
        The evaluation (its sites named as in the whole model), and ``(classes, 2)`` int64: right
        answers and images of each class.
    """
    device = next(head.parameters()).device
    labels = torch.from_numpy(features.labels)
    counts = torch.zeros(linear_of(head, "output").out_features, 2, dtype=torch.int64)
    nll, divergence, active, values = 0.0, 0.0, 0, 0
    competes = bool(lwta_modules(head))
    with evaluation(head):
        for start in range(0, len(features), _ROWS):
            part = torch.from_numpy(np.ascontiguousarray(features.values[start : start + _ROWS]))
            truth = labels[start : start + _ROWS]
            inputs = part.to(device)
            hidden = inputs if moments is None else moments.apply(inputs)
            with trace(head) if competes else contextlib.nullcontext() as record:
                for name, layer in head.named_children():
                    hidden = layer(hidden)
                    if name == "act":
                        active += int(torch.count_nonzero(hidden))
                        values += hidden.numel()
            logits = hidden.cpu()
            nll += float(functional.cross_entropy(logits, truth, reduction="sum"))
            counts[:, 1] += torch.bincount(truth, minlength=len(counts))
            counts[:, 0] += torch.bincount(truth[logits.argmax(1) == truth], minlength=len(counts))
            if record is not None:
                divergence += float(kl_to_uniform(record, batch=1))
    share = active / values if values else None
    return (
        Evaluation(
            images=len(features),
            accuracy=int(counts[:, 0].sum()) / len(features),
            nll=nll / len(features),
            active_fraction=share,
            active_by_site={} if share is None else {"head.act": share},
            kl_by_site={"head.act": divergence / len(features)} if competes else {},
        ),
        counts,
    )
