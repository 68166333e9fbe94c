"""Preprocessing against timm's and torchvision's own pipelines, and its bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from neuronym.errors import InputError, UnknownNameError
from neuronym.models import Preprocessing, load, resize_side
from neuronym.vision_text.efficientnet import efficientnet_transform


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width * height)
    small = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


SIZES = [(301, 217), (200, 333), (256, 256), (90, 400)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_b0", "vit_tiny_patch16_224"])
def test_equals_timm(name: str, size: tuple[int, int]) -> None:
    from timm.data import create_transform, resolve_model_data_config

    loaded = load(f"timm:{name}", pretrained=False)
    theirs = create_transform(**resolve_model_data_config(loaded.module), is_training=False)
    image = picture(*size)
    ours = loaded.transform(image)
    assert ours.dtype == torch.float32
    assert ours.shape == loaded.input_size
    torch.testing.assert_close(ours, theirs(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_squash_equals_timm(size: tuple[int, int]) -> None:
    from timm.data import create_transform

    ours = Preprocessing((3, 64, 64), interpolation="bicubic", fit="squash")
    theirs = create_transform((3, 64, 64), interpolation="bicubic", crop_mode="squash", crop_pct=1)
    image = picture(*size)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b1"])
def test_equals_torchvision(name: str, size: tuple[int, int]) -> None:
    from torchvision.models import get_model_weights

    loaded = load(f"torchvision:{name}", pretrained=False)
    theirs = get_model_weights(name).DEFAULT.transforms()
    image = picture(*size)
    torch.testing.assert_close(loaded.transform(image), theirs(image), atol=1e-5, rtol=0)


def test_an_image_of_the_right_size_is_only_normalised() -> None:
    image = picture(32, 32)
    ours = Preprocessing((3, 32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    pixels = np.asarray(image, dtype=np.float64) / 255
    expected = ((pixels - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]).transpose(2, 0, 1)
    np.testing.assert_allclose(ours(image).numpy(), expected, atol=1e-6)


def test_grey_and_other_modes() -> None:
    grey = Preprocessing((1, 16, 16), mean=(0.0,), std=(1.0,))
    image = picture(40, 30, "RGBA")
    assert grey(image).shape == (1, 16, 16)
    colour = Preprocessing((3, 16, 16))
    assert colour(picture(40, 30, "L")).shape == (3, 16, 16)
    assert colour(picture(40, 30, "CMYK")).shape == (3, 16, 16)


def test_round_trip_through_json() -> None:
    ours = Preprocessing((3, 48, 64), resize=80, interpolation="bicubic")
    again = Preprocessing.from_dict(json.loads(json.dumps(ours.to_dict())))
    assert again == ours


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"input_size": (3, 32)}, InputError, "channels, height, width"),
        ({"input_size": (2, 32, 32)}, InputError, "1 or 3 channels"),
        ({"mean": (0.5,)}, InputError, "mean must be 3 finite numbers"),
        ({"std": (0.1, 0.0, 0.1)}, InputError, "std must be above 0"),
        ({"interpolation": "bicubics"}, UnknownNameError, "Did you mean 'bicubic'"),
        ({"fit": "stretch"}, UnknownNameError, "known: crop, squash"),
        ({"resize": 100}, InputError, "resize=100 is smaller than the crop"),
    ],
)
def test_bad_values(arguments: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Preprocessing(**arguments)  # type: ignore[arg-type]


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InputError, match="'std'"):
        Preprocessing.from_dict({"input_size": [3, 8, 8], "mean": [0, 0, 0]})


@pytest.mark.parametrize(
    ("options", "side"),
    [
        ({"input_size": (3, 224, 224), "resize": 256}, 256),
        ({"input_size": (3, 224, 224)}, 224),
        ({"input_size": (1, 32, 48), "mean": (0.5,), "std": (0.5,)}, 48),
        ({"input_size": (3, 224, 160), "resize": 256, "fit": "squash"}, 224),
    ],
)
def test_the_side_that_reaches_the_model(options: dict, side: int) -> None:
    assert resize_side(Preprocessing(**options)) == side


def test_the_side_of_other_transforms() -> None:
    assert resize_side(efficientnet_transform("efficientnet_lite0")) == 256
    assert resize_side(efficientnet_transform("efficientnet_lite0", 100)) == 115  # 114.3
    assert resize_side(lambda image: image) is None
