"""Encoded images for tests: each returns the bytes of a file."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(seed: int = 0, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A smooth random picture."""
    values = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def jpeg(seed: int = 0) -> bytes:
    return encoded(photo(seed), "JPEG", quality=92)
