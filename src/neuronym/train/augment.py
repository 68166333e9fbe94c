"""Augmentation presets: functions from a batch of uint8 images to another one.

Shifts and flips act on a whole batch at once. The richer presets are torchvision's v2 transforms,
one draw per image. Every preset draws from torch's default generator, which the training loop
seeds anew at each step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

__all__ = ["AUGMENTATIONS", "Augmentation", "flip", "none", "shift"]

Augmentation = Callable[[Tensor], Tensor]


def none(batch: Tensor) -> Tensor:
    """Return the batch as it is."""
    return batch


def flip(batch: Tensor) -> Tensor:
    """Mirror half of the images, drawn at random, left to right."""
    chosen = torch.rand(len(batch)) < 0.5
    return torch.where(chosen.to(batch.device)[:, None, None, None], batch.flip(3), batch)


def shift(batch: Tensor, share: float) -> Tensor:
    """Move each image by up to ``share`` of its side in both directions; edges are mirrored.

    Args:
        batch: (N, C, H, W) uint8.
        share: In (0, 0.5).
    """
    count, _, height, width = batch.shape
    tall, wide = round(height * share), round(width * share)
    rows = _moved(height, torch.randint(-tall, tall + 1, (count, 1)))
    columns = _moved(width, torch.randint(-wide, wide + 1, (count, 1)))
    images = torch.arange(count)[:, None, None]
    last = batch.permute(0, 2, 3, 1)
    moved = last[images, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _moved(size: int, offset: Tensor) -> Tensor:
    """Return (N, size) source indices of a shift by ``offset``, mirrored at both ends."""
    place = (torch.arange(size) + offset).abs()
    return torch.where(place >= size, 2 * (size - 1) - place, place)


def _light(batch: Tensor) -> Tensor:
    return flip(shift(batch, 1 / 16))


def _cifar(batch: Tensor) -> Tensor:
    return flip(shift(batch, 1 / 8))


def _shift_only(batch: Tensor) -> Tensor:
    return shift(batch, 1 / 16)


def _each(transform: nn.Module, batch: Tensor) -> Tensor:
    return torch.stack([transform(image) for image in batch])


def _crop(batch: Tensor) -> Tensor:
    size = (batch.shape[2], batch.shape[3])
    return _each(v2.RandomResizedCrop(size, scale=(0.35, 1.0), antialias=True), flip(batch))


def _strong(batch: Tensor) -> Tensor:
    size = (batch.shape[2], batch.shape[3])
    steps = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.2, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(num_ops=2, magnitude=7),
            v2.RandomErasing(p=0.25),
        ]
    )
    return _each(steps, batch)


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": none,
    "flip": flip,
    "shift": _shift_only,
    "light": _light,
    "cifar": _cifar,
    "crop": _crop,
    "strong": _strong,
}
"""``flip``: mirrored or not. ``shift``: moved by up to 1/16 of the side. ``light``: both.
``cifar``: moved by up to 1/8 and flipped. ``crop``: a random part of 35 to 100 % of the area,
resized, and flipped. ``strong``: a part of 20 to 100 %, flip, RandAugment and erasing.
"""
