"""A small transformer for CIFAR-10: a convolutional stem, then a reduced DeiT."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neuronym.errors import InputError
from neuronym.models.preprocessing import checked_input_size
from neuronym.models.small import CIFAR_MEAN, CIFAR_STD, described

__all__ = ["StemmedTransformer", "cifar_deit", "cifar_deit_plain", "scale_hidden"]

_STEM = ((24, 1), (48, 2), (96, 2), (96, 2))


class StemmedTransformer(nn.Module):
    """A stem of convolutions, one token per position of its map, a class token, DeiT's blocks.

    The stem follows Xiao et al., "Early convolutions help transformers see better" (arXiv
    2106.14881): 3 × 3 convolutions, each with batch normalisation and ReLU, then a 1 × 1
    convolution to the width of a token. Its names begin with ``stem``.

    Attributes:
        input_size: (C, H, W); H and W must be multiples of the product of the stem's strides.
        mean, std: Per channel, for the preprocessing.
    """

    def __init__(
        self,
        num_classes: int,
        input_size: tuple[int, int, int],
        *,
        stem: Sequence[tuple[int, int]],
        width: int,
        depth: int,
        heads: int,
    ) -> None:
        """Build the network.

        Args:
            num_classes: Outputs.
            input_size: (C, H, W).
            stem: Channels and stride of each convolution.
            width: Features of a token; a multiple of ``heads``. Hidden layers have four times as
                many units.
            depth: Blocks.
            heads: Of the attention.

        Raises:
            InputError: A side is not a multiple of the product of the strides.
        """
        from timm.models.vision_transformer import VisionTransformer

        super().__init__()
        self.input_size = checked_input_size(input_size)
        channels, *sides = self.input_size
        reduction = math.prod(stride for _, stride in stem)
        if any(side % reduction for side in sides):
            raise InputError(
                f"a side must be a multiple of {reduction} pixels, not {sides[0]} × {sides[1]}"
            )
        parts: list[nn.Module] = []
        for filters, stride in stem:
            parts += [
                nn.Conv2d(channels, filters, 3, stride, 1, bias=False),
                nn.BatchNorm2d(filters),
                nn.ReLU(),
            ]
            channels = filters
        self.stem = nn.Sequential(*parts)
        self.transformer = VisionTransformer(
            img_size=(sides[0] // reduction, sides[1] // reduction),
            patch_size=1,
            in_chans=channels,
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

    Rows of weights get the deviation ``1 / √width``, and the layer normalisation before them the
    scale ``gain``. Winners are drawn from the softmax of the responses, and at timm's deviation of
    0.2 the draw is nearly uniform. The layer behind is divided by ``gain``.
    """
    with torch.no_grad():
        for block in network.transformer.blocks:
            weight = block.mlp.fc1.weight
            weight.div_(float(weight.std()) * math.sqrt(weight.shape[1]))
            block.norm2.weight.fill_(gain)
            block.mlp.fc2.weight.div_(gain)


def cifar_deit(
    num_classes: int = 10, input_size: tuple[int, int, int] = (3, 32, 32), *, gain: float = 3.0
) -> StemmedTransformer:
    """Return a reduced DeiT of 0.8 million parameters: 16 tokens of 96 features, 6 blocks.

    Hidden layers have 384 units, which 2, 4, 8, 12, 16 and 24 divide. The ReLUs of the stem stand
    on the stream that all that follows is made from; train with ``skip=("stem.*",)``, so that only
    hidden layers compete.
    """
    net = StemmedTransformer(num_classes, input_size, stem=_STEM, width=96, depth=6, heads=3)
    scale_hidden(net, gain)
    return described(net, CIFAR_MEAN, CIFAR_STD)


def cifar_deit_plain(
    num_classes: int = 10, input_size: tuple[int, int, int] = (3, 32, 32)
) -> StemmedTransformer:
    """Return the network of :func:`cifar_deit` with timm's own initial weights.

    Its hidden responses begin with a deviation of 0.2, at which winners among 24 are drawn almost
    evenly. It is the dense twin's start in ``bench/cifar.py``, so that each may begin where it
    does best.
    """
    net = StemmedTransformer(num_classes, input_size, stem=_STEM, width=96, depth=6, heads=3)
    return described(net, CIFAR_MEAN, CIFAR_STD)
