"""Heads: what is cut off, what is put on, and what a folder makes of it again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from neuronym.errors import DivisibilityError, InputError, UnknownNameError, UnreadableError
from neuronym.lwta import lwta_modules
from neuronym.models import (
    HeadConfig,
    HeadedModel,
    ModelConfig,
    Preprocessing,
    load,
    read_config,
    save_folder,
)
from neuronym.models.head import classifier_of, make_head

SIZE = (3, 16, 16)
MLP = "neuronym.models.small:mlp"


def images(count: int = 3, size: tuple[int, int, int] = SIZE) -> torch.Tensor:
    return torch.randn(count, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("spec", "size", "name", "features"),
    [
        ("timm:resnet18", (3, 64, 64), "fc", 512),
        ("timm:deit_tiny_patch16_224", (3, 224, 224), "head", 192),
        ("timm:convnext_atto", (3, 64, 64), "head.fc", 320),
        ("torchvision:mobilenet_v3_small", (3, 64, 64), "classifier.3", 1024),
        (MLP, SIZE, "head", 192),
    ],
)
def test_the_classifier_is_found_and_its_input_is_the_features(
    spec: str, size: tuple[int, int, int], name: str, features: int
) -> None:
    module = load(spec, pretrained=False, input_size=size).module
    batch = images(2, size)
    assert classifier_of(module, batch) == (name, features)
    seen: list[torch.Tensor] = []
    handle = module.get_submodule(name).register_forward_pre_hook(
        lambda _, given: seen.append(given[0])
    )
    with torch.no_grad():
        module(batch)
        handle.remove()
        headed = HeadedModel(module, nn.Identity(), HeadConfig(name, features))
        assert torch.equal(headed(batch), seen[0])


@pytest.mark.parametrize(
    "spec", ["torchvision:squeezenet1_0", "timm:deit_tiny_distilled_patch16_224"]
)
def test_a_model_without_a_last_linear_layer_says_so(spec: str) -> None:
    module = load(spec, pretrained=False).module
    with pytest.raises(InputError, match=r"not that of one linear layer.*name a site"):
        classifier_of(module, images(2, (3, 224, 224)))


@pytest.mark.parametrize(("pooling", "pool"), [("mean", "mean"), ("max", "amax")])
def test_a_site_is_pooled_over_its_positions(pooling: str, pool: str) -> None:
    module = load("timm:resnet18", pretrained=False, input_size=(3, 64, 64)).module
    batch = images(2, (3, 64, 64))
    config = HeadConfig("layer2", 128, cut=False, pooling=pooling, channel_dim=1)
    headed = HeadedModel(module, nn.Identity(), config)
    with torch.no_grad():
        wanted = module.layer2(
            module.layer1(module.maxpool(module.act1(module.bn1(module.conv1(batch)))))
        )
        wanted = getattr(wanted.flatten(2), pool)(-1)
        torch.testing.assert_close(headed(batch), wanted)
    assert not module.layer2._forward_hooks


def test_a_token_can_be_the_features() -> None:
    module = load("timm:deit_tiny_patch16_224", pretrained=False).module
    batch = images(2, (3, 224, 224))
    first, second = (
        HeadedModel(
            module, nn.Identity(), HeadConfig("norm", 192, cut=False, pooling=f"token:{index}")
        )
        for index in (0, 5)
    )
    with torch.no_grad():
        tokens = module.forward_features(batch)
        torch.testing.assert_close(first(batch), tokens[:, 0])
        torch.testing.assert_close(second(batch), tokens[:, 5])


def test_no_hook_is_left_when_the_backbone_fails() -> None:
    module = load("timm:resnet18", pretrained=False).module
    config = HeadConfig("layer2", 128, cut=False, channel_dim=1)
    headed = HeadedModel(module, nn.Identity(), config)
    with pytest.raises(RuntimeError):
        headed(torch.zeros(1, 7, 64, 64))
    assert not module.layer2._forward_hooks


@pytest.mark.parametrize(
    ("activation", "competitors", "names"),
    [
        ("lwta", 8, ["hidden", "act", "output"]),
        ("relu", None, ["hidden", "act", "output"]),
        ("linear", None, ["output"]),
    ],
)
def test_what_a_head_is_made_of(activation: str, competitors: int | None, names: list[str]) -> None:
    head = make_head(HeadConfig("x", 10, 32, activation), 4, competitors)
    assert [name for name, _ in head.named_children()] == names
    assert head(torch.randn(3, 10)).shape == (3, 4)
    assert [each.competitors for each in lwta_modules(head).values()] == (
        [8] if competitors else []
    )


def test_bad_heads_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'relu'"):
        HeadConfig("x", 10, activation="relo")
    with pytest.raises(UnknownNameError, match="token:INDEX"):
        HeadConfig("x", 10, pooling="median")
    with pytest.raises(InputError, match="hidden must be a whole number of at least 1, not 0"):
        HeadConfig("x", 10, hidden=0)
    with pytest.raises(DivisibilityError, match=r"7 competitors do not divide the 32.*4 or 8"):
        make_head(HeadConfig("x", 10, 32), 4, 7)
    with pytest.raises(InputError, match="needs competitors"):
        make_head(HeadConfig("x", 10, 32), 4, None)
    with pytest.raises(InputError, match="competitors=4 must be left out"):
        make_head(HeadConfig("x", 10, 32, "relu"), 4, 4)
    with pytest.raises(UnreadableError, match="no module 'nowhere'"):
        HeadedModel(nn.Linear(2, 2), nn.Identity(), HeadConfig("nowhere", 2))


def headed_folder(folder: Path) -> tuple[Path, HeadedModel]:
    config = HeadConfig("head", 192, 32)
    backbone = load(MLP, input_size=SIZE, seed=3).module
    model = HeadedModel(backbone, make_head(config, 3, 8), config).eval()
    saved = ModelConfig(
        model=MLP,
        num_classes=3,
        class_names=("a", "b", "c"),
        competitors=8,
        temperature=0.67,
        converted=("head.act",),
        preprocessing=Preprocessing(SIZE, (0.5,) * 3, (0.25,) * 3),
        head=config,
    )
    save_folder(folder, model.state_dict(), saved)
    return folder, model


def test_a_headed_folder_round_trips(tmp_path: Path) -> None:
    folder, model = headed_folder(tmp_path / "model")
    loaded = load(str(folder))
    assert isinstance(loaded.module, HeadedModel)
    assert loaded.module.config == model.config
    with torch.no_grad():
        assert torch.equal(loaded.module(images()), model(images()))


def test_a_headed_folder_whose_parts_do_not_fit_is_refused(tmp_path: Path) -> None:
    folder, _ = headed_folder(tmp_path / "model")
    path = folder / "config.json"
    content = json.loads(path.read_text())
    for change, text in (
        ({"activation": "relu"}, "differ in the field 'head': relu and lwta"),
        ({"site": "nowhere"}, "no module 'nowhere'"),
        ({"hidden": 64}, r"'head.hidden.weight' has shape \(32, 192\)"),
        ({"pooling": "median"}, "unknown pooling"),
    ):
        path.write_text(json.dumps(content | {"head": content["head"] | change}))
        with pytest.raises(UnreadableError, match=text) as caught:
            load(str(folder))
        assert "\n" not in str(caught.value)
    del content["head"]["site"]
    path.write_text(json.dumps(content))
    with pytest.raises(UnreadableError, match="the head lacks the field 'site'"):
        load(str(folder))


def test_a_head_on_a_head(tmp_path: Path) -> None:
    folder, _ = headed_folder(tmp_path / "inner")
    inner = read_config(folder)
    config = HeadConfig("head.output", 32, 16, backbone=inner.to_dict())
    outer = HeadedModel(load(str(folder)).module, make_head(config, 5, 4), config).eval()
    saved = replace(
        inner,
        num_classes=5,
        class_names=None,
        competitors=4,
        converted=("backbone.head.act", "head.act"),
        head=config,
    )
    save_folder(tmp_path / "outer", outer.state_dict(), saved)
    with torch.no_grad():
        assert torch.equal(load(str(tmp_path / "outer")).module(images()), outer(images()))
