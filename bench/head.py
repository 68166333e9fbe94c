"""CIFAR-10: heads on frozen EfficientNet-Lite0 features, competitive against dense twins.

    python bench/head.py --train FILE.parquet --out RUNS --tune
    python bench/head.py --train FILE.parquet --out RUNS --test FILE.parquet

The last 5,000 training images validate: they choose the settings and the epoch. ``--tune`` runs
the same grid for every kind of head with seed 100 and keeps each kind's best row in
``RUNS/tuned-KIND-HIDDEN.json``. Without it, every kind is trained with its best row and the seeds,
and measured on the test images, once. Features are computed once and kept in ``RUNS/features``;
every finished run has a file below ``RUNS`` and is not repeated. The table is printed and written
to ``bench/results/head-HIDDEN-DEVICE-torch-VERSION.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuronym import probes
from neuronym.files import fingerprint, read_json, write_json
from neuronym.train.data import Subset
from neuronym.train.features import Features
from neuronym.train.head import Backbone, HeadOptions, open_backbone
from neuronym.train.head_fit import fit_head, measure_head
from neuronym.train.head_settings import HeadSettings

HELD_OUT = 5000
TUNING_SEED = 100
CLASSES = 10
RESULTS = Path(__file__).parent / "results"
KINDS: dict[str, dict[str, Any]] = {
    "lwta-16": {"activation": "lwta", "competitors": 16},
    "lwta-24": {"activation": "lwta", "competitors": 24},
    "relu": {"activation": "relu", "competitors": None},
    "linear": {"activation": "linear", "competitors": None},
}
GRID: dict[str, list[Any]] = {
    "learning_rate": [1e-3, 2e-3],
    "dropout": [0.2, 0.5],
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True, help="parquet file of the training images")
    parser.add_argument("--test", help="parquet file of the test images")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--backbone", default="pocket:efficientnet_lite0")
    parser.add_argument("--side", type=int, default=160, help="pixels that the backbone sees")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--hidden", type=int, default=1536, help="hidden units of every kind")
    parser.add_argument("--mirror", action="store_true", help="learn from mirrored images too")
    parser.add_argument("--precision", default="bfloat16", help="of the training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tune", action="store_true", help="run the grid, the same for each kind")
    return parser.parse_args()


class Data:
    """The features of the three parts; those of the test images are read when they are asked."""

    def __init__(self, asked: argparse.Namespace) -> None:
        size = (3, asked.side, asked.side)
        self.base = HeadSettings(
            input_size=size,
            epochs=asked.epochs,
            mirror=asked.mirror,
            precision=asked.precision,
            hidden=asked.hidden,
        )
        self.source: Backbone = open_backbone(asked.backbone, self.base)
        self.options = HeadOptions(features=asked.out / "features", feature_progress=said())
        images = probes.load(asked.train)
        order = np.arange(len(images))
        began = time.perf_counter()
        first = Subset(images, order[:-HELD_OUT], name="/first")
        last = Subset(images, order[-HELD_OUT:], name="/last")
        self.training = self.source.features(first, mirrored=asked.mirror, options=self.options)
        self.validation = self.source.features(last, options=self.options)
        self.seconds = time.perf_counter() - began
        self._test: Features | None = None
        self._asked = asked

    @property
    def test(self) -> Features:
        if self._test is None:
            self._test = self.source.features(probes.load(self._asked.test), options=self.options)
        return self._test


def said() -> Any:
    """Return a progress callable that prints a line every half minute."""
    last = [time.monotonic()]

    def progress(done: int, total: int, note: str) -> None:
        if time.monotonic() - last[0] > 30:
            last[0] = time.monotonic()
            print(f"{note}: {done} of {total}", flush=True)

    return progress


def run(data: Data, settings: HeadSettings, out: Path, *, test: bool) -> dict[str, Any]:
    """Train one head, or read the result of an earlier run with the same settings and data."""
    key = fingerprint(settings.to_dict(), data.source.fingerprint, test)
    path = out / "runs" / f"{key}.json"
    if path.is_file():
        found: dict[str, Any] = read_json(path)
        return found
    began = time.perf_counter()
    fit = fit_head(settings, data.training, data.validation, classes=CLASSES)
    seconds = time.perf_counter() - began
    measured, _ = measure_head(fit.head, data.validation)
    row: dict[str, Any] = {
        "settings": settings.to_dict(),
        "validation": measured.to_dict(),
        "best_epoch": fit.best_epoch,
        "seconds": round(seconds, 2),
    }
    if test:
        measured, counts = measure_head(fit.head, data.test)
        row["test"] = measured.to_dict()
        row["per_class"] = (counts[:, 0] / counts[:, 1]).tolist()
    write_json(path, row)
    return row


def grid() -> Iterator[dict[str, Any]]:
    for values in itertools.product(*GRID.values()):
        yield dict(zip(GRID, values, strict=True))


def tune(data: Data, asked: argparse.Namespace) -> None:
    """Run the grid for each kind and keep the row with the best validation accuracy."""
    for kind in asked.kinds:
        best, chosen = -1.0, {}
        for row in grid():
            settings = replace(data.base, **KINDS[kind], **row, seed=TUNING_SEED)
            accuracy = run(data, settings, asked.out, test=False)["validation"]["accuracy"]
            print(f"{kind} {json.dumps(row)} {accuracy:.4f}", flush=True)
            if accuracy > best:
                best, chosen = accuracy, row
        write_json(tuned_file(kind, asked), chosen)
        print(f"{kind}: {json.dumps(chosen)} {best:.4f}", flush=True)


def tuned_file(kind: str, asked: argparse.Namespace) -> Path:
    """Return where a kind's best row at this width is kept."""
    place: Path = asked.out / f"tuned-{kind}-{asked.hidden}.json"
    return place


