"""The image side up to its features: logits, block statistics and pixel numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from neuronym.errors import InputError
from neuronym.vision_text.efficientnet import (
    EfficientNetTransform,
    efficientnet_transform,
    load_efficientnet_lite,
)
from neuronym.vision_text.identity import digest_state
from neuronym.vision_text.pocket.blobs import BLOB_NUMBERS, blob_numbers
from neuronym.vision_text.pocket.pixels import (
    FINE,
    PIXEL_NUMBERS,
    REDUCED,
    describe_pixels,
    reduce_image,
)

__all__ = ["TINY_PIXELS", "TINY_SIZE", "ImageFeatures", "ImageTower"]

FloatArray = npt.NDArray[np.float32]

TINY_PIXELS = 96
"""An image whose shorter side has at most so many pixels counts as tiny."""
TINY_SIZE = 160
"""Side in pixels at which tiny images go through the network."""


_FLOOR = 1e-3  # weight of the background, so that an image without a figure has statistics


@dataclass(frozen=True)
class ImageFeatures:
    """What the image side computes before anything fitted.

    Attributes:
        logits: ``(images, 1000)`` of the classifier.
        descriptors: ``(images, numbers)``: mean and deviation, over the positions of what stands
            out from the background, of every channel after the stem and each of the seven
            stages; then the pixel numbers and the blob numbers.
        tiny: ``(images,)`` bool, true where the image is tiny.
    """

    logits: FloatArray
    descriptors: FloatArray
    tiny: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.logits)

    @staticmethod
    def joined(parts: Iterable[ImageFeatures]) -> ImageFeatures:
        """Return the features of several parts as one."""
        rows = list(parts)
        return ImageFeatures(
            np.concatenate([part.logits for part in rows]),
            np.concatenate([part.descriptors for part in rows]),
            np.concatenate([part.tiny for part in rows]),
        )


class ImageTower:
    """A frozen EfficientNet-Lite that gives :class:`ImageFeatures`.

    Args:
        variant: ``"efficientnet_lite0"``, ``…1`` or ``…2``.
        device: Where the network is.
        image_size: Side in pixels of what the network sees; by default the variant's own, and
            160 for tiny images.

    Raises:
        UnknownNameError: There is no such variant.
        UnavailableError: The package with its weights is not installed.
        InputError: ``image_size`` is below 32.
    """

    def __init__(
        self,
        variant: str,
        *,
        device: torch.device | str = "cpu",
        image_size: int | None = None,
    ) -> None:
        self.variant = variant
        self.transform: EfficientNetTransform = efficientnet_transform(variant, image_size)
        tiny_size = TINY_SIZE if image_size is None else image_size
        self.tiny_transform = EfficientNetTransform(tiny_size, self.transform.crop)
        self._device = torch.device(device)
        network = load_efficientnet_lite(variant)
        self.digest = digest_state(network.state_dict())
        self._network = network.to(self._device).to(memory_format=torch.channels_last)
        probe = np.zeros((1, TINY_SIZE, TINY_SIZE, 3), dtype=np.uint8)
        figure = np.zeros((1, REDUCED, REDUCED), dtype=np.float32)
        self._statistics = self._forward(probe, figure, self.tiny_transform)[1].shape[1]
        self.numbers = self._statistics + PIXEL_NUMBERS + BLOB_NUMBERS

    def features(self, images: Sequence[Image.Image]) -> ImageFeatures:
        """Compute the features of one batch of images; tiny and other images may be mixed.

        Raises:
            InputError: An item is not a PIL image, or has no pixel.
        """
        for image in images:
            if not isinstance(image, Image.Image):
                raise InputError(f"an image must be a PIL image, not a {type(image).__name__}")
            if not min(image.size):
                raise InputError(f"an image must have pixels, not the size {image.size}")
        colour = [image if image.mode == "RGB" else image.convert("RGB") for image in images]
        tiny = np.array([min(image.size) <= TINY_PIXELS for image in colour], dtype=np.bool_)
        logits = np.empty((len(colour), 1000), dtype=np.float32)
        descriptors = np.empty((len(colour), self.numbers), dtype=np.float32)
        if not colour:
            return ImageFeatures(logits, descriptors, tiny)
        pixel, figure = describe_pixels(np.stack([reduce_image(i, REDUCED) for i in colour]))
        split = self._statistics
        descriptors[:, split : split + PIXEL_NUMBERS] = pixel
        fine = np.stack([reduce_image(item, FINE) for item in colour])
        descriptors[:, split + PIXEL_NUMBERS :] = blob_numbers(fine)
        for wanted, transform in ((False, self.transform), (True, self.tiny_transform)):
            rows = np.flatnonzero(tiny == wanted)
            if len(rows):
                pixels = np.stack([np.asarray(transform.pixels(colour[row])) for row in rows])
                logits[rows], descriptors[rows, :split] = self._forward(
                    pixels, figure[rows], transform
                )
        return ImageFeatures(logits, descriptors, tiny)

    def _forward(
        self, pixels: npt.NDArray[np.uint8], figure: FloatArray, transform: EfficientNetTransform
    ) -> tuple[FloatArray, FloatArray]:
        """``(images, S, S, 3)`` uint8 and ``(images, 40, 40)`` → logits and statistics."""
        edge = round(REDUCED * (1 - transform.crop) / 2)
        inner = figure[:, edge : REDUCED - edge, edge : REDUCED - edge]
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)
            x = transform.normalize(batch).contiguous(memory_format=torch.channels_last)
            weight = torch.from_numpy(np.ascontiguousarray(inner)).to(self._device)[:, None]
            logits, statistics = self._run(x, weight)
        return logits.cpu().numpy(), statistics.cpu().numpy()

    def _run(self, x: Tensor, figure: Tensor) -> tuple[Tensor, Tensor]:
        part = self._network.get_submodule
        statistics: list[Tensor] = []

        def keep(x: Tensor) -> Tensor:
            statistics.extend(_weighted(x, figure))
            return x

        x = keep(part("bn1")(part("conv_stem")(x)))
        for stage in part("blocks").children():
            x = keep(stage(x))
        x = part("bn2")(part("conv_head")(x)).mean(dim=(2, 3))
        return part("classifier")(x), torch.cat(statistics, dim=1)


def _weighted(x: Tensor, figure: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of ``(images, C, H, W)`` over positions, weighted by the figure."""
    small = functional.interpolate(
        figure, x.shape[2:], mode="bilinear", antialias=True, align_corners=False
    )
    weight = (small.clamp(0, 1) + _FLOOR).flatten(2)
    weight = weight / weight.sum(dim=2, keepdim=True)
    values = x.permute(0, 2, 3, 1).flatten(1, 2)  # (images, positions, C), no copy
    mean = torch.bmm(weight, values)[:, 0]
    square = torch.bmm(weight, values.square())[:, 0]
    return mean, (square - mean.square()).clamp_min(0).sqrt()
