"""SPECs: every form, its bad input, and the caller's random state."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from neuronym.errors import (
    InputError,
    MissingError,
    UnavailableError,
    UnknownNameError,
    UnreadableError,
)
from neuronym.models import LoadedModel, Preprocessing, load, model_fingerprint


class Tiny(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.mean((2, 3)))


def bare(num_classes: int = 5) -> nn.Module:
    return Tiny(num_classes)


def described(num_classes: int = 5, input_size: tuple[int, int, int] = (3, 20, 20)) -> nn.Module:
    net = Tiny(num_classes)
    net.input_size, net.mean, net.std = input_size, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0)
    net.class_names = tuple(f"class {index}" for index in range(num_classes))
    return net


def whole() -> LoadedModel:
    return LoadedModel(Tiny(2), Preprocessing((3, 8, 8)), ("a", "b"), "mine", (3, 8, 8))


def fixed_head() -> nn.Module:
    return Tiny(4)


def not_a_model() -> int:
    return 3


HERE = "models.test_models_load"


def test_timm_from_scratch() -> None:
    loaded = load("timm:resnet18", pretrained=False, num_classes=7)
    assert loaded.spec == "timm:resnet18"
    assert loaded.input_size == (3, 224, 224)
    assert loaded.class_names is None
    assert not loaded.module.training
    with torch.no_grad():
        assert loaded.module(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_timm_knows_the_names_of_imagenet() -> None:
    names = load("timm:resnet18", pretrained=False).class_names
    assert names is not None
    assert len(set(names)) == 1000
    assert names[0] == "tench"
    assert names[207] == "golden retriever"


def test_timm_at_another_size() -> None:
    loaded = load(
        "timm:vit_tiny_patch16_224", pretrained=False, num_classes=3, input_size=(3, 64, 48)
    )
    assert loaded.input_size == (3, 64, 48)
    with torch.no_grad():
        assert loaded.module(torch.zeros(1, 3, 64, 48)).shape == (1, 3)
    grey = load("timm:resnet18", pretrained=False, input_size=(1, 32, 32))
    with torch.no_grad():
        assert grey.module(torch.zeros(1, 1, 32, 32)).shape == (1, 1000)
    assert len(grey.preprocessing.mean) == 1


@pytest.mark.parametrize("spec", ["timm:resnet18", "torchvision:resnet18"])
def test_pretrained_without_network(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UnavailableError) as caught:
        load(spec)
    text = str(caught.value)
    assert "\n" not in text
    assert repr(spec) in text
    assert "need the network" in text
    assert "pocket:efficientnet_lite0" in text
    assert "pretrained=False" in text


def test_torchvision_from_scratch() -> None:
    loaded = load("torchvision:resnet18", pretrained=False, num_classes=6, input_size=(3, 64, 64))
    assert loaded.input_size == (3, 64, 64)
    assert loaded.class_names is None
    with torch.no_grad():
        assert loaded.module(torch.zeros(1, 3, 64, 64)).shape == (1, 6)
    names = load("torchvision:resnet18", pretrained=False).class_names
    assert names is not None
    assert names[0] == "tench"


@pytest.mark.shared_data
def test_pocket_classifies_photos(shared_data: Path) -> None:
    import io

    import pyarrow.parquet as pq
    from PIL import Image

    loaded = load("pocket:efficientnet_lite0")
    assert loaded.class_names is not None
    assert len(set(loaded.class_names)) == 1000
    rows = next(
        pq.ParquetFile(shared_data / "imagenet-photos.parquet").iter_batches(40)
    ).to_pylist()
    images = [Image.open(io.BytesIO(row["image"]["bytes"])) for row in rows]
    with torch.no_grad():
        logits = loaded.module(torch.stack([loaded.transform(image) for image in images]))
    right = (logits.argmax(1) == torch.tensor([row["label"] for row in rows])).float().mean()
    assert right > 0.7


def test_pocket_with_a_new_head() -> None:
    loaded = load("pocket:efficientnet_lite0", num_classes=4, input_size=(3, 96, 96))
    assert loaded.preprocessing.resize == 110
    with torch.no_grad():
        assert loaded.module(torch.zeros(1, 3, 96, 96)).shape == (1, 4)
    assert loaded.class_names is None
    kept = load("pocket:efficientnet_lite0").module.state_dict()["conv_stem.weight"]
    assert torch.equal(loaded.module.state_dict()["conv_stem.weight"], kept)


def test_own_transform_cannot_be_saved() -> None:
    with pytest.raises(InputError, match="brings its own transform"):
        _ = load("pocket:efficientnet_lite0").preprocessing


def test_a_bare_factory_gets_the_documented_preprocessing() -> None:
    loaded = load(f"{HERE}:bare", num_classes=3)
    assert loaded.transform == Preprocessing((3, 224, 224), resize=256)
    assert loaded.spec == f"{HERE}:bare"
    assert loaded.module.layer.out_features == 3


def test_a_factory_may_describe_itself() -> None:
    loaded = load(f"{HERE}:described", num_classes=3)
    assert loaded.transform == Preprocessing((3, 20, 20), (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    assert loaded.class_names == ("class 0", "class 1", "class 2")
    assert load(f"{HERE}:described", input_size=(3, 9, 9)).input_size == (3, 9, 9)


def test_a_factory_may_return_everything() -> None:
    loaded = load(f"{HERE}:whole")
    assert loaded.class_names == ("a", "b")
    assert loaded.spec == f"{HERE}:whole"


@pytest.mark.parametrize(
    ("spec", "arguments", "error", "text"),
    [
        ("timm:resnet8", {}, UnknownNameError, r"unknown timm model 'resnet8'.*Did you mean"),
        ("timm:resnet18.a9_in1k", {}, UnknownNameError, r"Did you mean 'a[123]_in1k'"),
        ("torchvision:resnet19", {}, UnknownNameError, r"Did you mean 'resnet1"),
        ("pocket:efficientnet_lite9", {}, UnknownNameError, "known: efficientnet_lite0"),
        ("resnet18", {}, UnknownNameError, "Did you mean 'timm:resnet18'"),
        ("no_such_package.nets:net", {}, UnknownNameError, "no module 'no_such_package'"),
        (f"{HERE}:bear", {}, UnknownNameError, "Did you mean 'bare'"),
        (f"{HERE}:not_a_model", {}, InputError, "returned int, not a torch.nn.Module"),
        (f"{HERE}:fixed_head", {"num_classes": 3}, InputError, "no parameter num_classes"),
        ("no/such/folder", {}, MissingError, "'no/such/folder' does not exist"),
        ("timm:resnet18", {"num_classes": 0}, InputError, "num_classes must be at least 1"),
        ("timm:resnet18", {"input_size": (3, 0, 9)}, InputError, "channels, height, width"),
        (
            "torchvision:resnet18",
            {"pretrained": False, "input_size": (1, 32, 32)},
            InputError,
            "take 3 channels, not 1",
        ),
    ],
)
def test_bad_specs(
    spec: str, arguments: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as caught:
        load(spec, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(UnreadableError, match="is a file; give the folder that train wrote"):
        load(str(path))


def test_a_module_that_fails_on_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fails_on_import.py").write_text("raise RuntimeError('no luck')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnavailableError, match="fails with RuntimeError: no luck"):
        load("fails_on_import:net")


def test_the_seed_rules_and_the_callers_state_does_not() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = load("neuronym.models.small:mlp", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    again = load("neuronym.models.small:mlp", seed=1)
    other = load("neuronym.models.small:mlp", seed=2)
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint


def test_the_fingerprint_sees_structure_weights_and_preprocessing() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    twin = nn.Sequential(net[0], nn.GELU())
    small, large = Preprocessing((3, 8, 8)), Preprocessing((3, 16, 16))
    first = model_fingerprint(net, small)
    assert model_fingerprint(twin, small) != first
    assert model_fingerprint(net, large) != first
    assert model_fingerprint(net, Preprocessing((3, 8, 8))) == first
    with torch.no_grad():
        net[0].bias[0] += 1
    assert model_fingerprint(net, small) != first