def tuned(kind: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Return a kind's best row; nothing where it was not tuned."""
    place = tuned_file(kind, asked)
    row: dict[str, Any] = read_json(place) if place.is_file() else {}
    return row


def table(data: Data, asked: argparse.Namespace) -> None:
    """Train every kind with its tuned row and every seed; print and write the table."""
    rows = []
    print("| head | test accuracy, % | spread (SD) | validation, % | active | seconds |")
    print("|---|---|---|---|---|---|")
    for kind in asked.kinds:
        runs, row = [], tuned(kind, asked)
        for seed in asked.seeds:
            settings = replace(data.base, **KINDS[kind], **row, seed=seed)
            runs.append(run(data, settings, asked.out, test=bool(asked.test)))
        rows.append({"kind": kind, "settings": row, "runs": runs})
        print(line(kind, runs), flush=True)
    device = f"{platform.machine()}-{asked.threads}-threads"
    name = f"head-{asked.hidden}-{device}-torch-{torch.__version__.split('+')[0]}.json"
    facts = {
        "backbone": asked.backbone,
        "side": asked.side,
        "hidden": asked.hidden,
        "images": {"training": len(data.training), "validation": len(data.validation)},
        "grid": GRID,
    }
    if asked.test:
        write_json(RESULTS / name, facts | {"rows": rows})
        print(RESULTS / name)


def line(kind: str, runs: list[dict[str, Any]]) -> str:
    checked = [100 * row["validation"]["accuracy"] for row in runs]
    tested = [100 * row["test"]["accuracy"] for row in runs if "test" in row]
    active = runs[0]["validation"]["active_fraction"]
    mean = f"{statistics.mean(tested):.2f}" if tested else "-"
    spread = f"{statistics.stdev(tested):.2f}" if len(tested) > 1 else "-"
    share = "-" if active is None else f"{active:.2%}"
    seconds = statistics.median(row["seconds"] for row in runs)
    return (
        f"| {kind} | {mean} | {spread} | {statistics.mean(checked):.2f} | {share} | {seconds:.0f} |"
    )


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    data = Data(asked)
    print(f"features of {len(data.training) + len(data.validation)} images: {data.seconds:.0f} s")
    if asked.tune:
        tune(data, asked)
    else:
        table(data, asked)


if __name__ == "__main__":
    main()
