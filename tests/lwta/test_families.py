"""Conversion of the families that people use: torchvision's and timm's, without weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from neuronym.lwta import convert, kl_to_uniform, trace

torchvision_models = torchvision.models


def tiny_torchvision_convnext() -> nn.Module:
    config = torchvision_models.convnext.CNBlockConfig
    return torchvision_models.ConvNeXt([config(32, 64, 1), config(64, None, 2)], num_classes=4)


def tiny_torchvision_resnet() -> nn.Module:
    block = torchvision_models.resnet.BasicBlock
    return torchvision_models.ResNet(block, [1, 1, 1, 1], num_classes=4)


def tiny_torchvision_vit() -> nn.Module:
    return torchvision_models.VisionTransformer(32, 16, 2, 2, 48, 96, num_classes=4)


FAMILIES: list[tuple[str, Callable[[], nn.Module], dict[int, int], int, tuple[int, int, int]]] = [
    # name, model, {channel_dim: sites}, most calls of a site, image
    ("resnet18", torchvision_models.resnet18, {1: 9}, 2, (3, 32, 32)),
    ("resnet50", torchvision_models.resnet50, {1: 17}, 3, (3, 32, 32)),
    ("efficientnet_b0", torchvision_models.efficientnet_b0, {1: 33}, 1, (3, 32, 32)),
    ("convnext", tiny_torchvision_convnext, {-1: 3}, 1, (3, 32, 32)),
    ("vit", tiny_torchvision_vit, {-1: 2}, 1, (3, 32, 32)),
    ("timm deit", lambda: timm.create_model("deit_tiny_patch16_224", depth=2), {-1: 2}, 1, ()),
    ("timm resnet18", lambda: timm.create_model("resnet18"), {1: 17}, 1, (3, 32, 32)),
    ("timm resnetv2", lambda: timm.create_model("resnetv2_50"), {1: 49}, 1, (3, 32, 32)),
    ("timm convnext_atto", lambda: timm.create_model("convnext_atto"), {1: 12}, 1, (3, 32, 32)),
    ("timm convnext_pico", lambda: timm.create_model("convnext_tiny", depths=(1, 1, 1, 1)),
     {-1: 4}, 1, (3, 32, 32)),
    ("timm lite0", lambda: timm.create_model("tf_efficientnet_lite0"), {1: 33}, 1, (3, 32, 32)),
    ("timm efficientnet_b0", lambda: timm.create_model("efficientnet_b0"), {1: 33}, 1, (3, 32, 32)),
    ("timm mobilenetv3", lambda: timm.create_model("mobilenetv3_small_100"), {1: 24}, 1,
     (3, 32, 32)),
    ("timm mixer", lambda: timm.create_model("mixer_s32_224"), {-1: 16}, 1, ()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("build", "dims", "calls", "image"),
    [pytest.param(*case[1:], id=case[0]) for case in FAMILIES],
)
def test_family(
    build: Callable[[], nn.Module], dims: dict[int, int], calls: int, image: tuple[int, ...]
) -> None:
    net = build()
    twin, report = convert(net, 8, example=image or None)
    assert Counter(site.channel_dim for site in report.replaced) == dims
    assert max(site.calls for site in report.replaced) == calls
    assert report.functional == ()
    before, after = net.state_dict(), twin.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_a_converted_family_trains(name: str) -> None:
    torch.manual_seed(0)
    net: Any = (
        tiny_torchvision_resnet()
        if name == "torchvision"
        else timm.create_model("convnext_atto", num_classes=4)
    )
    twin, _ = convert(net, 8, example=(3, 32, 32))
    x = torch.randn(2, 3, 32, 32)
    for values in (x, x.to(memory_format=torch.channels_last)):
        with trace(twin.train()) as record:
            loss = nn.functional.cross_entropy(twin(values), torch.tensor([0, 3]))
        (loss + 1e-3 * kl_to_uniform(record)).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in twin.parameters())
    twin.eval()
    assert torch.equal(twin(x), twin(x))
