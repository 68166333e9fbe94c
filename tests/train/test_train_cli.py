"""``neuronym train``: presets, options of gradual and shared training, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuronym.cli import main
from neuronym.cli.train import _settings


def test_presets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list-presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 19
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
