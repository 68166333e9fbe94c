"""What recording costs beyond the two forward passes, and whether it stays so at any size.

    python bench/recording.py overhead --images PHOTOS.parquet [--sites 'blocks.6*'] [--repeat 7]
    python bench/recording.py size --images CIFAR10.parquet [--counts 1000 5000 20000 50000]

``overhead`` compares recording with its bare twin, in one process and by turns: the same photos
decoded once, the same forward pass of EfficientNet-Lite0 and the same embedding by the pocket
model, of which nothing is kept. ``size`` records more and more images of a small network with an
embedding that costs little, so that the recording itself is what is timed; what a recording of one
batch takes (finding sites, writing sketches) is the start, and counts once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from neuronym import models, probes, vision_text
from neuronym.dissect import RecordingOptions, record_run
from neuronym.modes import evaluation
from neuronym.probes import ProbeSet

BATCH = 32


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=["overhead", "size"])
    parser.add_argument("--images", required=True, help="SPEC of real images")
    parser.add_argument("--count", type=int, default=400, help="images of the case overhead")
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 5000, 20000, 50000])
    parser.add_argument("--sites", default="blocks.6*")
    parser.add_argument("--model", default="pocket:efficientnet_lite0")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def first(images: ProbeSet, count: int) -> ProbeSet:
    """Return the first images of a probe set."""
    return probes.subset(images, range(min(count, len(images))))


def bare(model: Any, embedder: Any, images: ProbeSet) -> float:
    """Return the seconds of decoding once and both forward passes, of which nothing is kept."""
    begin = time.perf_counter()
    with evaluation(model.module), torch.no_grad(), probes.batches(images, batch_size=BATCH) as all:
        for batch in all:
            model.module(torch.stack([model.transform(image) for image in batch.images]))
            embedder.embed_images(batch.images)
    return time.perf_counter() - begin


def recording(model: Any, embedder: Any, images: ProbeSet, sites: str) -> tuple[float, int]:
    """Return the seconds of a whole recording, and how many units it has."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        run = record_run(
            model,
            images,
            embedder,
            sites=sites,
            out=Path(folder) / "run",
            options=RecordingOptions(batch_size=BATCH),
        )
        seconds = time.perf_counter() - begin
        return seconds, sum(site.units for site in run.sites)


def overhead(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure recording and its bare twin by turns."""
    model, embedder = models.load(asked.model), vision_text.load("pocket")
    images = first(probes.load(asked.images), asked.count)
    bare(model, embedder, first(images, BATCH))
    recording(model, embedder, first(images, BATCH), asked.sites)
    pairs = []
    for _ in range(asked.repeat):
        lower = bare(model, embedder, images)
        upper, units = recording(model, embedder, images, asked.sites)
        pairs.append((lower, upper))
    ratios = [upper / lower for lower, upper in pairs]
    return {
        "images": len(images),
        "units": units,
        "bare_ms_per_image": 1e3 * statistics.median(low for low, _ in pairs) / len(images),
        "recording_ms_per_image": 1e3 * statistics.median(up for _, up in pairs) / len(images),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


class Colours:
    """An embedding that costs little: a fixed random projection of an 8 × 8 thumbnail."""

    name, dim, logit_scale, fingerprint = "colours", 384, 100.0, "colours-1"

    def __init__(self) -> None:
        self._projection = np.random.default_rng(0).normal(size=(192, self.dim)) / 14

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        small = [np.asarray(image.resize((8, 8)), np.float32).reshape(-1) / 255 for image in images]
        return (np.stack(small) @ self._projection).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        raise NotImplementedError("this benchmark names nothing")


def size(asked: argparse.Namespace) -> dict[str, Any]:
    """Time recordings of more and more images."""
    torch.manual_seed(0)
    model = models.load("neuronym.models.small:scene_net", num_classes=10, input_size=(3, 32, 32))
    images = probes.load(asked.images)
    few = first(images, BATCH)
    start = statistics.median(recording(model, Colours(), few, "*")[0] for _ in range(6))
    rows = []
    for count in asked.counts:
        seconds, units = recording(model, Colours(), first(images, count), "*")
        each = 1e3 * (seconds - start) / (count - BATCH)
        rows.append({"images": count, "units": units, "seconds": seconds, "ms_per_image": each})
    times = [row["ms_per_image"] for row in rows]
    return {"start_seconds": start, "rows": rows, "largest_over_smallest": max(times) / min(times)}


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    result = overhead(asked) if asked.case == "overhead" else size(asked)
    print(json.dumps(result, indent=None if asked.json else 1))


if __name__ == "__main__":
    main()
