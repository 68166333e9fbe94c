"""``neuronym train``: presets, options of gradual and shared training, and what it says."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from neuronym.cli import main
from neuronym.cli.train import _settings
from neuronym.errors import InputError
from neuronym.train import PRESETS, TrainSettings


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list-presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    assert any(
        line.split()[:3] == ["deit-small-u24", "timm:deit_small_patch16_224", "24"]
        for line in lines
    )
    assert any(line.startswith("resnet50-u4") and "0.1 (sgd, cosine)" in line for line in lines)


def test_options_become_settings() -> None:
    found = _settings(
        {"batch_size": 512, "gradual": 0.5, "accumulate": 4, "pretrained": True},
        preset="deit-tiny-u8",
        dense=False,
        other=["mixup=0.2"],
    )
    assert (found.gradual, found.accumulate, found.pretrained, found.mixup) == (0.5, 4, True, 0.2)
    assert found.learning_rate == pytest.approx(5e-4)
    twin = _settings(
        {"learning_rate": 0.3, "batch_size": 64}, preset="resnet18-u4", dense=True, other=[]
    )
    assert (twin.dense, twin.competitors, twin.learning_rate) == (True, None, 0.3)


SET = {
    "model": ("timm:resnet18", "timm:resnet18"),
    "competitors": ("4", 4),
    "skip": ("act*, stem.act", ("act*", "stem.act")),
    "dense": ("true", True),
    "pretrained": ("True", True),
    "input_size": ("3, 48,64", (3, 48, 64)),
    "epochs": ("3", 3),
    "batch_size": ("32", 32),
    "accumulate": ("2", 2),
    "optimizer": ("sgd", "sgd"),
    "learning_rate": ("3e-4", 3e-4),
    "momentum": ("0.8", 0.8),
    "weight_decay": ("0", 0.0),
    "schedule": ("cosine", "cosine"),
    "warmup": ("0.1", 0.1),
    "clip_norm": ("1", 1.0),
    "label_smoothing": ("0.2", 0.2),
    "augment": ("none", "none"),
    "mixup": ("0.3", 0.3),
    "cutmix": ("0.4", 0.4),
    "drop_path": ("0.05", 0.05),
    "kl_weight": ("1e-7", 1e-7),
    "kl_per_position": ("true", True),
    "temperature": ("1.5", 1.5),
    "temperature_end": ("0.5", 0.5),
    "temperature_schedule": ("linear", "linear"),
    "settle": ("0.25", 0.25),
    "gradual": ("0.5", 0.5),
    "gradual_shape": ("cosine", "cosine"),
    "precision": ("float32", "float32"),
    "seed": ("7", 7),
    "holdout": ("0.2", 0.2),
    "device": ("cuda", "cuda"),
    "workers": ("3", 3),
    "memory_mb": ("64", 64),
    "checkpoint_minutes": ("2.5", 2.5),
}


def test_every_field_can_be_set() -> None:
    assert list(SET) == [field.name for field in fields(TrainSettings)]
    for name, (text, value) in SET.items():
        found = _settings({}, preset="scenes", dense=False, other=[f"{name}={text}"])
        assert getattr(found, name) == value, name
        assert type(getattr(found, name)) is type(value), name
        dense = {"competitors": None} if name == "dense" else {}
        assert found == replace(PRESETS["scenes"], **{name: value}, **dense)


def test_values_that_may_be_missing() -> None:
    other = ["clip_norm=none", "temperature_end=None", "input_size=", "skip="]
    found = _settings({}, preset="scenes", dense=False, other=other)
    assert (found.clip_norm, found.temperature_end, found.input_size) == (None, None, None)
    assert found.skip == ()
    twin = ["model=timm:resnet18", "dense=true"]
    assert _settings({}, preset=None, dense=False, other=twin).dense


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        ("epochs=1.5", "epochs must be a whole number, not '1.5'"),
        ("momentum=much", "momentum must be a number, not 'much'"),
        ("pretrained=yes", "pretrained must be true or false, not 'yes'"),
        ("input_size=3,x,4", "input_size must be a whole number, not 'x'"),
        ("input_size=64,64", "channels, height, width"),
        ("seed=none", "seed must be a whole number, not 'none'"),
    ],
)
def test_values_that_are_refused(pair: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        _settings({}, preset="scenes", dense=False, other=[pair])


def test_a_gradual_run_says_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        *("train", "--data", "scenes:60", "--model", "neuronym.models.small:scene_net", "-U", "8"),
        *("--gradual", "0.5", "--accumulate", "2", "--epochs", "2", "--batch-size", "20"),
        *("--set", "input_size=3,32,32", "--out", str(tmp_path / "run"), "--quiet"),
    ]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "of 224 units dead" in said.err
    assert "12.50% of the units active" in said.err
    history = json.loads((tmp_path / "run" / "metrics.json").read_text())["history"]
    assert [record["share"] for record in history] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--preset", "deit-tiny-u10"], "unknown preset 'deit-tiny-u10'"),
        (["--preset", "scenes", "--gradual", "2"], "gradual must be in [0, 1], not 2.0"),
        (
            ["--model", "timm:resnet18", "-U", "128"],
            "128 competitors do not divide the 64 channels",
        ),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(["train", "--data", "scenes:60", "--out", out, *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert text in said
    assert "\n" not in said
