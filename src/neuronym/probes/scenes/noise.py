"""Small building blocks of the renderer: smooth noise and soft steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["Field", "blur", "field", "fractal", "mix", "resize", "smooth", "soft_step", "warp_grid"]

Field = npt.NDArray[np.float32]
"""``(height, width)`` or ``(height, width, 3)`` float32, usually 0 to 1."""


def field(values: npt.ArrayLike) -> Field:
    """Return values as a field (float32)."""
    return np.asarray(values, dtype=np.float32)


def resize(values: Field, width: int, height: int) -> Field:
    """Enlarge a ``(rows, columns)`` field smoothly to ``(height, width)``."""
    image = Image.fromarray(values.astype(np.float32, copy=False))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def smooth(rng: np.random.Generator, size: int, columns: int, rows: int | None = None) -> Field:
    """Random values on a coarse grid, enlarged to ``(size, size)``; about 0 to 1."""
    grid = rng.random((rows or columns, columns), dtype=np.float32)
    return resize(grid, size, size)


def fractal(rng: np.random.Generator, size: int, cells: int, octaves: int = 3) -> Field:
    """Sum of smooth noises, each twice as fine and 0.55 times as strong; about 0 to 1."""
    total = np.zeros((size, size), dtype=np.float32)
    weight, norm = 1.0, 0.0
    for octave in range(octaves):
        total += np.float32(weight) * smooth(rng, size, min(cells * 2**octave, size))
        norm += weight
        weight *= 0.55
    return field(total / np.float32(norm))


def soft_step(values: Field, edge: float, width: float) -> Field:
    """0 below ``edge``, 1 above, with a linear ramp ``width`` wide."""
    return field(np.clip((values - np.float32(edge)) / np.float32(width) + np.float32(0.5), 0, 1))


def mix(low: Field, high: Field, weight: Field) -> Field:
    """Blend two colours or images by a ``(height, width)`` weight into ``(height, width, 3)``."""
    return low + (high - low) * weight[..., None]


def blur(values: Field, radius: float) -> Field:
    """Gaussian blur of a ``(height, width)`` field of 0 to 1 (8-bit precision, fast)."""
    from PIL import ImageFilter

    image = Image.fromarray((values * 255).astype(np.uint8))
    return field(np.asarray(image.filter(ImageFilter.GaussianBlur(radius))) / 255)


def warp_grid(size: int) -> tuple[Field, Field]:
    """Pixel centres ``(x, y)`` in 0 to 1, each ``(size, size)``; read-only views."""
    line = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    return np.broadcast_to(line, (size, size)), np.broadcast_to(line[:, None], (size, size))
