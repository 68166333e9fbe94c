"""JPEG decoding at reduced size against full size: the time saved, and what changes for models.

    python bench/decode.py --photos imagenet-photos.parquet [--images N] [--json]

The photos of the sample data are small, so two kinds of large files are made of them: each
photo enlarged (smooth: little is lost), and mosaics of 4 x 4 photos (as sharp as a camera's
file: the hard case). Both are saved as JPEG, quality 92. Per kind and factor, with `at_least` =
factor x the side to which the models resize: processor milliseconds per image of both ways of
decoding; the difference of the pixels that reach the model (mean and 99th percentile, of 255); the
cosine between pocket embeddings; the change of EfficientNet-Lite0's pooled activations, relative
to their largest over the images, and the correlation of all of them.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from neuronym import models, vision_text
from neuronym.probes import decode, reduced_side
from neuronym.vision_text import VisionTextModel

FACTORS = (1.0, 1.5, 2.0, 3.0)
ENLARGED = 4
TILES, TILE = 4, 400


def photos(path: str, count: int) -> list[Image.Image]:
    found: list[Image.Image] = []
    for batch in pq.ParquetFile(path).iter_batches(64, columns=["image"]):
        for row in batch.column("image").to_pylist():
            found.append(decode(row["bytes"]))
            if len(found) == count:
                return found
    return found


def saved(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def enlarged(pictures: list[Image.Image], count: int) -> list[bytes]:
    return [
        saved(
            picture.resize(
                (picture.width * ENLARGED, picture.height * ENLARGED), Image.Resampling.BICUBIC
            )
        )
        for picture in pictures[:count]
    ]


def mosaics(pictures: list[Image.Image], count: int) -> list[bytes]:
    made = []
    for number in range(count):
        whole = Image.new("RGB", (TILES * TILE, TILES * TILE))
        for place in range(TILES**2):
            picture = pictures[(number * 7 + place) % len(pictures)]
            side = min(picture.size)
            tile = picture.crop((0, 0, side, side)).resize((TILE, TILE), Image.Resampling.BICUBIC)
            whole.paste(tile, (place % TILES * TILE, place // TILES * TILE))
        made.append(saved(whole))
    return made


def seconds(files: list[bytes], at_least: int | None) -> float:
    """Processor seconds per image, the best of three passes (others may use the machine too)."""
    best = []
    for _ in range(3):
        start = time.thread_time()
        for data in files:
            decode(data, at_least=at_least)
        best.append((time.thread_time() - start) / len(files))
    return min(best)


def pooled(model: models.LoadedModel) -> Callable[[list[Image.Image]], np.ndarray]:
    def run(images: list[Image.Image]) -> np.ndarray:
        with torch.no_grad():
            inputs = torch.stack([model.transform(image) for image in images])
            return model.module.forward_features(inputs).mean((2, 3)).numpy()

    return run


def inputs(model: models.LoadedModel, images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(model.transform.pixels(image), dtype=float) for image in images])


def compare(
    kind: str, files: list[bytes], model: models.LoadedModel, pocket: VisionTextModel
) -> Iterator[dict[str, object]]:
    """Yield one row per factor."""
    side = models.resize_side(model.transform), vision_text.resize_side_of(pocket)
    full = [decode(data) for data in files]
    slow = seconds(files, None)
    activations, embeddings = pooled(model)(full), pocket.embed_images(full)
    seen = inputs(model, full)
    largest = activations.max(0).clip(0.01 * activations.max())  # some units hardly fire
    for factor in FACTORS:
        at_least = reduced_side(*side, factor=factor)
        small = [decode(data, at_least=at_least) for data in files]
        fast = seconds(files, at_least)
        other, vectors = pooled(model)(small), pocket.embed_images(small)
        norms = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(vectors, axis=1)
        cosines = (embeddings * vectors).sum(1) / norms
        pixels = np.abs(inputs(model, small) - seen)
        change = np.abs(other - activations) / largest
        shrunk = [a.width / b.width for a, b in zip(full, small, strict=True)]
        together = np.corrcoef(other.ravel(), activations.ravel())[0, 1]
        yield {
            "kind": kind,
            "factor": factor,
            "at_least": at_least,
            "reduced_by": round(statistics.mean(shrunk), 2),
            "full_ms": round(slow * 1e3, 2),
            "reduced_ms": round(fast * 1e3, 2),
            "ratio": round(slow / fast, 2),
            "pixels_mean": round(float(pixels.mean()), 3),
            "pixels_p99": float(np.percentile(pixels, 99)),
            "cosine_least": round(float(cosines.min()), 5),
            "cosine_median": round(float(np.median(cosines)), 5),
            "change_largest": round(float(change.max()), 4),
            "change_mean": round(float(change.mean()), 5),
            "correlation": round(float(together), 5),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", required=True, help="parquet with a column image")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    pictures = photos(given.photos, max(given.images, TILES**2))
    model, pocket = models.load("pocket:efficientnet_lite0"), vision_text.load("pocket")
    rows: list[dict[str, object]] = []
    for kind, make in (("enlarged", enlarged), ("mosaic", mosaics)):
        for row in compare(kind, make(pictures, given.images), model, pocket):
            rows.append(row)
            if not given.json:
                if len(rows) == 1:
                    print(f"{given.images} images of each kind, {torch.get_num_threads()} threads")
                    print(" ".join(f"{column:>14}" for column in row))
                print(" ".join(f"{value!s:>14}" for value in row.values()), flush=True)
    if given.json:
        print(json.dumps({"images": given.images, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
