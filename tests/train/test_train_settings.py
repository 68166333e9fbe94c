"""Settings, rates and presets: values and bad input."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from neuronym.errors import InputError, UnknownNameError
from neuronym.train import TrainSettings
from neuronym.train.optim import OPTIMIZERS, parameter_groups, rate_at
from neuronym.train.presets import CIFAR10, SCENES

NET = "neuronym.models.small:mlp"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, InputError, "competitors must be given .* or dense=True"),
        ({"competitors": 1}, InputError, "competitors=1 is the identity.*use dense=True"),
        ({"competitors": 0}, InputError, "at least 2"),
        ({"competitors": 4, "dense": True}, InputError, "competitors=4 must then be left out"),
        ({"dense": True, "optimizer": "adam"}, UnknownNameError, "Did you mean 'adamw'"),
        ({"dense": True, "schedule": "onecycle"}, UnknownNameError, "Did you mean 'one-cycle'"),
        ({"dense": True, "augment": "cifr"}, UnknownNameError, "Did you mean 'cifar'"),
        ({"dense": True, "precision": "bf16"}, UnknownNameError, "known: float32, bfloat16"),
        ({"dense": True, "temperature_schedule": "x"}, UnknownNameError, "known: constant"),
        ({"dense": True, "epochs": 0}, InputError, "epochs must be a whole number of at least 1"),
        ({"dense": True, "epochs": 1.5}, InputError, "epochs must be a whole number"),
        ({"dense": True, "learning_rate": 0.0}, InputError, "learning_rate must be above 0"),
        ({"dense": True, "learning_rate": math.nan}, InputError, "learning_rate must be above 0"),
        ({"dense": True, "kl_weight": -1.0}, InputError, "kl_weight must be at least 0"),
        ({"dense": True, "temperature": 0.0}, InputError, "temperature must be above 0"),
        ({"dense": True, "warmup": 1.0}, InputError, r"warmup must be in \[0, 1\)"),
        ({"dense": True, "settle": 1.5}, InputError, r"settle must be in \[0, 1\]"),
        ({"dense": True, "label_smoothing": 1}, InputError, "label_smoothing must be in"),
        ({"dense": True, "batch_size": True}, InputError, "batch_size must be a whole number"),
        ({"dense": True, "input_size": (32, 32)}, InputError, "channels, height, width"),
        ({"competitors": 4, "skip": "act"}, InputError, "skip must be a list of patterns"),
    ],
)
def test_bad_values(arguments: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        TrainSettings(NET, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [SCENES, CIFAR10, SCENES.twin()])
def test_round_trip_through_json(settings: TrainSettings) -> None:
    again = TrainSettings.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert again.to_dict() == settings.to_dict()


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'epochs'"):
        TrainSettings.from_dict({"model": NET, "dense": True, "epoch": 3})


def test_the_twin_differs_in_competition_only() -> None:
    twin = SCENES.twin()
    assert twin.dense
    assert twin.competitors is None
    assert replace(twin, dense=False, competitors=SCENES.competitors) == SCENES


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
def test_rates(schedule: str) -> None:
    rates = [rate_at(step, 100, schedule=schedule, largest=2.0, warmup=0.2) for step in range(100)]
    assert all(0 < rate <= 2.0 for rate in rates)
    assert all(late > early for early, late in pairwise(rates[:20]))
    if schedule == "constant":
        assert rates[20:] == [2.0] * 80
    else:
        assert all(late < early for early, late in pairwise(rates[20:]))
        assert rates[-1] < 0.001
        assert max(rates) > 1.999


def test_rates_by_hand() -> None:
    halfway = rate_at(59, 119, schedule="cosine", largest=1.0, warmup=0.0)
    assert halfway == pytest.approx(0.5)
    quarter = rate_at(12, 100, schedule="cosine", largest=1.0, warmup=0.25)
    assert quarter == pytest.approx(0.5)
    first = rate_at(0, 10**6, schedule="one-cycle", largest=1.0, warmup=0.25)
    assert first == pytest.approx(0.04, abs=1e-4)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_only_matrices_decay(name: str) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = OPTIMIZERS[name](parameter_groups(net, 0.5), 0.1, 0.9)
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert decay[id(net[0].weight)] == 0.5
    for parameter in (net[0].bias, net[1].weight, net[1].bias):
        assert decay[id(parameter)] == 0.0
    net[0].weight.requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups(net, 0.5)) == 3
    assert isinstance(optimizer, torch.optim.Optimizer)
