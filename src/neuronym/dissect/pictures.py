"""Thumbnails of the images that some unit has among its top images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from neuronym.dissect.options import DissectOptions
from neuronym.files import fingerprint
from neuronym.probes import ProbeSet, batches
from neuronym.results import ProbeImage, Unit

__all__ = ["THUMBNAILS", "shown_images"]

THUMBNAILS = "thumbnails"
_QUALITY = 88


def shown_images(
    probes: ProbeSet, units: Sequence[Unit], folder: Path | None, options: DissectOptions
) -> dict[str, ProbeImage]:
    """Write a JPEG of every image that is some unit's top image, and return them by id.

    Without a folder nothing is written and no image has a thumbnail.
    """
    wanted = {name for unit in units for name in unit.top_images}
    places = [place for place, name in enumerate(probes.ids) if name in wanted]
    files: dict[str, str] = {}
    if folder is not None and places:
        (folder / THUMBNAILS).mkdir(exist_ok=True)
        stream = batches(
            probes, batch_size=options.batch_size, indices=places, workers=options.workers
        )
        with stream:
            for batch in stream:
                for name, image in zip(batch.ids, batch.images, strict=True):
                    files[name] = _write(folder, name, image, options.thumbnail_pixels)
                if options.progress is not None:
                    options.progress(len(files), len(places), "thumbnails")
    return {
        probes.ids[place]: ProbeImage(
            id=probes.ids[place],
            label=_label(probes, place),
            thumbnail=files.get(probes.ids[place]),
        )
        for place in places
    }


def _write(folder: Path, name: str, image: Image.Image, pixels: int) -> str:
    small = image.convert("RGB")
    small.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    path = f"{THUMBNAILS}/{fingerprint('thumbnail', name)}.jpg"
    small.save(folder / path, "JPEG", quality=_QUALITY)
    return path


def _label(probes: ProbeSet, place: int) -> str | None:
    if probes.labels is None or probes.labels[place] < 0:
        return None
    number = int(probes.labels[place])
    return probes.label_names[number] if probes.label_names else str(number)
