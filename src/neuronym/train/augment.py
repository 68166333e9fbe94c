"""Augmentation presets, of two kinds.

A *batch* step moves and mirrors a whole batch at once; it draws for the whole batch from torch's
default generator, which the training loop seeds anew at each step, and uses the draws of its
images. A *view* turns one image into the pixels that the network gets; it draws from a generator
that depends on the seed, the epoch and the image. So neither depends on how a batch is shared
between processes, nor on which thread does the work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from neuronym.train.team import Place
from neuronym.train.views import View, random_view

__all__ = ["AUGMENTATIONS", "Augmentation", "flip", "none", "shift"]

BatchStep = Callable[[Tensor, Place | None], Tensor]


def none(batch: Tensor, place: Place | None = None) -> Tensor:
    """Return the batch as it is."""
    return batch


def _drawn(batch: Tensor, place: Place | None) -> tuple[int, slice]:
    """Return how many draws the whole batch takes, and which of them are for these images."""
    if place is None:
        return len(batch), slice(0, len(batch))
    return place.total, slice(place.start, place.start + len(batch))


def flip(batch: Tensor, place: Place | None = None) -> Tensor:
    """Mirror half of the images, drawn at random, left to right.

    Args:
        batch: (N, C, H, W) uint8.
        place: Where the images stand within a larger batch; ``None`` where they are all of it.
    """
    count, ours = _drawn(batch, place)
    chosen = (torch.rand(count) < 0.5)[ours]
    return torch.where(chosen.to(batch.device)[:, None, None, None], batch.flip(3), batch)


def shift(batch: Tensor, share: float, place: Place | None = None) -> Tensor:
    """Move each image by up to ``share`` of its side in both directions; edges are mirrored.

    Args:
        batch: (N, C, H, W) uint8.
        share: In (0, 0.5).
        place: As for :func:`flip`.
    """
    _, _, height, width = batch.shape
    count, ours = _drawn(batch, place)
    tall, wide = round(height * share), round(width * share)
    rows = _moved(height, torch.randint(-tall, tall + 1, (count, 1))[ours])
    columns = _moved(width, torch.randint(-wide, wide + 1, (count, 1))[ours])
    images = torch.arange(len(batch))[:, None, None]
    last = batch.permute(0, 2, 3, 1)
    moved = last[images, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _moved(size: int, offset: Tensor) -> Tensor:
    """Return (N, size) source indices of a shift by ``offset``, mirrored at both ends."""
    place = (torch.arange(size) + offset).abs()
    return torch.where(place >= size, 2 * (size - 1) - place, place)


def _shift_only(batch: Tensor, place: Place | None = None) -> Tensor:
    return shift(batch, 1 / 16, place)


def _light(batch: Tensor, place: Place | None = None) -> Tensor:
    return flip(shift(batch, 1 / 16, place), place)


def _cifar(batch: Tensor, place: Place | None = None) -> Tensor:
    return flip(shift(batch, 1 / 8, place), place)


@dataclass(frozen=True)
class Augmentation:
    """One preset: a step on batches, or a view of single images.

    Attributes:
        batch: (N, C, H, W) uint8 and its place → the same shape.
        view: One image → pixels, instead of the network's own fitting; ``None`` keeps that.
    """

    batch: BatchStep = none
    view: View | None = None


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation(),
    "flip": Augmentation(flip),
    "shift": Augmentation(_shift_only),
    "light": Augmentation(_light),
    "cifar": Augmentation(_cifar),
    "crop": Augmentation(view=partial(random_view, area=(0.35, 1.0))),
    "strong": Augmentation(
        view=partial(random_view, area=(0.2, 1.0), operations=2, magnitude=7.0, erasing=0.25)
    ),
    "imagenet": Augmentation(view=partial(random_view, area=(0.08, 1.0))),
    "deit": Augmentation(
        view=partial(
            random_view, area=(0.08, 1.0), operations=2, magnitude=9.0, spread=0.5, erasing=0.25
        )
    ),
}
"""``flip``: mirrored or not. ``shift``: moved by up to 1/16 of the side. ``light``: both.
``cifar``: moved by up to 1/8 and flipped. ``crop``: a random part of 35 to 100 % of the area,
resized, and flipped. ``strong``: a part of 20 to 100 %, flip, RandAugment and erasing.
``imagenet``: a part of 8 to 100 % and flip (Szegedy et al., arXiv 1409.4842). ``deit``: that, two
RandAugment operations of magnitude 9 ± 0.5, and erasing of a quarter of the images (Touvron et
al., arXiv 2012.12877).
"""
