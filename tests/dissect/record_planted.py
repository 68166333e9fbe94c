"""Records the planted world in a process of its own, so that a test can kill it or start two.

python record_planted.py OUT IMAGES [--shard I/N] [--keep KEEP] [--pause SECONDS]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from dissect.planted import PlantedVisionText, WithBroken, detectors, probe_set, transform
from neuronym.dissect import RecordingOptions, record_run
from neuronym.lwta import convert
from neuronym.record.runs import Run, parse_shard

BROKEN = (3, 40, 41, 97)
SEGMENT, BATCH = 32, 8


class Slow(PlantedVisionText):
    """Waits before every batch, so that a kill meets it at any moment."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.pause = pause

    def embed_images(self, images):
        time.sleep(self.pause)
        return super().embed_images(images)


def network():
    """Return a network with a dense site ``detect`` and a competitive one, ``act``."""
    module = detectors()
    module.order = (*module.order, -1)
    wider = torch.nn.Linear(module.detect.in_features, 20, bias=False)
    with torch.no_grad():
        wider.weight[:19] = module.detect.weight
        wider.weight[19] = 0.01
    module.detect, module.head = wider, torch.nn.Linear(20, 5)
    torch.manual_seed(1)
    torch.nn.init.normal_(module.head.weight)
    torch.nn.init.zeros_(module.head.bias)
    return convert(module, competitors=4, example=torch.rand(2, 3, 8, 8))[0]


def images(count: int):
    return WithBroken(probe_set(count), BROKEN)


def recorded(out: str | Path, count: int, *, pause: float = 0.0, **options) -> Run:
    """Record the planted world's images in small segments."""
    return record_run(
        network(),
        images(count),
        Slow(pause),
        sites="detect,act",
        out=out,
        options=RecordingOptions(
            transform=transform, segment=SEGMENT, batch_size=BATCH, top=10, sample=50, **options
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("images", type=int)
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--keep", default="all")
    parser.add_argument("--pause", type=float, default=0.0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    recorded(
        asked.out,
        asked.images,
        pause=asked.pause,
        shard=parse_shard(asked.shard),
        keep=asked.keep,
        workers=0,
    )


if __name__ == "__main__":
    main()
