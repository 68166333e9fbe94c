"""Preprocessing of one image as data: what a model sees, saved with it and compared by content."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neuronym.errors import InputError, unknown
from neuronym.vision_text.efficientnet import EfficientNetTransform

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Preprocessing",
    "checked_input_size",
    "resize_side",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
FITS = ("crop", "squash")


def checked_input_size(value: object) -> tuple[int, int, int]:
    """Return ``value`` as (channels, height, width).

    Raises:
        InputError: It is not three positive ints, or has neither 1 nor 3 channels.
    """
    sizes = tuple(value) if isinstance(value, (list, tuple)) else ()
    whole = all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
    if len(sizes) != 3 or not whole or min(sizes) < 1 or sizes[0] not in (1, 3):
        raise InputError(
            f"input_size must be (channels, height, width) with 1 or 3 channels, not {value!r}"
        )
    return sizes[0], sizes[1], sizes[2]


@dataclass(frozen=True)
class Preprocessing:
    """From a PIL image to the normalised tensor that a model takes.

    Attributes:
        input_size: (C, H, W); one channel means grey.
        mean: Per channel, of pixels in [0, 1].
        std: Per channel, above 0.
        resize: Length in pixels that the shorter side gets before the centre crop; ``None``
            takes the smallest that covers H × W. Not used by ``fit="squash"``.
        interpolation: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``, antialiased by PIL.
        fit: ``"crop"`` keeps the aspect and crops the centre, ``"squash"`` resizes to H × W.
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resize: int | None = None
    interpolation: str = "bilinear"
    fit: str = "crop"

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_size", checked_input_size(self.input_size))
        channels = self.input_size[0]
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) != channels or not all(map(math.isfinite, values)):
                raise InputError(f"{name} must be {channels} finite numbers, not {values}")
            object.__setattr__(self, name, values)
        if min(self.std) <= 0:
            raise InputError(f"std must be above 0, not {self.std}")
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", str(self.interpolation), list(INTERPOLATIONS))
        if self.fit not in FITS:
            raise unknown("fit", str(self.fit), FITS)
        if self.resize is not None and self.resize < max(self.input_size[1:]):
            raise InputError(f"resize={self.resize} is smaller than the crop {self.input_size[1:]}")

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the image as a (C, H, W) float32 tensor, normalised."""
        return self.normalize(self.pixels(image)[None])[0]

    def pixels(self, image: Image.Image) -> Tensor:
        """Return the fitted image before normalisation, (C, H, W) uint8."""
        channels, height, width = self.input_size
        image = image.convert("L" if channels == 1 else "RGB")
        image = self._fitted(image, height, width)
        array = torch.from_numpy(np.array(image, dtype=np.uint8))
        return array[None] if channels == 1 else array.permute(2, 0, 1).contiguous()

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return (N, C, H, W) uint8 pixels as normalised float32, in the same memory layout."""
        mean = torch.tensor(self.mean, device=pixels.device).view(1, -1, 1, 1) * 255
        scale = 1 / (torch.tensor(self.std, device=pixels.device).view(1, -1, 1, 1) * 255)
        return (pixels.float() - mean) * scale

    def _fitted(self, image: Image.Image, height: int, width: int) -> Image.Image:
        if image.size == (width, height) and self.resize in (None, min(height, width)):
            return image
        method = INTERPOLATIONS[self.interpolation]
        if self.fit == "squash":
            return image.resize((width, height), method)
        short = min(image.size)
        target = short * max(width / image.width, height / image.height)
        side = self.resize if self.resize is not None else math.ceil(target - 1e-6)
        long = int(side * max(image.size) / short)
        size = (side, long) if image.width <= image.height else (long, side)
        if image.size != size:
            image = image.resize(size, method)
        if image.width < width or image.height < height:
            return image.resize((width, height), method)
        left = round((image.width - width) / 2)
        top = round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        return {
            "input_size": list(self.input_size),
            "mean": list(self.mean),
            "std": list(self.std),
            "resize": self.resize,
            "interpolation": self.interpolation,
            "fit": self.fit,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Build from what :meth:`to_dict` gave.

        Raises:
            InputError: A field is missing or has a value that is not allowed.
        """
        try:
            return cls(
                input_size=checked_input_size(value["input_size"]),
                mean=tuple(value["mean"]),
                std=tuple(value["std"]),
                resize=value["resize"],
                interpolation=value["interpolation"],
                fit=value["fit"],
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"preprocessing is not complete: {error!r}") from error


def resize_side(transform: object) -> int | None:
    """Return the side to which a transform resizes an image's shorter side, before its crop.

    Nothing finer reaches the model, so this decides at which reduced size a JPEG may be decoded
    (:func:`neuronym.probes.reduced_side`).

    Returns:
        The side in pixels, rounded up, or ``None`` where the transform's steps are not known.
    """
    if isinstance(transform, EfficientNetTransform):
        return math.ceil(transform.image_size / transform.crop)
    if not isinstance(transform, Preprocessing):
        return None
    if transform.resize is not None and transform.fit == "crop":
        return transform.resize
    return max(transform.input_size[1:])
