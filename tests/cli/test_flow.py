"""The command line at work: train, dissect, explain and report in one go, and the demonstration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from neuronym.cli import main
from neuronym.probes.scenes import SceneSet
from neuronym.results import Atlas

COLUMNS = {
    "site",
    "unit",
    "block",
    "name",
    "score",
    "p_value",
    "runner_up_names",
    "firing_rate",
    "top_images",
}


def done(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must succeed and return what it prints."""
    status = main([str(each) for each in arguments])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return captured.out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained model, its atlas and two pictures."""
    folder = tmp_path_factory.mktemp("runs")
    commands = (
        (
            f"train --model neuronym.models.small:scene_net --competitors 8 --data scenes:200 "
            f"--epochs 1 --batch-size 32 --out {folder / 'model'} --quiet"
        ),
        (
            f"dissect --model {folder / 'model'} --images scenes:60 --sites layers.2.act "
            f"--concepts attributes --similarity cosine --out {folder / 'atlas'} --quiet"
        ),
    )
    for command in commands:
        assert main(command.split()) == 0
    for index in range(2):
        SceneSet(2, seed=5).image(index).save(folder / f"{index}.png")
    return folder


def test_the_atlas_keeps_its_contract(runs: Path) -> None:
    table = pq.read_table(runs / "atlas" / "neurons.parquet")
    assert set(table.column_names) >= COLUMNS
    assert table.num_rows == 128
    assert (runs / "atlas" / "manifest.json").is_file()


def test_explain_adds_up_and_names_winners_only(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("explain", "--atlas", str(runs / "atlas"), "--image", str(runs / "0.png"))
    said = json.loads(done(capsys, *arguments, "--json", "--save", str(runs / "why.json")))
    total = sum(winner["contribution"] for winner in said["winners"])
    logit, baseline = said["target"]["logit"], said["baseline"]
    assert baseline + total + said["completeness_error"] == pytest.approx(logit, abs=1e-6)
    assert abs(said["completeness_error"]) < 1e-4
    assert sum(winner["image_winner"] for winner in said["winners"]) == 128 / 8
    assert json.loads((runs / "why.json").read_text())["winners"] == said["winners"]
    names = {unit.name for unit in Atlas.load(runs / "atlas")}
    assert {winner["name"] for winner in said["winners"]} <= names
    assert "completeness error" in done(capsys, *arguments)


def test_explain_takes_several_sites_two_classes_and_pictures(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["explain", "--atlas", str(runs / "atlas"), "--image", str(runs / "0.png")]
    (site,) = (info.name for info in Atlas.load(runs / "atlas").sites)
    one = json.loads(done(capsys, *arguments, "--json"))
    several = json.loads(
        done(capsys, *arguments, "--json", "--site", "all", "--save", str(tmp_path / "why.json"))
    )
    assert several == [one]
    assert json.loads((tmp_path / f"why.{site}.json").read_text()) == one
    best, second = (row["name"] for row in one["predictions"][:2])
    both = ("--class", best, "--against", second, "--causal", "2")
    said = json.loads(done(capsys, *arguments, *both, "--json"))
    assert said["against"]["name"] == second
    first = said["winners"][0]
    assert first["effect_silenced"] == pytest.approx(-first["contribution"], abs=1e-4)
    assert first["runner_up"]["unit"] // 8 == first["block"]
    text = done(capsys, *arguments, *both, "--top", "3", "--pictures", str(tmp_path / "seen"))
    assert f"to “{second}”" in text
    for heading in ("name", "activation", "contribution", "runner-up", "change", "place"):
        assert heading in text
    files = sorted(path.name for path in (tmp_path / "seen").iterdir())
    assert len(files) == 3 * 3 + 1
    assert str(tmp_path / "seen" / "sheet.png") in text
    assert main([*arguments, "--pictures", str(tmp_path / "seen")]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    for wrong, line in (
        (["--site", "all,nope"], "atlas has no site 'nope'"),
        (["--against", "zzz"], "the model has no class 'zzz'"),
        (["--class", best, "--against", best], "minus itself"),
    ):
        assert main([*arguments, *wrong]) == 2
        assert line in capsys.readouterr().err
    assert main(["explain", "--atlas", str(runs / "atlas"), "--image", str(runs)]) == 2
    assert "is a folder, not an image file" in capsys.readouterr().err


def test_report_shows_the_explanation(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("explain", "--atlas", str(runs / "atlas"), "--image", str(runs / "1.png"))
    done(capsys, *arguments, "--save", str(runs / "page.json"))
    printed = done(
        capsys,
        *("report", "--atlas", str(runs / "atlas"), "--out", str(runs / "report")),
        *("--explanation", str(runs / "page.json")),
    )
    page = Path(printed.strip())
    assert page == runs / "report" / "index.html"
    named = next(unit.name for unit in Atlas.load(runs / "atlas") if unit.name)
    assert named in page.read_text(encoding="utf-8")


def test_a_summary_of_something_else_is_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text('{"kind": "explanation"}')
    arguments = ("report", "--atlas", str(runs / "atlas"), "--out", str(tmp_path / "page"))
    assert main([*arguments, "--summary", str(other)]) == 2
    assert "is not a summary" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_a_report_is_kept_where_the_new_one_is_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["report", "--atlas", str(runs / "atlas"), "--out", str(tmp_path / "page")]
    page = Path(done(capsys, *arguments).strip())
    before = page.read_bytes()
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"accuracy": {"competitive": "high"}}')
    assert main([*arguments, "--summary", str(wrong), "--overwrite"]) == 2
    assert "must be a number" in capsys.readouterr().err
    assert page.read_bytes() == before
    wrong.write_text('{"accuracy": {"competitive": 0.9}}')
    done(capsys, *arguments, "--summary", str(wrong), "--overwrite")
    assert page.read_bytes() != before


def test_model_and_atlas_may_move_together(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(runs, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    image = str(tmp_path / "moved" / "0.png")
    assert "Predicted" in done(capsys, "explain", "--atlas", "moved/atlas", "--image", image)
    assert Atlas.load("moved/atlas").model_spec == "moved/atlas/../model"
    shutil.copytree(runs / "atlas", tmp_path / "alone")
    manifest = json.loads((tmp_path / "alone" / "manifest.json").read_text())
    manifest["provenance"]["model"]["spec"] = "gone"
    (tmp_path / "alone" / "manifest.json").write_text(json.dumps(manifest))
    assert main(["explain", "--atlas", "alone", "--image", image]) == 2
    line = capsys.readouterr().err
    assert "the atlas's model 'gone' cannot be loaded" in line
    assert "--model" in line
    model = str(tmp_path / "moved" / "model")
    done(capsys, "explain", "--atlas", "alone", "--image", image, "--model", model)


def test_where_it_cannot_save_it_does_not_begin(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("explain", "--atlas", str(runs / "atlas"), "--image", str(runs / "0.png"))
    assert main([*arguments, "--save", str(tmp_path / "none" / "why.json")]) == 2
    assert "--save takes a file in a folder that exists" in capsys.readouterr().err


def test_skipped_images_are_said_and_options_reach_the_similarity(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    scenes = SceneSet(12, seed=3)
    for index in range(12):
        scenes.image(index).save(folder / f"{index}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    strange = folder.as_posix().encode() + b"/caf\xe9.png"
    with open(strange, "wb") as file:
        Image.new("RGB", (64, 64), "red").save(file, "PNG")
    arguments = (
        *("dissect", "--model", str(runs / "model"), "--images", str(folder), "--quiet"),
        *("--sites", "layers.2.act", "--concepts", "attributes", "--similarity", "auroc"),
        *("--out", str(tmp_path / "atlas")),
    )
    assert main([*arguments, "--similarity-option", "min_images=four"]) == 2
    assert "NAME=NUMBER" in capsys.readouterr().err
    assert main([*arguments, "--similarity-option", "labels=1"]) == 2
    assert "it takes top_fraction, min_images" in capsys.readouterr().err
    assert main([*arguments, "--similarity-option", "min_images=4", "--no-centre"]) == 0
    assert "1 images could not be read and were skipped: broken.png" in capsys.readouterr().err
    atlas = Atlas.load(tmp_path / "atlas")
    assert atlas.provenance["similarity"]["keywords"]["min_images"] == 4
    assert atlas.provenance["similarity"]["centred"] is False
    assert any("caf\\xe9.png" in unit.top_images for unit in atlas)


def test_a_tiny_demonstration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    done(capsys, "demo", "--scenes", "200", "--epochs", "1", "--out", str(out), "--quiet")
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["accuracy"]) == {"competitive", "dense"}
    assert summary["competitors"] == 8
    assert summary["active_fraction"] == pytest.approx(1 / 8, abs=1e-3)
    units = summary["units"]
    assert units["right"] <= units["selective"] <= units["live"] <= units["all"] == 192
    assert units["selective"] > 0
    assert summary["seconds"]["total"] > 0
    atlas = Atlas.load(out / "atlas")
    assert len(atlas) == units["all"]
    assert (out / "model" / "model.safetensors").is_file()
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    assert atlas.units[0].name is None or atlas.units[0].name in page


def test_what_the_system_refuses_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object, **more: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "manifest.json"))

    monkeypatch.setattr("neuronym.results.Atlas.load", full)
    assert main(["report", "--atlas", str(tmp_path), "--out", str(tmp_path / "page")]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "No space left on device" in lines[0]
    assert "manifest.json" in lines[0]
