"""Mixup and CutMix: two images and their labels become one of each.

Neighbours in the batch are each other's partner: 0 and 1, 2 and 3 … An epoch's order is random,
so the pairs are. Pairs, unlike a rotation of the batch, do not depend on how a batch is shared
between processes, as long as every share begins at an even place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Mix", "draw_mix", "mixed", "partners"]


@dataclass(frozen=True)
class Mix:
    """How the images of one batch are mixed.

    Attributes:
        weight: λ, the weight of the image itself; its partner has 1 − λ.
        box: Top, left, bottom and right of the part that the partner fills; ``None`` adds the
            whole images.
    """

    weight: float
    box: tuple[int, int, int, int] | None = None


def draw_mix(size: tuple[int, int], *, mixup: float, cutmix: float) -> Mix | None:
    """Draw the mixing of one batch from torch's default generator.

    Args:
        size: Height and width of the images.
        mixup: α of the Beta(α, α) from which λ is drawn (Zhang et al., arXiv 1710.09412); 0
            switches it off.
        cutmix: The same for CutMix (Yun et al., arXiv 1905.04899); where both are on, each has
            a chance of one half.

    Returns:
        ``None`` where both are off. For CutMix λ is the share of the area that really is left.
    """
    if mixup <= 0 and cutmix <= 0:
        return None
    cut = float(torch.rand(())) < (0.5 if mixup > 0 else 1.0) if cutmix > 0 else False
    alpha = torch.tensor(cutmix if cut else mixup)
    weight = float(torch.distributions.Beta(alpha, alpha).sample())
    if not cut:
        return Mix(weight)
    height, width = size
    side = math.sqrt(1 - weight)
    middle = torch.rand(2)
    half = (height * side / 2, width * side / 2)
    centre = (float(middle[0]) * height, float(middle[1]) * width)
    top, bottom = (round(min(max(centre[0] + s * half[0], 0), height)) for s in (-1, 1))
    left, right = (round(min(max(centre[1] + s * half[1], 0), width)) for s in (-1, 1))
    left_over = 1 - (bottom - top) * (right - left) / (height * width)
    return Mix(left_over, (top, left, bottom, right))


def partners(count: int, start: int = 0) -> Tensor:
    """Return the index of each image's partner; one without a neighbour has itself.

    Args:
        count: Images.
        start: Place of the first within the batch.
    """
    index = torch.arange(start, start + count)
    other = index.bitwise_xor(1) - start
    return torch.where((other >= 0) & (other < count), other, index - start)


def mixed(
    images: Tensor, labels: Tensor, others: tuple[Tensor, Tensor], mix: Mix, *, classes: int
) -> tuple[Tensor, Tensor]:
    """Mix images with their partners.

    Args:
        images: (N, C, H, W) float32.
        labels: (N,) class indices.
        others: The partners' images and labels.
        mix: From :func:`draw_mix`.
        classes: How many there are.

    Returns:
        The images, and (N, classes) probabilities.
    """
    partner, partner_labels = others
    if mix.box is None:
        result = torch.lerp(partner, images, mix.weight)
    else:
        top, left, bottom, right = mix.box
        result = images.clone()
        result[:, :, top:bottom, left:right] = partner[:, :, top:bottom, left:right]
    own = functional.one_hot(labels, classes).float()
    other = functional.one_hot(partner_labels, classes).float()
    return result, mix.weight * own + (1 - mix.weight) * other
