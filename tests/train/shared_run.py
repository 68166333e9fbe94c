"""Runs that several processes share, and one alone: started by the tests as a script."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuronym.errors import NeuronymError
from neuronym.train import Progress, TrainSettings, train
from neuronym.train.team import close_team
from train.synthetic import Blobs


class Normed(nn.Module):
    """A small network whose normalisations do not look at other images."""

    def __init__(self, num_classes: int, input_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.input_size = input_size
        self.conv = nn.Conv2d(3, 16, 4, 4)
        self.norm = nn.GroupNorm(2, 16)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.hidden = nn.Linear(64, 24)
        self.wide = nn.LayerNorm(24)
        self.act2 = nn.GELU()
        self.head = nn.Linear(24, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(4 * self.norm(self.conv(x)))).flatten(1)
        out: Tensor = self.head(self.act2(4 * self.wide(self.hidden(x))))
        return out


def normed(num_classes: int, input_size: tuple[int, int, int] = (3, 16, 16)) -> nn.Module:
    return Normed(num_classes, input_size)


class Exploding(Normed):
    """Its third training step is infinite where the images are bright enough: in one process."""

    def __init__(self, num_classes: int, input_size: tuple[int, int, int]) -> None:
        super().__init__(num_classes, input_size)
        self.calls = 0
        self.hidden.register_forward_hook(self._explode)

    def _explode(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        self.calls += self.training
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 1
        return output * (float("inf") if self.calls > 2 and rank == 1 else 1.0)


def exploding(num_classes: int, input_size: tuple[int, int, int] = (3, 16, 16)) -> nn.Module:
    return Exploding(num_classes, input_size)


SETTINGS = TrainSettings(
    model="train.shared_run:normed",
    competitors=4,
    epochs=2,
    batch_size=15,
    learning_rate=0.05,
    momentum=0.8,
    kl_weight=1e-3,
    temperature=2.0,
    holdout=0.25,
    workers=1,
)
LARGE = (3, 160, 160)
RUNS: dict[str, tuple[TrainSettings, Blobs]] = {
    "plain": (SETTINGS, Blobs()),
    "pieces": (replace(SETTINGS, accumulate=3, settle=0.5), Blobs()),
    "mixed": (
        replace(
            SETTINGS,
            batch_size=16,
            mixup=0.8,
            cutmix=1.0,
            augment="deit",
            clip_norm=0.5,
            gradual=0.5,
        ),
        Blobs(),
    ),
    "streamed": (
        replace(SETTINGS, input_size=LARGE, memory_mb=1, epochs=1),
        Blobs(60, side=160, broken=[3, 17, 18, 19, 40]),
    ),
    "norms": (replace(SETTINGS, model="neuronym.models.small:scene_net", batch_size=32), Blobs()),
}


class Stop(Exception):
    """Stands for a kill."""


def stop(seen: Progress) -> None:
    if seen.step == 6:
        raise Stop


def attempt(folder: Path, name: str, settings: TrainSettings, **more: Any) -> None:
    """Run, and write what an error says, per process."""
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    try:
        train(settings, Blobs(), out=folder / name, **more)
        text = "done"
    except (NeuronymError, Stop) as error:
        text = f"{type(error).__name__}: {error}"
    with (folder / f"{name}-{rank}.txt").open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for name, (settings, images) in RUNS.items():
        train(settings, images, out=folder / name)
    attempt(folder, "plain", SETTINGS)
    attempt(folder, "diverging", replace(SETTINGS, model="train.shared_run:exploding"))
    attempt(folder, "stopped", replace(SETTINGS, checkpoint_minutes=1e-9), progress=stop)
    attempt(folder, "stopped", replace(SETTINGS, checkpoint_minutes=1e-9), resume=True)
    close_team()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
