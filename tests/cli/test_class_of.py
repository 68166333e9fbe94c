"""A class on the command line: its name first, then its index."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from neuronym import probes
from neuronym.cli import main
from neuronym.cli._classes import class_of
from neuronym.models import load
from neuronym.results import ExplanationSet

DIGITS = ("0", "1", "10", "2", "cat", "Dog")


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("2", DIGITS, "2"),
        ("10", DIGITS, "10"),
        ("3", DIGITS, 3),
        ("3", None, 3),
        ("dog", DIGITS, "dog"),
        ("bird", DIGITS, "bird"),
        ("²", DIGITS, "²"),
        ("-1", DIGITS, "-1"),
    ],
)
def test_names_come_before_indices(
    text: str, names: tuple[str, ...] | None, expected: int | str
) -> None:
    assert class_of(text, names) == expected


def test_classes_that_are_called_by_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--class 2``, ``--against 10`` and ``--targets 2`` mean the classes of these names."""
    spec, atlas = "neuronym.models.small:scene_net", tmp_path / "atlas"
    asked = ["dissect", "--model", spec, "--images", "scenes:24", "--significance", "0"]
    flags = ["--sites", "layers.1.act", "--concepts", "attributes", "--out", str(atlas)]
    assert main([*asked, *flags, "--quiet"]) == 0
    model = load(spec)
    names = ("0", "1", "10", *(str(n) for n in range(2, 99) if n != 10))
    monkeypatch.setattr(
        "neuronym.cli.explain.model_of", lambda *_: replace(model, class_names=names)
    )
    picture = tmp_path / "scene.png"
    probes.load("scenes:1").image(0).save(picture)
    capsys.readouterr()
    one = ["explain", "--atlas", str(atlas), "--image", str(picture), "--json"]
    assert main([*one, "--class", "2", "--against", "10"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["target"]["index"], said["target"]["name"]) == (3, "2")
    assert (said["against"]["index"], said["against"]["name"]) == (2, "10")
    out = tmp_path / "out"
    many = ["explain", "--atlas", str(atlas), "--images", "scenes:4", "--out", str(out)]
    assert main([*many, "--targets", "2", "--quiet"]) == 0
    assert set(ExplanationSet.load(out).images["target_index"].to_pylist()) == {3}
