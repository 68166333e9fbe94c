"""One sitting of a run: epochs, validation, checkpoints, and the files at the end."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuronym._version import __version__
from neuronym.files import read_json, write_json, write_manifest
from neuronym.lwta import gradual
from neuronym.models import ModelConfig, read_config, save_folder
from neuronym.models.folder import fit_weights, read_weights, write_weights
from neuronym.train.checkpoint import BEST, FOLDER, State, write_state
from neuronym.train.loop import Loop, Progress
from neuronym.train.measure import Evaluation, Plan, evaluate_shared
from neuronym.train.scorecard import SCORECARD, scorecard_of

__all__ = ["KIND", "LAST", "METRICS", "Session", "TrainResult", "finished", "versions"]

KIND = "train"
SCHEMA = 1
LAST = "last.safetensors"
METRICS = "metrics.json"


@dataclass(frozen=True)
class TrainResult:
    """What a finished run gives.

    Attributes:
        folder: Holds ``model.safetensors`` (the best epoch), ``last.safetensors``,
            ``config.json``, ``metrics.json``, ``scorecard.json`` and ``checkpoints/``.
        config: Content of ``config.json``.
        validation: The best epoch's weights, measured with deterministic winners.
        best_epoch: From 1.
        history: One record per epoch.
        seconds: Training time, over all sessions of the run.
        skipped: Id and reason of the images that could not be read.
    """

    folder: Path
    config: ModelConfig
    validation: Evaluation
    best_epoch: int
    history: tuple[dict[str, Any], ...]
    seconds: float
    skipped: dict[str, str]


class Session:
    """One sitting of a run: epochs, validation, checkpoints, and the files at the end."""

    def __init__(
        self,
        folder: Path,
        loop: Loop,
        *,
        run: dict[str, Any],
        config: ModelConfig,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.folder, self.loop, self.run, self.config = folder, loop, run, config
        self.progress = progress
        self.history: list[dict[str, Any]] = []
        self.best_accuracy, self.best_epoch = -1.0, 0
        self.earlier = 0.0
        self.skipped: dict[str, str] = {}
        self.began = time.monotonic()
        self.saved = self.began

    @property
    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.began

    def restore(self, state: State) -> None:
        """Go on from a checkpoint."""
        self.loop.restore(state)
        self.history = [dict(record) for record in state.history]
        self.best_accuracy, self.best_epoch = state.best_accuracy, state.best_epoch
        self.earlier = state.seconds
        self.skipped = dict(state.skipped)

    def go(self) -> None:
        """Run every epoch that is left."""
        while len(self.history) < self.loop.settings.epochs:
            last = self.history[-1] if self.history else None
            if self.loop.step < (len(self.history) + 1) * self.loop.epoch_steps:
                self.loop.run_epoch(self._after_step, last)
            self._after_epoch()

    def _after_step(self, progress: Progress) -> None:
        minutes = self.loop.settings.checkpoint_minutes
        if self.loop.team.leads and time.monotonic() - self.saved > 60 * minutes:
            self.save()
        if self.progress is not None:
            self.progress(progress)

    def _after_epoch(self) -> None:
        measured, weights = self.loop.validate()
        images = max(1.0, self.loop.sums["images"])
        self.history.append(
            {
                "epoch": len(self.history) + 1,
                **{
                    name: value / images
                    for name, value in self.loop.sums.items()
                    if name != "images"
                },
                "accuracy": measured.accuracy,
                "nll": measured.nll,
                "learning_rate": self.loop.rate_of(self.loop.step - 1),
                "temperature": self.loop.temperature_of(self.loop.step - 1),
                "share": self.loop.share_at(self.loop.step - 1),
                **_competition_of(measured),
                "seconds": round(self.seconds, 3),
            }
        )
        for skipped in self.loop.team.gather(
            self.loop.training.skipped | self.loop.validation.skipped
        ):
            self.skipped |= skipped
        best = measured.accuracy >= self.best_accuracy
        if best:
            self.best_accuracy, self.best_epoch = measured.accuracy, len(self.history)
        if not self.loop.team.leads:
            return
        if best:
            write_weights(self.folder / FOLDER / BEST, weights, self.config)
        if len(self.history) == self.loop.settings.epochs:
            write_weights(self.folder / LAST, weights, self.config)
        self.save()

    def save(self) -> None:
        """Write a checkpoint; the work of one process."""
        self.skipped |= self.loop.training.skipped | self.loop.validation.skipped
        state = self.loop.state()
        state.history, state.run, state.seconds = self.history, self.run, self.seconds
        state.best_accuracy, state.best_epoch = self.best_accuracy, self.best_epoch
        state.skipped = self.skipped
        write_state(self.folder, state)
        self.saved = time.monotonic()

    def finish(self) -> TrainResult:
        """Measure the best epoch's weights and write the model folder; the manifest is last."""
        team, module = self.loop.team, gradual.finish(self.loop.module)
        best, _ = team.led(lambda: read_weights(self.folder / FOLDER / BEST))
        fit_weights(module, best, where=BEST)
        plan = Plan(sites=self.loop.sites, kl=True, precision=self.loop.precision)
        measured = evaluate_shared(module, self.loop.validation, plan, team)
        return team.led(lambda: self._write(best, measured))

    def _write(self, best: dict[str, Tensor], measured: Evaluation) -> TrainResult:
        metrics = {
            "best_epoch": self.best_epoch,
            "validation": measured.to_dict(),
            "history": self.history,
            "seconds": round(self.seconds, 3),
            "skipped": self.skipped,
        }
        write_json(self.folder / METRICS, metrics)
        scorecard_of(measured, seed=self.loop.settings.seed, run=self.run).save(
            self.folder / SCORECARD
        )
        save_folder(self.folder, best, self.config)
        write_manifest(self.folder, kind=KIND, schema=SCHEMA, run=self.run)
        return finished(self.folder)


def _competition_of(measured: Evaluation) -> dict[str, Any]:
    """Return an epoch's dead units, mean win-rate entropy and KL by site; empty for a twin."""
    if measured.diagnosis is None:
        return {}
    layers = measured.diagnosis.layers
    return {
        "dead_units": {layer.name: layer.dead_units for layer in layers},
        "win_entropy": {layer.name: layer.mean_entropy for layer in layers},
        "kl_by_site": {layer.name: layer.kl for layer in layers},
    }


def finished(folder: Path) -> TrainResult:
    """Read the result of a finished run."""
    metrics = read_json(folder / METRICS, what="training metrics")
    return TrainResult(
        folder=folder,
        config=read_config(folder),
        validation=Evaluation.from_dict(metrics["validation"]),
        best_epoch=int(metrics["best_epoch"]),
        history=tuple(metrics["history"]),
        seconds=float(metrics["seconds"]),
        skipped=dict(metrics["skipped"]),
    )


def versions() -> dict[str, Any]:
    """Return what a reader needs to repeat a run bit for bit, beside its settings and data."""
    return {
        "neuronym": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
