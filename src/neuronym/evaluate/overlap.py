"""Images that two probe sets share, by their pixels."""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

from neuronym.errors import NeuronymError
from neuronym.probes import ProbeSet, batches, load
from neuronym.results import Atlas

__all__ = ["naming_images", "shared_images"]


def naming_images(atlas: Atlas) -> ProbeSet | None:
    """Return the images that an atlas was named on, or ``None`` where they cannot be read here.

    They are read by the SPEC that the atlas keeps, so that a relative path means another place
    in another folder; a stream is not read again.
    """
    spec = atlas.provenance.get("images", {}).get("spec")
    if not spec:
        return None
    try:
        return load(str(spec))
    except NeuronymError:
        return None


def shared_images(images: ProbeSet, others: ProbeSet, *, workers: int | None = None) -> int:
    """Count the images that are also among the others, pixel by pixel.

    Both sets are decoded once; memory holds 16 bytes of each of ``images``. Broken images count
    as not shared.
    """
    if images.fingerprint == others.fingerprint:
        return len(images)
    stream = batches(images, workers=workers)
    mine: dict[bytes, int] = {}
    with stream:
        for batch in stream:
            for image in batch.images:
                key = _pixels(image)
                mine[key] = mine.get(key, 0) + 1
    found: set[bytes] = set()
    other = batches(others, workers=workers)
    with other:
        for batch in other:
            found.update(key for image in batch.images if (key := _pixels(image)) in mine)
    return sum(mine[key] for key in found)


def _pixels(image: Image.Image) -> bytes:
    array = np.ascontiguousarray(np.asarray(image))
    return hashlib.blake2b(array.data, digest_size=16, salt=str(array.shape[:2]).encode()).digest()
