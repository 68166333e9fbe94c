"""Evaluation and calibration against the same figures computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from neuronym.errors import InputError
from neuronym.models import Preprocessing, load
from neuronym.models.folder import compete
from neuronym.train import calibrate, evaluate, open_source
from train.synthetic import Blobs

SIZE = (3, 16, 16)


@pytest.fixture(scope="module")
def competitive() -> nn.Module:
    dense = load("neuronym.models.small:scene_net", num_classes=3, input_size=SIZE).module
    return compete(dense, 8, SIZE)[0].eval()


def inputs(probe: Blobs, preprocessing: Preprocessing) -> torch.Tensor:
    return torch.stack([preprocessing(probe.image(index)) for index in range(len(probe))])


def test_evaluation_by_hand(competitive: nn.Module) -> None:
    probe, size = Blobs(30), Preprocessing(SIZE)
    source = open_source(probe, size)
    found = evaluate(
        competitive, source, batch_size=7, sites=["layers.0.act", "layers.2.act"], kl=True
    )
    with torch.no_grad():
        z = competitive.layers[:2](inputs(probe, size))
        z = competitive.layers[2].norm(competitive.layers[2].conv(z)).double()
        logits = competitive(inputs(probe, size)).double()
    labels = torch.from_numpy(probe.labels)
    log_p = torch.log_softmax(logits, 1)
    assert found.images == 30
    assert found.accuracy == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    assert found.nll == pytest.approx(float(-log_p[torch.arange(30), labels].mean()), rel=1e-5)
    q = torch.softmax(z.unflatten(1, (16, 8)), 2)
    divergence = float((q * (q.log() + math.log(8))).sum() / 30)
    assert found.kl_by_site["layers.2.act"] == pytest.approx(divergence, rel=1e-4)
    assert set(found.active_by_site) == {"layers.0.act", "layers.2.act"}
    assert found.active_fraction == pytest.approx(1 / 8, abs=1e-3)
    assert not competitive.training


def test_evaluation_is_deterministic_and_leaves_no_hook(competitive: nn.Module) -> None:
    source = open_source(Blobs(20), Preprocessing(SIZE))
    competitive.train()
    first = evaluate(competitive, source, sites=["layers.0.act"])
    assert competitive.training
    competitive.eval()
    assert evaluate(competitive, source, sites=["layers.0.act"]) == first
    assert not competitive.layers[0].act._forward_hooks


def test_calibration_is_the_plain_average_over_batches() -> None:
    size = Preprocessing(SIZE)
    dense = load("neuronym.models.small:scene_net", num_classes=3, input_size=SIZE, seed=3).module
    module = compete(dense, 8, SIZE)[0]
    probe = Blobs(24)
    source = open_source(probe, size)
    first = module.layers[0]
    images = inputs(probe, size)
    with torch.no_grad():
        maps = first.conv(images)
    means = torch.stack([part.mean((0, 2, 3)) for part in maps.split(8)])
    variances = torch.stack([part.var((0, 2, 3)) for part in maps.split(8)])
    before = {name: value.clone() for name, value in module.named_parameters()}
    assert calibrate(module, source, order=np.arange(24), batch_size=8) == 3
    torch.testing.assert_close(first.norm.running_mean, means.mean(0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(first.norm.running_var, variances.mean(0), atol=1e-5, rtol=1e-4)
    assert first.norm.momentum == 0.1
    assert all(torch.equal(value, before[name]) for name, value in module.named_parameters())
    again = [norm.clone() for norm in (module.layers[2].norm.running_mean,)]
    calibrate(module, source, order=np.arange(24), batch_size=8)
    assert torch.equal(again[0], module.layers[2].norm.running_mean)


def test_nothing_to_calibrate() -> None:
    source = open_source(Blobs(8), Preprocessing(SIZE))
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 3))
    assert calibrate(net, source, order=np.arange(8), batch_size=4) == 0


def test_no_readable_image(competitive: nn.Module) -> None:
    probe = Blobs(8, side=256, broken=range(8))
    streamed = open_source(probe, Preprocessing((3, 256, 256)), memory_mb=1)
    assert not streamed.in_memory
    with pytest.raises(InputError, match="'blobs:8' has no readable image to evaluate on"):
        evaluate(competitive, streamed)
