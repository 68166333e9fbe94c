"""Sketches of recorded activations against keeping the matrices, in one process.

    python bench/sketches.py [--images N] [--units K] [--sites S] [--dim D] [--batch B] [--json]

The naive twin keeps every pooled activation and computes the same numbers at the end with NumPy.
Times are processor seconds of this process, on one thread, so that a busy machine changes them
little; the first pass, which compiles the kernels, is not counted.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from neuronym.record.sketches import SiteShape, SiteSketch
from neuronym.record.sketches.histogram import BUCKETS, bucket_of
from neuronym.record.sketches.moments import add_products

Matrix = npt.NDArray[np.float32]
TOP = 100


def seconds(run: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def batch_of(rng: np.random.Generator, size: int, units: int, share: float) -> Matrix:
    """Activations of which about ``share`` are not zero, like those behind a ReLU."""
    values = rng.standard_normal((size, units), dtype=np.float32)
    return np.maximum(values - np.float32(np.quantile(values, 1 - share)), 0)


def naive(activations: list[Matrix], embeddings: list[Matrix]) -> dict[str, npt.NDArray]:
    """The numbers of one site from its whole matrices."""
    q, images = np.concatenate(activations), np.concatenate(embeddings)
    wide = q.astype(np.float64)
    top = np.argpartition(-q, TOP, axis=0)[: TOP + 1]
    held = np.take_along_axis(q, top, 0)
    top = np.take_along_axis(top, np.argsort(-held, axis=0), 0)
    place = np.arange(q.shape[1]) * BUCKETS + bucket_of(q)
    counts = np.bincount(place.reshape(-1), minlength=q.shape[1] * BUCKETS)
    return {
        "products": wide.T @ images.astype(np.float64),
        "sums": wide.sum(0),
        "squares": (wide**2).sum(0),
        "minimum": q.min(0),
        "maximum": q.max(0),
        "at_minimum": (q == q.min(0)).sum(0),
        "fired": (q > 0).sum(0),
        "histogram": counts.reshape(q.shape[1], BUCKETS),
        "top": top,
    }


def parts(sketch: SiteSketch, rows: Matrix, images: Matrix) -> dict[str, float]:
    """Processor seconds of the Gram update and of the kernel, best of five."""
    keys, exact = np.arange(len(rows)), images.astype(np.float64)
    return {
        "gram": min(seconds(lambda: add_products(sketch.products, rows, exact)) for _ in range(5)),
        "kernel": min(seconds(lambda: sketch._count(rows, keys)) for _ in range(5)),
    }


def compare(options: argparse.Namespace) -> dict[str, float]:
    """Stream the images through sketches and through lists, site by site."""
    rng = np.random.default_rng(0)
    units, batch, sites = options.units // options.sites, options.batch, options.sites
    shapes = [SiteShape(f"site{i}", units, options.dim, top=TOP) for i in range(sites)]
    SiteSketch(shapes[0]).add(  # compiles
        np.zeros((1, units), np.float32), np.zeros((1, options.dim), np.float32), np.arange(1)
    )
    sketches = [SiteSketch(shape) for shape in shapes]
    kept: list[list[Matrix]] = [[] for _ in shapes]
    embedded: list[Matrix] = []
    spent, each = 0.0, []
    for start in range(0, options.images, batch):
        size = min(batch, options.images - start)
        keys = np.arange(start, start + size)
        images = rng.standard_normal((size, options.dim), dtype=np.float32)
        rows = [batch_of(rng, size, units, options.share) for _ in shapes]
        took = sum(
            seconds(functools.partial(sketch.add, row, images, keys))
            for sketch, row in zip(sketches, rows, strict=True)
        )
        spent += took
        each.append(took / size)
        embedded.append(images)
        for held, row in zip(kept, rows, strict=True):
            held.append(row.copy())
    slow = 0.0
    for sketch, held in zip(sketches, kept, strict=True):
        found: dict[str, npt.NDArray] = {}
        slow += seconds(lambda held=held, found=found: found.update(naive(held, embedded)))
        check(sketch, found, held)
    share = parts(sketches[0], rows[0], images)
    per_image = spent / options.images
    return {
        "images": options.images,
        "units": units * sites,
        "ms_per_image": 1e3 * per_image,
        "ms_per_image_at_the_end": 1e3 * float(np.median(each[-5:])),
        "images_per_second": 1 / per_image,
        "gram_ms_per_image": 1e3 * share["gram"] * sites / len(rows[0]),
        "kernel_ms_per_image": 1e3 * share["kernel"] * sites / len(rows[0]),
        "naive_ms_per_image": 1e3 * slow / options.images,
        "ratio": slow / spent,
        "sketch_mib": sum(array.nbytes for sketch in sketches for array in sketch.arrays().values())
        / 2**20,
        "naive_mib": sum(row.nbytes for held in kept for row in held) / 2**20,
    }


def check(sketch: SiteSketch, found: dict[str, npt.NDArray], held: list[Matrix]) -> None:
    """Both ways must give the same numbers."""
    for name in ("minimum", "maximum", "at_minimum", "fired", "histogram"):
        np.testing.assert_array_equal(getattr(sketch, name), found[name])
    for name in ("products", "sums", "squares"):
        np.testing.assert_allclose(getattr(sketch, name), found[name], rtol=1e-9, atol=1e-9)
    expected = np.take_along_axis(np.concatenate(held), found["top"], 0)
    np.testing.assert_array_equal(sketch.top()[1], expected.T)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--units", type=int, default=8000)
    parser.add_argument("--sites", type=int, default=10)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--share", type=float, default=0.3, help="of activations above zero")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = compare(options)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:26} {value:12.4g}")


if __name__ == "__main__":
    main()
