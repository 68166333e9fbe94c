"""The command line explains a data set, goes on, and refuses what does not go together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuronym.cli import main
from neuronym.errors import InputError
from neuronym.probes import load
from neuronym.results import ExplanationSet


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dissected") / "atlas"
    asked = ["dissect", "--model", "neuronym.models.small:scene_net", "--images", "scenes:24"]
    flags = ["--sites", "layers.*.act", "--concepts", "attributes", "--quiet", "--out", str(out)]
    assert main([*asked, *flags, "--significance", "0"]) == 0
    return out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main(["explain", *map(str, arguments)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    return said[0]


def test_a_data_set_is_explained(
    atlas: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "explained"
    asked = ["explain", "--atlas", str(atlas), "--images", "scenes:20", "--out", str(out)]
    flags = ["--site", "layers.*.act", "--limit", "12", "--most", "4", "--batch-size", "5"]
    assert main([*asked, *flags, "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(out)
    assert "12 images explained" in said.err
    assert "largest completeness error" in said.err
    found = ExplanationSet.load(out)
    assert len(found) == 12
    assert len(found.sites) > 1
    assert max(max(batch["rank"].to_pylist()) for batch in found.winners()) == 4
    assert main([*asked, *flags, "--quiet"]) == 0  # it is whole: only read
    assert "of something else: most is 4, not 3" in refused(
        capsys, *asked[1:], *flags[:-4], "--most", "3"
    )
    assert main([*asked, "--limit", "3", "--overwrite", "--quiet", "--targets", "1"]) == 0
    again = ExplanationSet.load(out)
    assert set(again.images["target_index"].to_pylist()) == {1}


def test_what_does_not_go_together(
    atlas: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, many = ("--image", "a.png"), ("--images", "scenes:4")
    out = ("--out", tmp_path / "out")
    for arguments, message in (
        ((*one, *many), "--image explains one image and --images a data set: give one of them"),
        ((), "give --image FILE, or --images SPEC --out DIR"),
        (many, "--images needs --out DIR"),
        ((*one, *out, "--most", "3"), "--out, --most goes with --images, not with --image"),
        ((*many, *out, "--json"), "--json goes with --image, not with --images"),
        ((*many, *out, "--top", "3", "--seed", "0"), "--top, --seed goes with --image, not with"),
        ((*many, *out, "--class", "cat"), "not with --images; choose the class by --targets"),
        ((*many, *out, "--targets", "nothing"), "'nothing'"),
        ((*many, *out, "--site", "layers.9"), "atlas has no site 'layers.9'; nearest"),
    ):
        assert message in refused(capsys, "--atlas", atlas, *arguments), arguments
    assert not (tmp_path / "out").exists()


def test_pictures_are_checked_before_anything_is_computed(
    atlas: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load("scenes:1").image(0).save(tmp_path / "a.png")
    one = ("--atlas", atlas, "--image", tmp_path / "a.png", "--save", tmp_path / "a.json")
    (tmp_path / "used" / "layers.1.act").mkdir(parents=True)
    (tmp_path / "used" / "layers.1.act" / "mine.txt").write_text("keep")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    with monkeypatch.context() as patched:
        patched.setattr("neuronym.cli.explain.model_of", never)
        for folder, flags, message in (
            ("a.png", (), "a.png' exists and is not an empty folder"),
            ("a.png/x/y", (), "a.png' is a file"),
            ("used", (), "used' exists and is not an empty folder"),
            ("used", ("--site", "all"), "layers.1.act' exists and is not an empty folder"),
        ):
            assert message in refused(capsys, *one, "--pictures", tmp_path / folder, *flags)

    def fails(*_: object, **__: object) -> None:
        raise InputError("no winner has a place")

    monkeypatch.setattr("neuronym.explain.pictures.write_pictures", fails)
    assert "no winner has a place" in refused(capsys, *one, "--pictures", tmp_path / "new")
    assert json.loads((tmp_path / "a.json").read_text())  # what was computed is kept
