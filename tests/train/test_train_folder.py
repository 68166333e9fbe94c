"""The output folder of a training: what a refused request leaves, and what it does not destroy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from neuronym.cli import main
from neuronym.errors import FolderInUseError, NeuronymError
from neuronym.models import load
from neuronym.train import Progress, TrainSettings, train
from train.synthetic import Blobs

SETTINGS = TrainSettings(
    model="neuronym.models.small:scene_net",
    competitors=8,
    input_size=(3, 16, 16),
    epochs=1,
    batch_size=24,
    holdout=0.25,
    workers=1,
)
REFUSED = [
    ({"model": "timm:resnet180"}, {}, "resnet180"),
    ({"model": "neuronym.models.small:scene_nett"}, {}, "scene_nett"),
    ({"competitors": 5}, {}, "do not divide"),
    ({"drop_path": 0.1}, {}, "finds no place"),
    ({"device": "foo"}, {}, "unknown device 'foo'"),
    ({"device": "cuda:99"}, {}, "'cuda:99' is not on this machine"),
    ({"device": "meta"}, {}, "'meta' holds no numbers"),
    ({}, {"broken": range(96)}, "has no readable image"),
]


class Stop(Exception):
    """Stands for a kill."""


def stop(_: Progress) -> None:
    raise Stop


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(SETTINGS, Blobs(), out=folder)
    return folder


@pytest.mark.parametrize(("changes", "data", "text"), REFUSED)
def test_overwrite_keeps_the_old_run_where_the_new_request_fails(
    changes: dict[str, Any], data: dict[str, Any], text: str, finished: Path
) -> None:
    before = content(finished)
    with pytest.raises(NeuronymError, match=text) as caught:
        train(replace(SETTINGS, **changes), Blobs(**data), out=finished, overwrite=True)
    assert "\n" not in str(caught.value)
    assert content(finished) == before
    assert load(str(finished)).class_names == ("red", "green", "blue")


@pytest.mark.parametrize(("changes", "data", "text"), REFUSED)
def test_a_refused_training_may_be_tried_again_in_its_folder(
    changes: dict[str, Any], data: dict[str, Any], text: str, tmp_path: Path
) -> None:
    for _ in range(2):
        with pytest.raises(NeuronymError, match=text):
            train(replace(SETTINGS, **changes), Blobs(**data), out=tmp_path / "run")
    with pytest.raises(Stop):  # the corrected request begins
        train(SETTINGS, Blobs(), out=tmp_path / "run", progress=stop)


def test_overwrite_replaces_the_old_run_also_by_one_that_starts_from_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(SETTINGS, Blobs(), out=out)
    (out / "stray.txt").write_text("old")
    again = replace(SETTINGS, model=str(out), seed=3)
    result = train(again, Blobs(), out=out, overwrite=True)
    assert not (out / "stray.txt").exists()
    assert result.config.model == SETTINGS.model
    assert load(str(out)).class_names == ("red", "green", "blue")


def test_a_training_that_began_is_not_taken_for_an_empty_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(Stop):  # before the first checkpoint
        train(SETTINGS, Blobs(), out=out, progress=stop)
    with pytest.raises(FolderInUseError, match="holds a training that has not finished; resume it"):
        train(SETTINGS, Blobs(), out=out)
    steps: list[int] = []
    train(SETTINGS, Blobs(), out=out, resume=True, progress=lambda seen: steps.append(seen.step))
    assert steps == [1, 2, 3]


@pytest.mark.parametrize("device", ["foo", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_one_line(
    device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--preset", "scenes", "--data", "scenes:200", "--device", device]
    assert main([*command, "--out", str(tmp_path / "run"), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"device {device!r}" in line


def test_the_command_line_repeats_the_training_of_the_demo(tmp_path: Path) -> None:
    from neuronym.cli.demo import _sets, _train
    from neuronym.train import PRESETS

    settings = replace(PRESETS["scenes"], epochs=1)
    _train(settings, _sets(200, 0), tmp_path / "demo", quiet=True)
    command = ["train", "--preset", "scenes", "--data", "scenes:200:100:colour+background"]
    assert main([*command, "--epochs", "1", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    ours, theirs = tmp_path / "run", tmp_path / "demo"
    for name in ("last.safetensors", "model.safetensors"):
        first, second = load_file(ours / name), load_file(theirs / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first), name
    assert (ours / "config.json").read_text() == (theirs / "config.json").read_text()
    assert len(json.loads((ours / "config.json").read_text())["class_names"]) == 99
