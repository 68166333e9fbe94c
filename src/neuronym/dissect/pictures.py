"""Thumbnails of the images that some unit has among its top images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuronym.dissect.options import DissectOptions
from neuronym.files import fingerprint
from neuronym.probes import Batch, Pieces, ProbeSet, batches, piece_of
from neuronym.record.runs import Run
from neuronym.results import ProbeImage, Unit

__all__ = ["THUMBNAILS", "shown_images"]

THUMBNAILS = "thumbnails"
_QUALITY = 88


def shown_images(
    run: Run,
    images: ProbeSet | Pieces | None,
    units: Sequence[Unit],
    folder: Path | None,
    options: DissectOptions,
) -> dict[str, ProbeImage]:
    """Write a JPEG of every image that is some unit's top image, and return them by id.

    Without a folder or without the images nothing is written and no image has a thumbnail.
    """
    wanted = dict.fromkeys(name for unit in units for name in unit.top_images)
    keys = _keys_of(run, wanted)
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


def _keys_of(run: Run, wanted: Mapping[str, None]) -> npt.NDArray[np.int64]:
    """Return the keys of images by id, in the order of the probe set."""
    keys = run.keys()
    return keys[[name in wanted for name in run.ids(keys)]]


def _batches(
    images: ProbeSet | Pieces, keys: npt.NDArray[np.int64], options: DissectOptions
) -> Iterator[Batch]:
    """Yield batches that hold the wanted images: at random, or the pieces that have any."""
    if not isinstance(images, Pieces):
        with batches(
            images, batch_size=options.batch_size, indices=keys, workers=options.workers
        ) as stream:
            yield from stream
        return
    for piece in np.unique(piece_of(images, keys)).tolist():
        with images.open(
            piece, batch_size=options.batch_size, workers=options.workers
        ) as stream:
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
