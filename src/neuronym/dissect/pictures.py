"""Thumbnails of the images that some unit has among its top images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuronym.dissect.options import DissectOptions
from neuronym.files import fingerprint
from neuronym.probes import KEYS_PER_PIECE, Batch, Pieces, ProbePieces, batches
from neuronym.record.runs import Run
from neuronym.results import ProbeImage

__all__ = ["THUMBNAILS", "shown_images"]

THUMBNAILS = "thumbnails"
_QUALITY = 88


def shown_images(
    run: Run,
    images: Pieces | None,
    keys: npt.NDArray[np.int64],
    folder: Path | None,
    options: DissectOptions,
) -> dict[str, ProbeImage]:
    """Write a JPEG of every image that is some unit's top image, and return them by id.

    Without a folder or without the images nothing is written and no image has a thumbnail. A
    stream is read again, piece by piece, where a piece has such images.

    Args:
        run: The run.
        images: Its images.
        keys: Those to show, rising.
        folder: Of the atlas.
        options: Batches, size and progress.
    """
    files: dict[str, str] = {}
    if folder is not None and images is not None and len(keys):
        (folder / THUMBNAILS).mkdir(exist_ok=True)
        for batch in _batches(images, keys, options):
            chosen = np.isin(batch.indices, keys)
            for place in np.flatnonzero(chosen).tolist():
                name = batch.ids[place]
                files[name] = _write(folder, name, batch.images[place], options.thumbnail_pixels)
            if options.progress is not None:
                options.progress(len(files), len(keys), "thumbnails")
    ids, labels = run.ids(keys), _labels(run, keys)
    return {
        name: ProbeImage(id=name, label=label, thumbnail=files.get(name))
        for name, label in zip(ids, labels, strict=True)
    }


def _batches(
    images: Pieces, keys: npt.NDArray[np.int64], options: DissectOptions
) -> Iterator[Batch]:
    """Yield batches that hold the wanted images: at random, or the pieces that have any."""
    if isinstance(images, ProbePieces):
        with batches(
            images.probes, batch_size=options.batch_size, indices=keys, workers=options.workers
        ) as stream:
            yield from stream
        return
    for piece in np.unique(keys // KEYS_PER_PIECE).tolist():
        with images.open(piece, batch_size=options.batch_size, workers=options.workers) as stream:
            yield from stream


def _labels(run: Run, keys: npt.NDArray[np.int64]) -> list[str | None]:
    labels, names = run.labels(keys), run.info.facts["label_names"]
    if labels is None:
        return [None] * len(keys)
    return [
        None if label < 0 else (names[label] if names else str(label)) for label in labels.tolist()
    ]


def _write(folder: Path, name: str, image: Image.Image, pixels: int) -> str:
    small = image.convert("RGB")
    small.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    path = f"{THUMBNAILS}/{fingerprint('thumbnail', name)}.jpg"
    small.save(folder / path, "JPEG", quality=_QUALITY)
    return path
