"""CIFAR-10: competitive networks and their dense twins, trained from scratch.

    python bench/cifar.py --train FILE.parquet --out RUNS [--competitors 8] [--seeds 0] [--epochs E]
    python bench/cifar.py --train FILE.parquet --out RUNS ... --test FILE.parquet

The last 5,000 training images validate and choose the epoch. Every run has its own folder below
``--out`` and goes on from its last checkpoint when the command is repeated. With ``--test`` the
finished runs are measured on the test images, and the table is written to
``bench/results/PRESET-DEVICE-torch-VERSION.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuronym import probes
from neuronym.files import write_json
from neuronym.models import load
from neuronym.probes.base import ProbeSet
from neuronym.train import PRESETS, Progress, TrainSettings, evaluate, open_source, train
from neuronym.train.data import Subset
from neuronym.train.run import activation_sites

HELD_OUT = 5000
NETWORKS = ["cifar10", "cifar10-inverted", "cifar10-deit"]
DENSE: dict[str, dict[str, Any]] = {
    "cifar10-deit": {"model": "neuronym.models.tokens:cifar_deit_plain"}
}
"""What the dense twin does otherwise than the preset: begins from the weights that suit it."""
RESULTS = Path(__file__).parent / "results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True, help="parquet file of the training images")
    parser.add_argument("--test", help="parquet file of the test images")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--competitors", type=int, nargs="*", default=[8])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--preset", default="cifar10", choices=NETWORKS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-dense", action="store_true", help="leave the dense twins out")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=JSON", help="change a setting"
    )
    return parser.parse_args()


def runs(asked: argparse.Namespace) -> Iterator[tuple[str, TrainSettings]]:
    """Yield the name and the settings of every run."""
    changes = {}
    for pair in asked.set:
        name, _, text = pair.partition("=")
        changes[name] = json.loads(text)
    for seed in asked.seeds:
        base = replace(PRESETS[asked.preset], seed=seed, **changes)
        if asked.epochs is not None:
            base = replace(base, epochs=asked.epochs)
        for count in asked.competitors:
            yield f"U{count}-seed{seed}", replace(base, competitors=count)
        if not asked.no_dense:
            yield f"dense-seed{seed}", replace(base.twin(), **DENSE.get(asked.preset, {}))


def report(name: str) -> Any:
    """Return a progress callable that prints a line per epoch."""
    last = [0]

    def progress(state: Progress) -> None:
        if state.epoch != last[0]:
            last[0] = state.epoch
            accuracy = "" if state.accuracy is None else f", accuracy {state.accuracy:.4f}"
            print(
                f"{name}: epoch {state.epoch} of {state.epochs}{accuracy}, "
                f"{state.images_per_second:.0f} images/s, {state.seconds_left / 60:.1f} min left",
                flush=True,
            )

    return progress


def measured(folder: Path, images: ProbeSet) -> dict[str, Any]:
    """Measure the model of a finished run."""
    model = load(str(folder))
    source = open_source(images, model.preprocessing)
    found = evaluate(model.module, source, sites=activation_sites(model.module), kl=True)
    return found.to_dict()


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    images = probes.load(asked.train)
    order = np.arange(len(images))
    training = Subset(images, order[:-HELD_OUT], name="/first")
    validation = Subset(images, order[-HELD_OUT:], name="/last")
    test = probes.load(asked.test) if asked.test else None
    rows = []
    for name, settings in runs(asked):
        done = train(
            settings,
            training,
            out=asked.out / name,
            validation=validation,
            resume=True,
            progress=report(name),
        )
        row: dict[str, Any] = {
            "run": name,
            "competitors": settings.competitors,
            "seed": settings.seed,
            "epochs": settings.epochs,
            "validation_accuracy": done.validation.accuracy,
            "active_fraction": done.validation.active_fraction,
            "seconds": done.seconds,
            "median_seconds_per_epoch": epoch_seconds(done.history),
        }
        if test is not None:
            row["test"] = measured(asked.out / name, test)
        rows.append(row)
        shown = {key: value for key, value in row.items() if key != "test"}
        print(json.dumps(shown | ({"test": row["test"]["accuracy"]} if test else {})))
    if test is not None:
        write_table(rows, asked)


def epoch_seconds(history: tuple[dict[str, Any], ...]) -> float | None:
    """Return the median time of an epoch, validation included."""
    ends = [0.0, *(record["seconds"] for record in history)]
    spans = [end - begin for begin, end in pairwise(ends)]
    return round(statistics.median(spans), 2) if spans else None


def write_table(rows: list[dict[str, Any]], asked: argparse.Namespace) -> None:
    device = platform.machine() + f"-{asked.threads}-threads"
    path = RESULTS / f"{asked.preset}-{device}-torch-{torch.__version__.split('+')[0]}.json"
    settings = PRESETS[asked.preset].to_dict()
    dense = DENSE.get(asked.preset, {})
    write_json(path, {"settings": settings, "changes": asked.set, "dense": dense, "runs": rows})
    print(path)


if __name__ == "__main__":
    main()
