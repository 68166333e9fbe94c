"""Checkpoints: everything that a run needs to go on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuronym.errors import InputError, UnreadableError
from neuronym.files import atomic_path
from neuronym.train.settings import FREE, TrainSettings

__all__ = ["BEST", "FOLDER", "LATEST", "State", "check_same_run", "read_state", "write_state"]

FOLDER = "checkpoints"
LATEST = "latest.pt"
_LATER = {
    **{
        field.name: field.default for field in fields(TrainSettings) if field.default is not MISSING
    },
    "processes": 1,
}
"""What a run did that was begun before a field existed."""
BEST = "best.safetensors"


@dataclass
class State:
    """A run between two steps.

    No random state is kept: every step seeds its own stream from the run's seed and the step's
    number, and the order of an epoch comes from the seed and the epoch's number.

    Attributes:
        step: Steps done.
        model, optimizer, scaler: State dicts.
        history: One record per finished epoch.
        sums: Running sums of the epoch that is under way.
        best_accuracy: On validation, below 0 before the first epoch ends.
        best_epoch: From 1; 0 before the first epoch ends.
        seconds: Time spent so far.
        skipped: Id and reason of images that could not be read.
        run: Settings and fingerprints that a resumed run must share.
    """

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    best_accuracy: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)


def write_state(folder: Path, state: State) -> None:
    """Write ``checkpoints/latest.pt`` in place of the one before."""
    with atomic_path(folder / FOLDER / LATEST) as temporary:
        torch.save(dict(vars(state)), temporary)


def read_state(folder: Path) -> State | None:
    """Read ``checkpoints/latest.pt``; ``None`` where there is none yet.

    Raises:
        UnreadableError: The file is not a checkpoint of this version.
    """
    path = folder / FOLDER / LATEST
    if not path.is_file():
        return None
    try:
        return State(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises errors of many kinds for a file that is not one
        text = " ".join(str(error).split())[:160]
        raise UnreadableError(
            f"{str(path)!r} is not a checkpoint that this version can resume: {text}"
        ) from error


def check_same_run(found: Mapping[str, Any], wanted: Mapping[str, Any], *, where: Path) -> None:
    """Refuse to resume a run with other settings or other data.

    Raises:
        InputError: A field differs; the text names it, with both values.
    """
    before = _LATER | dict(found["settings"])
    before |= {key: value for key, value in found.items() if key != "settings"}
    now = dict(wanted["settings"])
    now |= {key: value for key, value in wanted.items() if key != "settings"}
    for name in sorted(set(before) | set(now)):
        if name not in FREE and before.get(name) != now.get(name):
            raise InputError(
                f"{str(where)!r} cannot resume: {name} was {before.get(name)!r}, "
                f"now it is {now.get(name)!r}"
            )
