"""Small networks for tests, the demonstration and CIFAR-10.

Every activation is a module of its own, so that :func:`neuronym.lwta.convert` finds it, and every
width is divisible by 8, 16 and 24. Each network carries ``input_size``, ``mean`` and ``std``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from neuronym.errors import InputError
from neuronym.models.preprocessing import checked_input_size

__all__ = [
    "CIFAR_MEAN",
    "CIFAR_STD",
    "MLP",
    "InvertedBlock",
    "InvertedResNet",
    "PlainNet",
    "ResNet",
    "cifar_inverted",
    "cifar_resnet",
    "described",
    "mlp",
    "scale_norms",
    "scene_net",
]

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with batch normalisation, added to a projected or identical input."""

    def __init__(self, channels: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU()
        self.project: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.project = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) → (N, width, H / stride, W / stride)."""
        hidden = self.act1(self.norm1(self.conv1(x)))
        out: Tensor = self.act2(self.norm2(self.conv2(hidden)) + self.project(x))
        return out


class ResNet(nn.Module):
    """A small residual network: stem, stages of blocks at halved resolution, pool, linear.

    Attributes:
        input_size: (C, H, W).
        mean, std: Per channel, for the preprocessing.
    """

    def __init__(
        self,
        num_classes: int,
        input_size: tuple[int, int, int],
        *,
        widths: Sequence[int],
        blocks: int,
        stem: int,
    ) -> None:
        """Build the network.

        Args:
            num_classes: Outputs.
            input_size: (C, H, W).
            widths: Channels of each stage.
            blocks: Residual blocks per stage.
            stem: Side of the stem's patch: a convolution of side ``2·stem`` and stride ``stem``
                (3 × 3 and stride 1 for ``stem=1``).
        """
        super().__init__()
        self.input_size = checked_input_size(input_size)
        first = widths[0]
        kernel = 2 * stem if stem > 1 else 3
        pad = (kernel - stem) // 2 if stem > 1 else 1
        self.stem = nn.Conv2d(self.input_size[0], first, kernel, stem, pad, bias=False)
        self.norm = nn.BatchNorm2d(first)
        self.act = nn.ReLU()
        stages: list[nn.Module] = []
        channels = first
        for number, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if number > 0 and block == 0 else 1
                stages.append(ResidualBlock(channels, width, stride=stride))
                channels = width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, width, H', W') of the last stage."""
        out: Tensor = self.stages(self.act(self.norm(self.stem(x))))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, classes) logits."""
        out: Tensor = self.head(torch.flatten(self.pool(self.features(x)), 1))
        return out


class InvertedBlock(nn.Module):
    """A 3 × 3 convolution, then a wide hidden layer of 1 × 1 convolutions, added to the input.

    The one activation stands in the wide layer, as in a transformer's MLP: what one unit of U
    passes there is projected back before it meets the residual stream, which is never masked.
    """

    def __init__(self, channels: int, *, expansion: int, gain: float) -> None:
        super().__init__()
        hidden = expansion * channels
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.expand = nn.Conv2d(channels, hidden, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(hidden)
        self.act = nn.ReLU()
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(channels)
        nn.init.constant_(self.expand_norm.weight, gain)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) → the same."""
        hidden = self.act(self.expand_norm(self.expand(self.norm(self.conv(x)))))
        out: Tensor = x + self.project_norm(self.project(hidden))
        return out


