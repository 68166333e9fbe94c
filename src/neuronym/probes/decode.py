"""Bytes or a file to an RGB image, whatever the file holds, or an error that names it."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from neuronym.errors import InputError, UnreadableError

__all__ = ["MAX_PIXELS", "REDUCTION", "ImageLike", "decode", "picture_of", "reduced_side", "to_rgb"]

MAX_PIXELS = 89_000_000
"""Images of more pixels are refused (a small file can claim to hold a huge image)."""

REDUCTION = 2.0
"""How many times a model's own side an image keeps when it is decoded at reduced size."""

ImageLike = Image.Image | str | os.PathLike[str]
"""A PIL image of any mode, or the path of an image file."""

_WHITE = (255, 255, 255, 255)
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def decode(
    source: bytes | str | os.PathLike[str],
    *,
    name: str | None = None,
    at_least: int | None = None,
) -> Image.Image:
    """Decode one image as 8-bit RGB.

    The first frame of an animation is taken. The EXIF orientation is applied. Transparent parts
    lie over white. CMYK is converted, also where a program stored it inverted. Deep grey is
    scaled to 8 bit over the whole range of its type; a float image over its own range.

    Args:
        source: The bytes of a file, or its path.
        name: What an error calls the image; the path where it is ``None``.
        at_least: Where the file is a JPEG, decode it at 1/8, 1/4 or 1/2 of its size (the smallest
            whose sides both keep this many pixels): the inverse cosine transform then runs on
            fewer coefficients. ``None``, and every other format, gives the full size.

    Raises:
        InputError: ``at_least`` is below 1.
        UnreadableError: The image is empty, truncated, too large, or of no known format. The
            text names the image and says why.
    """
    if at_least is not None and at_least < 1:
        raise InputError(f"at_least must be 1 pixel or more, not {at_least}")
    if name is None:
        name = "image" if isinstance(source, bytes) else os.fspath(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise UnreadableError(f"image {name!r} cannot be read: {error.strerror}") from error
    if not data:
        raise UnreadableError(f"image {name!r} is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            _check_pixels(opened, name)
            if at_least is not None:
                opened.draft(None, (at_least, at_least))  # does nothing where it is no JPEG
            opened.load()
            return to_rgb(opened)
    except UnidentifiedImageError as error:
        raise UnreadableError(f"image {name!r} is not in a known image format") from error
    except UnreadableError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError(f"image {name!r} is too large: {error}") from error
    except MemoryError as error:
        raise UnreadableError(f"image {name!r} does not fit in memory") from error
    except Exception as error:  # decoders raise nearly anything on broken bytes
        why = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"image {name!r} is broken: {why}") from error


def reduced_side(*sides: int | None, factor: float = REDUCTION) -> int | None:
    """Return the ``at_least`` of :func:`decode` that serves several models.

    Args:
        sides: Side in pixels to which each model's preprocessing resizes an image's shorter side;
            ``None`` where it is not known.
        factor: How many times the largest side is kept, at least 1.

    Returns:
        The number of pixels, or ``None`` (the full size) where a side is not known.

    Raises:
        InputError: There is no side, one is below 1, or ``factor`` is below 1.
    """
    if not sides or any(side is not None and side < 1 for side in sides):
        raise InputError(f"reduced_side needs sides of 1 pixel or more, not {sides}")
    if not 1 <= factor < math.inf:
        raise InputError(f"factor must be 1 or more, not {factor}")
    known = [side for side in sides if side is not None]
    return math.ceil(max(known) * factor) if len(known) == len(sides) else None


def _check_pixels(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableError(
            f"image {name!r} is too large: {width} x {height} pixels; "
            f"at most {MAX_PIXELS // 1_000_000} million are read"
        )


def picture_of(image: ImageLike, *, name: str = "image") -> tuple[str, Image.Image]:
    """Return what an image is called and its 8-bit RGB picture.

    Args:
        image: A PIL image, which has no name, or a path, which is its own.
        name: What a PIL image is called.

    Raises:
        UnreadableError: The file cannot be read; see :func:`decode`.
    """
    if isinstance(image, Image.Image):
        return name, to_rgb(image)
    return os.fspath(image), decode(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB, as :func:`decode` does.

    Raises:
        InputError: ``image`` is not a PIL image.
    """
    if not isinstance(image, Image.Image):
        raise InputError(f"expected a PIL image, not {type(image).__name__}")
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image if type(image) is Image.Image else image.copy()
    if image.mode in _DEEP_MODES:
        return _from_deep(image)
    if image.mode == "CMYK":
        # Pillow undoes the inversion that Adobe programs store in JPEG files, marked by their
        # APP14 segment, when it decodes.
        return image.convert("RGB")
    if image.mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    values: Any = np.asarray(image)
    grey: Any
    if image.mode == "F":
        finite = np.where(np.isfinite(values), values, 0.0)
        low, high = float(finite.min()), float(finite.max())
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        elif low >= 0 and high <= 255:
            low, high = 0.0, 255.0
        grey = (finite - low) * (255 / (high - low if high > low else 1.0))
    else:
        # Mode "I" holds 16-bit grey in 32 bits; only values above that range need the wider one.
        top = 65535 if values.max() <= 65535 else 2**31 - 1
        grey = np.clip(values, 0, top) * (255 / top)
    return Image.fromarray(np.clip(grey + 0.5, 0, 255).astype(np.uint8), "L").convert("RGB")
