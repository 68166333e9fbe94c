"""``neuronym head`` and ``neuronym export``: the way through, and bad input in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.test_app import refused
from neuronym.cli import main

BACKBONE = "neuronym.models.small:mlp"


def common(tmp_path: Path, **changed: str) -> list[str]:
    options = {
        "backbone": BACKBONE,
        "data": "scenes:60",
        "out": str(tmp_path / "head"),
        "features": str(tmp_path / "features"),
    } | changed
    return [text for name, value in options.items() for text in (f"--{name}", value)]


def test_a_head_is_trained_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from neuronym.probes.scenes import SceneSet

    scenes = SceneSet(60, seed=0, size=32, task=("background",))
    for index, label in enumerate(scenes.labels.tolist()):
        folder = tmp_path / "data" / ("ab"[label % 2])
        folder.mkdir(parents=True, exist_ok=True)
        scenes.image(index).save(folder / f"{index}.png")
    data = str(tmp_path / "data")
    arguments = common(tmp_path, data=data, competitors="4", hidden="16", epochs="2")
    assert main(["head", *arguments, "--image-size", "32", "--set", "dropout=0"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "head")
    assert "25.00% of the hidden units active" in captured.err
    for name in ("a", "b"):
        assert f" {name}\n" in captured.err
    again = main(["head", *arguments, "--image-size", "32", "--quiet"])
    assert again == 2, "a folder is not overwritten"
    capsys.readouterr()
    made = ["export", "--model", str(tmp_path / "head"), "--out", str(tmp_path / "n.pt2")]
    assert main(made) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "n.pt2")
    assert "differ from the network's by at most" in captured.err
    assert "exists already" in refused(capsys, *made)
    main(["export", "--model", str(tmp_path / "head"), "--out", str(tmp_path / "m.pt2"), "-q"])
    assert capsys.readouterr().err == ""


def test_head_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*more: str, **changed: str) -> str:
        return refused(capsys, "head", *common(tmp_path, **changed), "--quiet", *more)

    assert "do not divide the 1536 hidden units" in run("--competitors", "7")
    assert "identity" in run("--competitors", "1")
    assert "leave --competitors out" in run("--dense", "--competitors", "8")
    assert "give one" in run("--dense", "--linear")
    assert "Did you mean 'dropout'" in run("--set", "dropuot=1")
    assert "NAME=VALUE" in run("--set", "dropout")
    assert "must be a number" in run("--set", "dropout=much")
    assert "nearest" in run(site="hiden")
    assert "does not exist" in run(backbone=str(tmp_path / "nowhere"))
    assert "efficientnet_lite0" in run(backbone="pocket:efficientnet_lite9")
    assert "no image" in run(data=str(tmp_path))
    assert not (tmp_path / "head").exists()


def test_export_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "net.pt")
    line = refused(capsys, "export", "--model", BACKBONE, "--out", out)
    assert "known: .onnx, .pt2. Did you mean '.pt2'?" in line
    missing = str(tmp_path / "nowhere")
    line = refused(capsys, "export", "--model", missing, "--out", str(tmp_path / "net.pt2"))
    assert "does not exist" in line
