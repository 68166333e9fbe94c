"""Faithfulness of contributions on CIFAR-10, at every competitive site of a trained network.

    python bench/faithfulness.py --model FOLDER --images cifar10-test.parquet [--last 500]

Takes the last images of the file, which nothing may have been tuned on, removes winners in the
order of their contribution (``--orders`` for others) and at random, and prints for each site the
areas with intervals. ``--dense FOLDER`` measures a dense twin at the same sites. Before that it
times our runs of one site against a plain loop, one whole forward pass per image and set of
units, in the same process, and compares the logits. The table goes to
``bench/results/faithfulness-MACHINE-torch-VERSION.json``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuronym import models, probes
from neuronym.evaluate import FaithfulnessOptions, faithfulness
from neuronym.evaluate.curves import ORDERS
from neuronym.evaluate.masking import MaskedRuns, masked, place_of
from neuronym.files import read_json, write_json
from neuronym.models import LoadedModel, read_config
from neuronym.probes import ProbeSet
from neuronym.record import Site, find_sites

RESULTS = Path(__file__).parent / "results"
SHOWN = ("deletion_ratio", "insertion_ratio", "deletion_area", "random_area", "winners")
TIMED_RUNS = 100


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a trained competitive network")
    parser.add_argument("--dense", help="folder of its dense twin")
    parser.add_argument("--images", required=True, help="images that nothing was tuned on")
    parser.add_argument("--last", type=int, default=500, help="how many, from the end")
    parser.add_argument("--orders", nargs="*", default=["signed"], choices=list(ORDERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sites", type=int, help="only so many of the last sites")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--add", action="store_true", help="do not repeat parts of an earlier run")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def sites_of(model: LoadedModel, names: tuple[str, ...]) -> list[Site]:
    """Return the sites of that name, the last first."""
    sample = torch.zeros(2, *model.input_size)
    return list(find_sites(model.module, names, sample, competitive=names))[::-1]


def against_a_loop(model: LoadedModel, images: ProbeSet, site: Site) -> dict[str, Any]:
    """Time our runs of one site and a plain loop over the same sets of units, interleaved."""
    keep = np.random.default_rng(0).random((TIMED_RUNS, site.units)) < 0.5
    place = place_of(model.module, site.name, site.channel_dim)
    ours = MaskedRuns(model.module, place, batch_size=128)
    mine: list[float] = []
    naive: list[float] = []
    apart = 0.0
    ours(model.transform(images.image(0)), keep)
    for index in range(5):
        image = model.transform(images.image(index))
        start = time.perf_counter()
        found = ours(image, keep)
        mine.append(time.perf_counter() - start)
        start = time.perf_counter()
        with torch.no_grad():
            rows = []
            for row in torch.from_numpy(keep):
                with masked(model.module, place, row[None]):
                    rows.append(model.module(image[None])[0].double().numpy())
        naive.append(time.perf_counter() - start)
        apart = max(apart, float(np.abs(found - np.stack(rows)).max()))
    return {
        "site": site.name,
        "milliseconds_per_run": 1e3 * float(np.median(mine)) / TIMED_RUNS,
        "loop": 1e3 * float(np.median(naive)) / TIMED_RUNS,
        "ratio": float(np.median(naive) / np.median(mine)),
        "largest_difference": apart,
    }


def measured(
    model: LoadedModel, images: ProbeSet, sites: list[Site], order: str, seed: int
) -> dict[str, Any]:
    """Return the metrics and the curves of every site."""
    options = FaithfulnessOptions(order=order, seed=seed, workers=0)
    found = faithfulness(model, images, sites, options=options)
    rows, notes = found.metrics()
    return {
        "metrics": [
            {"name": row.name, "value": row.value, "n": row.n, "interval": row.interval}
            for row in rows
        ],
        "notes": list(notes),
        "curves": {
            site.site: {name: np.round(curve, 4).tolist() for name, curve in site.curves.items()}
            for site in found.sites
        },
    }


def show(title: str, result: dict[str, Any]) -> None:
    print(title)
    rows = {row["name"]: row for row in result["metrics"]}
    for site in result["curves"]:
        line = f"  {site:22s}"
        for name in SHOWN:
            row = rows[f"faithfulness.{name}/{site}"]
            low, high = row["interval"] or (float("nan"), float("nan"))
            line += f" {name} {row['value']:.3f} ({low:.3f} to {high:.3f})"
        print(line, flush=True)


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    every = probes.load(asked.images)
    count = min(asked.last, len(every))
    images = probes.subset(every, range(len(every) - count, len(every)))
    names = tuple(read_config(asked.model).converted)
    version = torch.__version__.partition("+")[0]
    machine = f"{platform.machine()}-{asked.threads}-threads"
    path = RESULTS / f"faithfulness-{machine}-torch-{version}.json"
    result: dict[str, Any] = read_json(path) if asked.add and path.is_file() else {}
    result |= {
        "images": count,
        "seed": asked.seed,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": asked.threads,
    }
    loaded = {"competitive": models.load(asked.model)}
    if asked.dense:
        loaded["dense"] = models.load(asked.dense)
    sites = sites_of(loaded["competitive"], names)
    if "speed" not in result:
        result["speed"] = [
            against_a_loop(loaded["competitive"], images, site) for site in (sites[0], sites[-1])
        ]
    if not asked.json:
        print(json.dumps(result["speed"], indent=1), flush=True)
    for kind, model in loaded.items():
        for order in asked.orders:
            if f"{kind}, {order}" in result:
                continue
            part = measured(model, images, sites_of(model, names)[: asked.sites], order, asked.seed)
            result[f"{kind}, {order}"] = part
            if not asked.json:
                show(f"{kind}, {order}", part)
            write_json(path, result)
    if asked.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
