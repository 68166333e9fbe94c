"""Convert a trained dense network at once, or by small steps, with the same budget.

    python bench/gradual.py --train FILE.parquet --out RUNS [--images 10000] [--seeds 0 1 2]

A residual network (batch normalisation of scale 1, as a pretrained one has) is trained dense on
part of CIFAR-10. Then it is made competitive and trained for a few more epochs: abruptly, and with
the share α growing over a half and over three quarters of the steps. The dense network goes on for
as long, as a reference. All are measured on the last 5,000 images. The table is written to
``bench/results/gradual-MACHINE-torch-VERSION.json``. Runs resume when the command is repeated.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from neuronym import probes
from neuronym.files import write_json
from neuronym.models.small import cifar_resnet
from neuronym.train import TrainSettings, build_model, calibrate, evaluate, open_source, train
from neuronym.train.data import Subset

HELD_OUT = 5000
RESULTS = Path(__file__).parent / "results"
WAYS: dict[str, dict[str, Any]] = {
    "abrupt": {},
    "gradual 0.5": {"gradual": 0.5},
    "gradual 0.75": {"gradual": 0.75},
}


def plain_resnet(num_classes: int, input_size: tuple[int, int, int] = (3, 32, 32)) -> nn.Module:
    """Return the small residual network with scales of 1."""
    return cifar_resnet(num_classes, input_size, gain=1.0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True, help="parquet file of CIFAR-10's training images")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--images", type=int, default=10000, help="training images")
    parser.add_argument("--epochs", type=int, default=5, help="of the dense network")
    parser.add_argument("--tuning", type=int, default=2, help="epochs after the conversion")
    parser.add_argument("--competitors", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def before_tuning(settings: TrainSettings, training: Subset, held_out: Subset) -> float:
    """Return the accuracy of the abrupt conversion before it is tuned, norms calibrated."""
    built = build_model(replace(settings, gradual=0.0), 10).loaded
    held = open_source(held_out, built.preprocessing)
    source = open_source(training, built.preprocessing)
    calibrate(built.module, source, order=np.arange(4096), batch_size=128)
    return evaluate(built.module, held).accuracy


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    images = probes.load(asked.train)
    training = Subset(images, np.arange(asked.images), name="/first")
    order = np.arange(len(images) - HELD_OUT, len(images))
    held_out = Subset(images, order, name="/last")
    base = TrainSettings(
        model="gradual:plain_resnet",
        dense=True,
        epochs=asked.epochs,
        optimizer="adamw",
        learning_rate=4e-3,
        weight_decay=0.05,
        augment="cifar",
    )
    rows: dict[str, list[float]] = {}
    for seed in asked.seeds:
        folder = asked.out / f"dense-seed{seed}"
        first = replace(base, seed=seed)
        done = train(first, training, out=folder, validation=held_out, resume=True)
        rows.setdefault("dense", []).append(done.history[-1]["accuracy"])
        tuned = replace(first, model=str(folder), epochs=asked.tuning, learning_rate=1e-3)
        competing = replace(
            tuned, dense=False, competitors=asked.competitors, temperature=1.0, settle=0.1
        )
        rows.setdefault("converted, not tuned", []).append(
            before_tuning(competing, training, held_out)
        )
        runs = {"dense, tuned": tuned}
        runs |= {name: replace(competing, **more) for name, more in WAYS.items()}
        for name, settings in runs.items():
            out = asked.out / f"{name.replace(' ', '-').replace(',', '')}-seed{seed}"
            done = train(settings, training, out=out, validation=held_out, resume=True)
            rows.setdefault(name, []).append(done.history[-1]["accuracy"])
            print(f"seed {seed}, {name}: {rows[name][-1]:.4f}", flush=True)
    write_table(rows, asked)


def write_table(rows: dict[str, list[float]], asked: argparse.Namespace) -> None:
    table = {
        name: {
            "mean": statistics.fmean(values),
            "spread": statistics.stdev(values) if len(values) > 1 else None,
            "values": values,
        }
        for name, values in rows.items()
    }
    for name, row in table.items():
        spread = "" if row["spread"] is None else f" ± {100 * row['spread']:.2f}"
        print(f"{name:24} {100 * row['mean']:.2f} %{spread}")
    about = {key: value for key, value in vars(asked).items() if key not in ("train", "out")}
    version = torch.__version__.split("+")[0]
    path = RESULTS / f"gradual-{platform.machine()}-torch-{version}.json"
    write_json(path, {"settings": about, "accuracy": table})
    print(json.dumps({"table": str(path)}))


if __name__ == "__main__":
    main()