class InvertedResNet(nn.Module):
    """A patch stem, stages of :class:`InvertedBlock` at halved resolution, pool, linear.

    Behind the last activation there is nothing that is not affine, so that contributions of its
    units are exact.

    Attributes:
        input_size: (C, H, W).
        mean, std: Per channel, for the preprocessing.
    """

    def __init__(
        self,
        num_classes: int,
        input_size: tuple[int, int, int],
        *,
        widths: Sequence[int],
        blocks: int,
        expansion: int,
        gain: float,
    ) -> None:
        """Build the network.

        Args:
            num_classes: Outputs.
            input_size: (C, H, W).
            widths: Channels of the residual stream in each stage.
            blocks: Blocks per stage.
            expansion: Hidden channels of a block for each of the stream.
            gain: First scale of the normalisation before each activation
                (see :func:`scale_norms`).
        """
        super().__init__()
        self.input_size = checked_input_size(input_size)
        self.stem = nn.Conv2d(self.input_size[0], widths[0], 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        stages: list[nn.Module] = []
        channels = widths[0]
        for number, width in enumerate(widths):
            stage = nn.Sequential()
            if number:
                stage.add_module("reduce", nn.Conv2d(channels, width, 2, 2, bias=False))
                stage.add_module("norm", nn.BatchNorm2d(width))
            for block in range(blocks):
                made = InvertedBlock(width, expansion=expansion, gain=gain)
                stage.add_module(f"block{block}", made)
            stages.append(stage)
            channels = width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head_norm = nn.BatchNorm1d(channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, classes) logits."""
        features = self.pool(self.stages(self.norm(self.stem(x))))
        out: Tensor = self.head(self.head_norm(torch.flatten(features, 1)))
        return out


class PlainNet(nn.Module):
    """Convolutions with batch normalisation and an activation each, then pool and linear.

    The last activation is followed by nothing but the mean over positions and a linear layer, so
    that contributions of its units are exact.

    Attributes:
        input_size: (C, H, W).
        mean, std: Per channel, for the preprocessing.
    """

    def __init__(
        self,
        num_classes: int,
        input_size: tuple[int, int, int],
        *,
        widths: Sequence[int],
        strides: Sequence[int],
        gain: float,
    ) -> None:
        """Build the network.

        Args:
            num_classes: Outputs.
            input_size: (C, H, W).
            widths: Channels of each convolution.
            strides: Stride of each; the first one's patch is twice its stride wide.
            gain: First scale of every batch normalisation (see :func:`scale_norms`).
        """
        super().__init__()
        self.input_size = checked_input_size(input_size)
        if len(widths) != len(strides):
            raise InputError(f"{len(widths)} widths and {len(strides)} strides must be as many")
        layers: list[nn.Module] = []
        channels = self.input_size[0]
        for number, (width, stride) in enumerate(zip(widths, strides, strict=True)):
            layers.append(_layer(channels, width, stride, patch=number == 0 and stride > 1))
            channels = width
        self.layers = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, num_classes)
        scale_norms(self, gain)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, classes) logits."""
        out: Tensor = self.head(torch.flatten(self.pool(self.layers(x)), 1))
        return out


def _layer(channels: int, width: int, stride: int, *, patch: bool) -> nn.Sequential:
    kernel, pad = (2 * stride, stride // 2) if patch else (3, 1)
    layer = nn.Sequential()
    layer.add_module("conv", nn.Conv2d(channels, width, kernel, stride, pad, bias=False))
    layer.add_module("norm", nn.BatchNorm2d(width))
    layer.add_module("act", nn.ReLU())
    return layer


def scale_norms(module: nn.Module, gain: float) -> None:
    """Set the scale of every batch normalisation, in place.

    Winners are drawn from the softmax of the normalised responses. At a scale of 1 that draw is
    little more than chance, and the noise drowns the gradient; at about 6 the largest response
    usually wins. A dense ReLU network with batch normalisation throughout does not depend on it.
    """
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.affine:
            nn.init.constant_(part.weight, gain)


def cifar_resnet(
    num_classes: int = 10, input_size: tuple[int, int, int] = (3, 32, 32), *, gain: float = 6.0
) -> ResNet:
    """Return a residual network of 0.69 million parameters for images of about 32 pixels.

    A 4 × 4 stem of stride 2, then stages of 48, 96 and 192 channels with one block each. On two
    processor cores an epoch of 45,000 images takes about a quarter of a minute dense.
    """
    net = ResNet(num_classes, input_size, widths=(48, 96, 192), blocks=1, stem=2)
    scale_norms(net, gain)
    return described(net, CIFAR_MEAN, CIFAR_STD)


def cifar_inverted(
    num_classes: int = 10, input_size: tuple[int, int, int] = (3, 32, 32), *, gain: float = 6.0
) -> InvertedResNet:
    """Return a residual network of 0.8 million parameters whose hidden layers alone compete.

    A 4 × 4 stem of stride 2, then three stages of 32, 64 and 128 channels with two blocks each,
    whose hidden layers are four times as wide.
    """
    net = InvertedResNet(
        num_classes, input_size, widths=(32, 64, 128), blocks=2, expansion=4, gain=gain
    )
    return described(net, CIFAR_MEAN, CIFAR_STD)


def scene_net(
    num_classes: int = 99, input_size: tuple[int, int, int] = (3, 64, 64), *, gain: float = 6.0
) -> PlainNet:
    """Return a plain convolutional network of 0.1 million parameters for rendered scenes.

    An 8 × 8 stem of stride 4 with 32 channels, then 3 × 3 convolutions of stride 2 with 64 and
    128. A unit of the last layer sees 32 of the 64 pixels a side, so that some units tell what the
    objects look like and others what lies behind them.
    """
    net = PlainNet(num_classes, input_size, widths=(32, 64, 128), strides=(4, 2, 2), gain=gain)
    return described(net, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class MLP(nn.Module):
    """Flatten, one hidden linear layer with batch normalisation and an activation, linear."""

    def __init__(self, num_classes: int, input_size: tuple[int, int, int], *, width: int) -> None:
        super().__init__()
        self.input_size = checked_input_size(input_size)
        channels, height, width_px = self.input_size
        self.hidden = nn.Linear(channels * height * width_px, width)
        self.norm = nn.BatchNorm1d(width)
        self.act = nn.ReLU()
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, classes) logits."""
        hidden = self.act(self.norm(self.hidden(torch.flatten(x, 1))))
        out: Tensor = self.head(hidden)
        return out


def mlp(
    num_classes: int = 10, input_size: tuple[int, int, int] = (3, 32, 32), *, gain: float = 6.0
) -> MLP:
    """Return a network with one hidden layer of 192 units: the smallest thing that competes."""
    net = MLP(num_classes, input_size, width=192)
    scale_norms(net, gain)
    return described(net, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


_Net = TypeVar("_Net", bound=nn.Module)


def described(net: _Net, mean: tuple[float, ...], std: tuple[float, ...]) -> _Net:
    """Attach the preprocessing; grey inputs take the mean over the colours."""
    grey = net.input_size[0] == 1  # type: ignore[index]
    net.mean = (sum(mean) / 3,) if grey else mean  # type: ignore[assignment]
    net.std = (sum(std) / 3,) if grey else std  # type: ignore[assignment]
    return net
