"""What merging costs: the sketches of many shards, and what follows for any number of images.

    python bench/merge.py [--units 10000] [--sites 10] [--dim 384] [--shards 4] [--json]

Makes the sketches of synthetic shards as a run writes them, merges them as ``neuronym merge`` does,
and prints size and seconds of a shard. With ``--images``, ``--ms`` (milliseconds of an image on one
worker) and ``--workers`` it says what a pass over so many images takes in all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuronym.record.capture import Captured
from neuronym.record.runs import RunInfo, Shard, Sketches
from neuronym.record.runs.journal import Entry
from neuronym.record.runs.segment import open_checked
from neuronym.store import create


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--sites", type=int, default=10)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--sample", type=int, default=2000)
    parser.add_argument("--images", type=float, default=1e9)
    parser.add_argument("--ms", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def info_of(asked: argparse.Namespace) -> RunInfo:
    """Return what describes the synthetic run."""
    each = asked.units // asked.sites
    row = {
        "module": "m",
        "call": 0,
        "channel_dim": -1,
        "units": each,
        "positions": 1,
        "layout": "image",
        "class_token": False,
        "pooling": "mean",
        "competitors": None,
    }
    identity = {
        "sites": {f"site{number}": row for number in range(asked.sites)},
        "vision_text": {"dim": asked.dim, "fingerprint": "synthetic"},
        "top": 100,
        "sample": asked.sample,
        "keep": "none",
    }
    return RunInfo(identity, {}, Shard())


def shard(info: RunInfo, first: int, images: int) -> Sketches:
    """Return the sketches of a synthetic shard."""
    sketches = Sketches.empty(info)
    draw = np.random.default_rng(first)
    for start in range(0, images, 256):
        count = min(256, images - start)
        keys = np.arange(first + start, first + start + count)
        captured = {
            site.name: Captured(
                np.maximum(draw.standard_normal((count, site.units), np.float32), 0),
                None,
                None,
                1,
                1,
            )
            for site in info.sites
        }
        vectors = draw.standard_normal((count, info.dim), np.float32)
        ids = tuple(str(key) for key in keys)
        sketches.add(Entry(keys, ids, None, vectors, captured, (), start + count))
    return sketches


def size_of(folder: Path) -> int:
    """Return the bytes of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    asked = arguments()
    torch.set_num_threads(2)
    info = info_of(asked)
    with tempfile.TemporaryDirectory() as base:
        for number in range(asked.shards):
            made = shard(info, 10_000 * number, 2048)
            with create(Path(base) / str(number), info.identity) as writer:
                made.write(writer)
        held = sum(array.nbytes for _, array in made.arrays())
        merged, seconds = Sketches.empty(info), []
        for number in range(asked.shards):
            begin = time.perf_counter()
            store = open_checked(Path(base) / str(number), info.identity)
            merged = merged.merge(Sketches.read(store, info))
            seconds.append(time.perf_counter() - begin)
        stored = size_of(Path(base) / "0")
    each = statistics.median(seconds)
    result: dict[str, Any] = {
        "units": asked.units,
        "dim": asked.dim,
        "sketch_mib_in_memory": held / 2**20,
        "sketch_mib_on_disk": stored / 2**20,
        "merge_seconds_per_shard": each,
        "images": asked.images,
        "workers": asked.workers,
        "days": asked.images * asked.ms / 1e3 / asked.workers / 86400,
        "embeddings_tb": asked.images * asked.dim * 4 / 1e12,
        "merge_minutes": asked.workers * each / 60,
        "merge_reads_gib": asked.workers * stored / 2**30,
    }
    print(json.dumps(result, indent=None if asked.json else 1))


if __name__ == "__main__":
    main()
