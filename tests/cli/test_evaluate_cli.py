"""``neuronym evaluate``: a scorecard on disk, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuronym.cli import main
from neuronym.probes.scenes import SceneSet
from neuronym.results import Scorecard

MODEL = "neuronym.models.small:scene_net"


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated") / "atlas"
    command = (
        f"dissect --model {MODEL} --images scenes:40 --sites layers.1.act,layers.2.act --quiet "
        f"--concepts attributes --similarity cosine --significance 0 --out {out}"
    )
    assert main(command.split()) == 0
    return out


def asked(atlas: Path, out: Path, *more: str) -> list[str]:
    quick = ["--steps", "4", "--random-orders", "1", "--quiet"]
    return ["evaluate", "--atlas", str(atlas), "--out", str(out), *quick, *more]


def test_a_scorecard_is_written_and_printed(atlas, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    command = asked(
        atlas, out, "--images", "scenes:80:9", "--limit", "70", "--metrics", "faithfulness,truth"
    )
    assert main([*command, "--site", "layers.2*", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((out / "scorecard.json").read_text())
    card = Scorecard.load(out / "scorecard.json")
    assert card["faithfulness.deletion_ratio/layers.2.act"].n == 70
    assert 0 < card["units.live"].value <= 1
    assert card.provenance["images"]["count"] == 70
    assert (out / "manifest.json").is_file()
    assert main(command) == 2  # nothing is overwritten unasked
    assert "pass --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--order", "magnitude"]) == 0
    printed = capsys.readouterr().out
    assert "faithfulness.deletion_ratio/layers.1.act" in printed
    assert printed.strip().endswith("scorecard.json")
    assert (
        Scorecard.load(out / "scorecard.json").provenance["metrics"]["faithfulness"]
        | {"order": "magnitude"}
        == Scorecard.load(out / "scorecard.json").provenance["metrics"]["faithfulness"]
    )


def test_few_and_broken_images_are_said(atlas, tmp_path, capsys) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        SceneSet(3, seed=8).image(index).save(folder / f"{index}.png")
    (folder / "broken.png").write_bytes(b"none")
    command = asked(atlas, tmp_path / "out", "--images", str(folder))
    command.remove("--quiet")
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "1 images could not be read and were skipped: broken.png" in said
    assert "3 images are too few for intervals; at least 20" in said
    card = Scorecard.load(tmp_path / "out" / "scorecard.json")
    assert all(row.interval is None for row in card.metrics)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--images", "scenes:9:9", "--metrics", "faith"), "unknown metric 'faith'; known: faith"),
        (("--images", "scenes:9:9", "--metrics", ","), "no metric to measure"),
        (("--images", "scenes:9:9", "--site", "layers.3.act"), "atlas has no site 'layers.3.act'"),
        (("--images", "scenes:9:9", "--order", "size"), "unknown order of removal 'size'"),
        (("--images", "nowhere"), "images 'nowhere' do not exist"),
        (("--images", "scenes:50", "--metrics", "truth"), "40 of the 50 images"),
        (
            ("--images", "scenes:9:9", "--model", "neuronym.models.small:cifar_resnet"),
            "the atlas was made from another model",
        ),
    ],
)
def test_wrong_input_is_one_line(atlas, tmp_path, capsys, more, message) -> None:
    assert main(asked(atlas, tmp_path / "out", *more)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("neuronym: ")
    assert message in line
    assert not (tmp_path / "out").exists()


def test_an_earlier_scorecard_outlives_a_request_that_fails(atlas, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert main(asked(atlas, out, "--images", "scenes:4:9")) == 0
    before = (out / "scorecard.json").read_bytes()
    assert main(asked(atlas, out, "--images", "nowhere", "--overwrite")) == 2
    assert (out / "scorecard.json").read_bytes() == before
