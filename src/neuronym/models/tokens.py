"""A small transformer for CIFAR-10: a convolutional stem, then a reduced DeiT."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neuronym.errors import InputError
from neuronym.models.preprocessing import checked_input_size
from neuronym.models.small import CIFAR_MEAN, CIFAR_STD, described

__all__ = ["StemmedTransformer", "cifar_deit", "scale_hidden"]

_STRIDE = 8


class StemmedTransformer(nn.Module):
    """Two convolutions of stride 2, patches of 2 × 2, a class token, and DeiT's blocks.

    Attributes:
        input_size: (C, H, W); H and W must be multiples of 8.
        mean, std: Per channel, for the preprocessing.
    """

    def __init__(
        self,
        num_classes: int,
        input_size: tuple[int, int, int],
        *,
        width: int,
        depth: int,
        heads: int,
    ) -> None:
        """Build the network.

        Args:
            num_classes: Outputs.
            input_size: (C, H, W).
            width: Features of a token; a multiple of ``heads``. Hidden layers have four times as
                many units.
            depth: Blocks.
            heads: Of the attention.

        Raises:
            InputError: A side is not a multiple of 8.
        """
        from timm.models.vision_transformer import VisionTransformer

        super().__init__()
        self.input_size = checked_input_size(input_size)
        channels, *sides = self.input_size
        if any(side % _STRIDE for side in sides):
            raise InputError(
                f"a side must be a multiple of {_STRIDE} pixels, not {sides[0]} × {sides[1]}"
            )
        stem = width // 2
        self.stem = nn.Sequential(
            nn.Conv2d(channels, stem, 3, 2, 1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(),
            nn.Conv2d(stem, stem, 3, 2, 1, bias=False),
            nn.BatchNorm2d(stem),
        )
        self.transformer = VisionTransformer(
            img_size=(sides[0] // 4, sides[1] // 4),
            patch_size=2,
            in_chans=stem,
            num_classes=num_classes,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, classes) logits."""
        out: Tensor = self.transformer(self.stem(x))
        return out


def scale_hidden(network: StemmedTransformer, gain: float) -> None:
    """Let the responses of every hidden layer begin with a standard deviation of ``gain``.

    Behind a layer normalisation a token's features have variance 1, so that a row of weights with
    deviation ``gain / √width`` gives responses of deviation ``gain``. Winners are drawn from the
    softmax of these, and at timm's 0.02 · √width the draw is nearly uniform. The layer behind
    takes the factor back, so that a network of piecewise linear activations is as before.
    """
    with torch.no_grad():
        for block in network.transformer.blocks:
            weight = block.mlp.fc1.weight
            factor = gain / (float(weight.std()) * math.sqrt(weight.shape[1]))
            weight.mul_(factor)
            block.mlp.fc2.weight.div_(factor)


def cifar_deit(
    num_classes: int = 10, input_size: tuple[int, int, int] = (3, 32, 32), *, gain: float = 3.0
) -> StemmedTransformer:
    """Return a reduced DeiT of 0.7 million parameters: 16 tokens of 96 features, 6 blocks.

    Hidden layers have 384 units, which 2, 4, 8, 12, 16 and 24 divide.
    """
    net = StemmedTransformer(num_classes, input_size, width=96, depth=6, heads=3)
    scale_hidden(net, gain)
    return described(net, CIFAR_MEAN, CIFAR_STD)
