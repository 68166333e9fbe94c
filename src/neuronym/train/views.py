"""Random views of one image: a part of it, mirrored, changed by RandAugment, partly erased.

The operations are torchvision's functions with explicit amounts. Everything is drawn from the
NumPy generator that is passed, so that any number of threads may work at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from neuronym.models.preprocessing import INTERPOLATIONS, Preprocessing

__all__ = ["OPERATIONS", "View", "crop_box", "erase", "rand_augment", "random_view", "view_seed"]

View = Callable[[Image.Image, np.random.Generator, Preprocessing], Tensor]
_ATTEMPTS = 10
_ASPECT = (3 / 4, 4 / 3)
_ERASED_AREA, _ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)
_FULL = 10.0  # the magnitude at which an operation is as strong as it gets


def view_seed(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator of one image's view in one epoch."""
    return np.random.default_rng((seed, 0xA06, epoch, index))


def crop_box(
    width: int, height: int, rng: np.random.Generator, *, area: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Draw a part of an image (Szegedy et al., arXiv 1409.4842, section 6).

    Args:
        width: In pixels.
        height: In pixels.
        rng: Source of the draws.
        area: Smallest and largest share of the image's area; the aspect is from 3/4 to 4/3.

    Returns:
        Left, upper, right and lower edge; the largest central part where ten draws do not fit.
    """
    for _ in range(_ATTEMPTS):
        surface = width * height * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        wide, tall = round(math.sqrt(surface * aspect)), round(math.sqrt(surface / aspect))
        if 0 < wide <= width and 0 < tall <= height:
            left, top = int(rng.integers(width - wide + 1)), int(rng.integers(height - tall + 1))
            return left, top, left + wide, top + tall
    wide = min(width, round(height * _ASPECT[1]))
    tall = min(height, round(width / _ASPECT[0]))
    left, top = (width - wide) // 2, (height - tall) // 2
    return left, top, left + wide, top + tall


Operation = Callable[[Image.Image, float, float], Image.Image]
_BILINEAR = InterpolationMode.BILINEAR


def _affine(image: Image.Image, *, x: float = 0, y: float = 0, shear: list[float]) -> Image.Image:
    moved: Image.Image = functional.affine(
        image, 0.0, [round(x), round(y)], 1.0, shear, interpolation=_BILINEAR, center=[0, 0]
    )
    return moved


def _angle(amount: float) -> float:
    return math.degrees(math.atan(0.3 * amount))


OPERATIONS: dict[str, Operation] = {
    "auto-contrast": lambda image, amount, sign: functional.autocontrast(image),
    "equalize": lambda image, amount, sign: functional.equalize(image),
    "invert": lambda image, amount, sign: functional.invert(image),
    "rotate": lambda image, amount, sign: functional.rotate(
        image, 30 * amount * sign, interpolation=_BILINEAR
    ),
    "posterize": lambda image, amount, sign: functional.posterize(
        image, max(1, 4 - int(4 * amount))
    ),
    "solarize": lambda image, amount, sign: functional.solarize(image, 256 - int(256 * amount)),
    "colour": lambda image, amount, sign: functional.adjust_saturation(
        image, 1 + 0.9 * amount * sign
    ),
    "contrast": lambda image, amount, sign: functional.adjust_contrast(
        image, 1 + 0.9 * amount * sign
    ),
    "brightness": lambda image, amount, sign: functional.adjust_brightness(
        image, 1 + 0.9 * amount * sign
    ),
    "sharpness": lambda image, amount, sign: functional.adjust_sharpness(
        image, 1 + 0.9 * amount * sign
    ),
    "shear-x": lambda image, amount, sign: _affine(image, shear=[_angle(amount) * sign, 0.0]),
    "shear-y": lambda image, amount, sign: _affine(image, shear=[0.0, _angle(amount) * sign]),
    "move-x": lambda image, amount, sign: _affine(
        image, x=0.45 * amount * sign * image.width, shear=[0.0, 0.0]
    ),
    "move-y": lambda image, amount, sign: _affine(
        image, y=0.45 * amount * sign * image.height, shear=[0.0, 0.0]
    ),
}
"""The operations of RandAugment (Cubuk et al., arXiv 1909.13719), each from an image, an amount in
[0, 1] that grows with the change, and a sign to one of the same size."""


def rand_augment(
    image: Image.Image,
    rng: np.random.Generator,
    *,
    operations: int,
    magnitude: float,
    spread: float = 0.0,
) -> Image.Image:
    """Apply some operations of :data:`OPERATIONS`, each with a chance of one half.

    Args:
        image: RGB or grey.
        rng: Source of the draws.
        operations: How many are drawn, with replacement.
        magnitude: Mean magnitude, in [0, 10].
        spread: Standard deviation of the magnitude.
    """
    names = list(OPERATIONS)
    for name in rng.choice(len(names), operations).tolist():
        used, size, sign = rng.random() < 0.5, rng.normal(magnitude, spread), rng.random() < 0.5
        if used:
            amount = float(np.clip(size, 0, _FULL)) / _FULL
            image = OPERATIONS[names[name]](image, amount, 1.0 if sign else -1.0)
    return image


def erase(pixels: Tensor, rng: np.random.Generator, preprocessing: Preprocessing) -> Tensor:
    """Fill a rectangle with noise (Zhong et al., arXiv 1708.04896), in place.

    The noise has the mean and the deviation that the preprocessing takes out, so that the network
    sees a standard normal, cut off where pixels end.

    Args:
        pixels: (C, H, W) uint8.
        rng: Source of the draws.
        preprocessing: Of the network.
    """
    channels, height, width = pixels.shape
    for _ in range(_ATTEMPTS):
        surface = height * width * rng.uniform(*_ERASED_AREA)
        aspect = math.exp(rng.uniform(math.log(_ERASED_ASPECT[0]), math.log(_ERASED_ASPECT[1])))
        tall, wide = round(math.sqrt(surface * aspect)), round(math.sqrt(surface / aspect))
        if 0 < tall < height and 0 < wide < width:
            top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
            mean = np.array(preprocessing.mean)[:, None, None] * 255
            std = np.array(preprocessing.std)[:, None, None] * 255
            noise = np.clip(rng.normal(mean, std, (channels, tall, wide)), 0, 255).round()
            pixels[:, top : top + tall, left : left + wide] = torch.from_numpy(
                noise.astype(np.uint8)
            )
            break
    return pixels


def random_view(
    image: Image.Image,
    rng: np.random.Generator,
    preprocessing: Preprocessing,
    *,
    area: tuple[float, float],
    operations: int = 0,
    magnitude: float = 0.0,
    spread: float = 0.0,
    erasing: float = 0.0,
) -> Tensor:
    """Return a random part of an image at the network's size, mirrored or not, and changed.

    Args:
        image: Of any size.
        rng: Source of the draws.
        preprocessing: Gives the size, the channels and the interpolation.
        area: As for :func:`crop_box`.
        operations: As for :func:`rand_augment`, like the next two.
        magnitude: In [0, 10].
        spread: At least 0.
        erasing: Chance that a rectangle is erased.

    Returns:
        (C, H, W) uint8.
    """
    channels, height, width = preprocessing.input_size
    image = image.convert("L" if channels == 1 else "RGB")
    box = crop_box(*image.size, rng, area=area)
    method = INTERPOLATIONS[preprocessing.interpolation]
    image = image.resize((width, height), method, box=box)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if operations:
        image = rand_augment(image, rng, operations=operations, magnitude=magnitude, spread=spread)
    array = torch.from_numpy(np.array(image, dtype=np.uint8))
    pixels = array[None].clone() if channels == 1 else array.permute(2, 0, 1).contiguous()
    if rng.random() < erasing:
        pixels = erase(pixels, rng, preprocessing)
    return pixels
