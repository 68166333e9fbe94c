"""Peak memory of naming many units over many images, synthetic and streamed.

    python bench/naming_memory.py [--images N N N] [--units K] [--concepts M] [--dim D] [--json]

Each case runs in a process of its own, so that its peak is true; torch and numba are included.
Activations are made batch by batch from a seed, embeddings lie on disk, and what is kept is a run's
sketches: moments, each unit's top images, histograms. Units are named by the cosine from moments
and by SoftWPMI from the top images. The matrices that a peer holds are images × concepts and
images × units.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from neuronym.record.sketches import ImageMoments, SiteShape, SiteSketch
from neuronym.similarity import (
    ImageSums,
    TopImages,
    UnitSums,
    rank_from_moments,
    rank_from_top,
)

BATCH, TOP, SEED = 256, 100, 0
LIMIT_GIB = 2.0


class OnDisk:
    """Embeddings in a file of float32 rows; the key of an image is its row."""

    def __init__(self, path: Path, dim: int) -> None:
        self._file, self.dim = os.open(path, os.O_RDONLY), dim

    def rows(self, keys: np.ndarray) -> np.ndarray:
        found = np.empty((len(keys), self.dim), np.float32)
        cuts = np.flatnonzero(np.diff(keys) != 1) + 1  # runs of neighbours are read at once
        size = 4 * self.dim
        for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(keys)], strict=True):
            if os.preadv(self._file, [found[start:stop]], int(keys[start]) * size) != size * (
                stop - start
            ):
                raise OSError("the file of embeddings is too short")
        return found


def synthesise(path: Path, images: int, units: int, dim: int) -> tuple[SiteSketch, ImageMoments]:
    """Write the embeddings and return the sketches.

    Activations are noisy rectified directions of the embedding space.
    """
    generator = torch.Generator().manual_seed(SEED)
    directions = torch.randn(dim, units, generator=generator) / dim**0.5
    site, whole = SiteSketch(SiteShape("site", units, dim, top=TOP)), ImageMoments(dim)
    with path.open("wb") as file:
        for first in range(0, images, BATCH):
            count = min(BATCH, images - first)
            embeddings = torch.randn(count, dim, generator=generator) + 0.3
            embeddings /= embeddings.norm(dim=1, keepdim=True)
            file.write(embeddings.numpy().tobytes())
            activations = (embeddings @ directions).mul_(dim**0.5).sub_(0.5).relu_()
            keys = np.arange(first, first + count)
            site.add(activations.numpy(), embeddings.numpy(), keys)
            whole.add(embeddings.numpy(), keys)
    return site, whole


def case(images: int, units: int, concepts: int, dim: int) -> dict[str, object]:
    """Run one case in this process."""
    seconds = {}
    generator = torch.Generator().manual_seed(SEED + 1)
    texts = torch.nn.functional.normalize(torch.randn(concepts, dim, generator=generator))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embeddings"
        began = time.perf_counter()
        site, pictures = synthesise(path, images, units, dim)
        seconds["pass over the images"] = time.perf_counter() - began
        before = peak_gib()
        began = time.perf_counter()
        moments = UnitSums(site.products, site.sums, site.squares)
        whole = ImageSums(pictures.images, pictures.sums, pictures.products)
        rank_from_moments([moments], whole, texts, keep=5, centred=True)
        seconds["cosine"] = time.perf_counter() - began
        began = time.perf_counter()
        mean = pictures.sums / pictures.images
        counted = site.counted(TOP)
        tops = TopImages(counted.keys, counted.counts)
        rank_from_top("soft_wpmi", [tops], OnDisk(path, dim), texts, keep=5, mean=mean)
        seconds["soft_wpmi"] = time.perf_counter() - began
    return {
        "images": images,
        "units": units,
        "concepts": concepts,
        "dim": dim,
        "peak_gib": round(peak_gib(), 3),
        "peak_gib_before_naming": round(before, 3),
        "matrix_images_concepts_gib": round(images * concepts * 4 / 2**30, 2),
        "matrix_images_units_gib": round(images * units * 4 / 2**30, 2),
        "images_among_the_top": len(np.unique(tops.keys[tops.used])),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def peak_gib() -> float:
    """Return the largest resident size of this process so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 100_000, 200_000])
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--concepts", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(case(given.images[0], given.units, given.concepts, given.dim)))
        return
    rows = []
    for images in given.images:
        sizes = [images, given.units, given.concepts, given.dim]
        flags = ["--images", "--units", "--concepts", "--dim"]
        command = [sys.executable, __file__, "--here"]
        for flag, size in zip(flags, sizes, strict=True):
            command += [flag, str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout))
        if not given.json:
            row = rows[-1]
            verdict = "met" if row["peak_gib"] <= LIMIT_GIB else "missed"
            print(
                f"{images} images: peak {row['peak_gib']} GiB (at most {LIMIT_GIB:g}: {verdict}), "
                f"matrix {row['matrix_images_concepts_gib']} GiB, seconds {row['seconds']}"
            )
    if given.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
