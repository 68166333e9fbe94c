"""``neuronym search``: what it prints, what it refuses, and with which status."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import neuronym.models
import neuronym.vision_text
from dissect.planted import (
    ATTRIBUTES,
    WORDS,
    PlantedVisionText,
    concepts,
    detectors,
    image_of,
    probe_set,
    transform,
)
from explain import explained_sets as explained
from neuronym.cli import main
from neuronym.dissect import DissectOptions, dissect
from neuronym.explain import explain_set
from neuronym.models import LoadedModel
from neuronym.results import Atlas
from neuronym.search import names


class Speaks(PlantedVisionText):
    """Knows one more word, in no direction of its own."""

    def embed_texts(self, texts):
        known = [text if any(word in text for word in WORDS) else WORDS[0] for text in texts]
        rows = super().embed_texts(known)
        rows[[text == "qwertz" for text in texts]] = 0.25
        return rows


def model() -> LoadedModel:
    return LoadedModel(detectors(), transform, None, "planted.models:detectors", (3, 8, 8))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "atlas"
    dissect(
        model(),
        probe_set(400),
        concepts(),
        Speaks(),
        sites="act",
        out=folder,
        options=DissectOptions(cache=False),
    )
    return folder


@pytest.fixture(autouse=True)
def _planted_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(neuronym.vision_text, "load", lambda spec: Speaks())
    monkeypatch.setattr(neuronym.models, "load", lambda spec: model())
    monkeypatch.setattr(names, "text_encoder", lambda vision_text=None: Speaks().embed_texts)


def lines(capsys, *arguments: object) -> tuple[int, str, str]:
    status = main(["search", *(str(each) for each in arguments)])
    out, err = capsys.readouterr()
    return status, out, err


def test_a_text(saved: Path, capsys) -> None:
    status, out, err = lines(capsys, "--atlas", saved, "drum")
    assert (status, err) == (0, "")
    assert "3 units for 'drum'" in out
    assert "images, same name" in out
    status, out, _ = lines(capsys, "--atlas", saved, "drum", "--json", "--top", 2)
    told = json.loads(out)
    assert (status, told["found"], len(told["units"])) == (0, 3, 2)
    assert told["units"][0]["name"] == "drum"
    assert told["units"][0]["found_by"] == "images, same name"
    assert told["units"][0]["q_value"] < 0.05
    assert (told["level"], told["specific"], told["words"]) == (0.05, 0.01, len(WORDS))
    assert told["images"] == 400
    assert 0 <= told["by_chance"] <= told["chance"] == 0.05
    status, out, _ = lines(capsys, "--atlas", saved, "drum", "--all", "--json", "--top", 9)
    told = json.loads(out)
    assert (told["found"], len(told["units"])) == (3, 9)
    status, out, _ = lines(capsys, "--atlas", saved, "drum", "--all", "--top", 4)
    assert "no match" in out
    assert "15 more; see them by --top 19" in out


def test_a_pattern_of_names(saved: Path, capsys) -> None:
    status, out, _ = lines(capsys, "--atlas", saved, "*an*", "--json")
    told = json.loads(out)
    assert status == 0
    assert {row["name"] for row in told["units"]} == {"island", "orange"}
    assert {row["found_by"] for row in told["units"]} == {"pattern name"}
    assert told["units"][0]["correlation"] is None
    status, _, err = lines(capsys, "--atlas", saved, "*zz*")
    assert (status, err) == (2, "neuronym: no unit has a name like '*zz*'\n")


def test_a_query_that_matches_nothing(saved: Path, capsys) -> None:
    status, out, err = lines(capsys, "--atlas", saved, "qwertz")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("neuronym: no unit fits 'qwertz' (of 19 units): the best is act/")
    assert "see the ranking by --all" in err
    status, out, _ = lines(capsys, "--atlas", saved, "qwertz", "--all")
    assert status == 0
    assert "0 units for 'qwertz'" in out


def test_an_image(saved: Path, capsys, tmp_path) -> None:
    values = np.zeros(ATTRIBUTES)
    values[WORDS.index("kettle")] = 1.0
    picture = tmp_path / "kettle.png"
    image_of(values).save(picture)
    status, out, _ = lines(capsys, "--atlas", saved, "--image", picture, "--image", picture)
    assert status == 0
    assert "2 of 2" in out
    status, out, _ = lines(capsys, "--atlas", saved, "--image", picture, "--json", "--top", 1)
    (row,) = json.loads(out)["units"]
    assert (row["name"], row["agree"], row["won"]) == ("kettle", 1, None)
    status, _, err = lines(capsys, "--atlas", saved, "--image", tmp_path / "none.png")
    assert status == 2
    assert "none.png' does not exist" in err


def test_likeness(saved: Path, capsys) -> None:
    drum = WORDS.index("drum")
    first = detectors().order.index(drum)
    status, out, _ = lines(capsys, "--atlas", saved, "--like", f"act/{first}", "--top", 2)
    assert status == 0
    assert f"units like act/{first} ('drum')" in out
    status, out, _ = lines(capsys, "--atlas", saved, "--like", f"act/{first}", "--json")
    assert [row["name"] for row in json.loads(out)["units"][:2]] == ["drum", "drum"]
    status, _, err = lines(capsys, "--atlas", saved, "--like", "drum")
    assert (status, "a unit is SITE/UNIT" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "search for one of TEXT, --image, --like, --class, --unit, not for nothing"),
        (["drum", "--like", "act/1"], "not for TEXT and --like"),
        (["--like", "act/³"], "a unit is SITE/UNIT"),
        (
            ["--unit", "act/1", "--explanations", "none", "--site", "act"],
            "--unit act/1 names its site; leave out --site act",
        ),
        (["--class", "cat"], "--class reads the folder of --explanations DIR"),
        (["drum", "--site", "atc"], "atlas has no site 'atc'; nearest: act"),
        (["drum", "--level", "2"], "level must be above 0 and below 1"),
        (["--class", "cat", "--explanations", "none"], "'none' does not exist"),
    ],
)
def test_bad_input(saved: Path, capsys, arguments: list[str], message: str) -> None:
    status, out, err = lines(capsys, "--atlas", saved, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_classes(capsys, tmp_path) -> None:
    net = explained.loaded(explained.net())
    atlas = explained.atlas_of(net).save(tmp_path / "atlas")
    folder = tmp_path / "explained"
    made = explain_set(net, explained.pictures(9, labelled=True), atlas=atlas, out=folder)
    asked = ("--atlas", tmp_path / "atlas", "--explanations", folder)
    name = made.class_names[made.summary["explained_classes"][0]]
    status, out, _ = lines(capsys, *asked, "--class", name, "--site", "act", "--json", "--top", 3)
    told = json.loads(out)
    carriers = made.carriers(name, "act", most=3)
    assert (status, told["title"]) == (0, f"units that carry {name!r} at act")
    assert [row["unit"] for row in told["found"]] == [each.unit for each in carriers]
    status, out, _ = lines(capsys, *asked, "--class", name)
    assert (status, f"units that carry '{name}' at act" in out) == (0, True)
    unit = carriers[0].unit
    status, out, _ = lines(capsys, *asked, "--unit", f"act/{unit}")
    assert (status, f"classes that act/{unit} drives" in out) == (0, True)
    for wrong, message in (
        (("--class", "cta"), "no class 'cta'; nearest: cat"),
        (("--unit", "act/99"), "units 0 to 15, not 99"),
    ):
        status, _, err = lines(capsys, *asked, *wrong)
        assert (status, message in err) == (2, True)
    other = replace(atlas, provenance={"model": {"fingerprint": "other"}})
    other.save(tmp_path / "other")
    status, _, err = lines(
        capsys, "--atlas", tmp_path / "other", "--explanations", folder, "--class", name
    )
    assert (status, "are of another model" in err) == (2, True)


def test_an_older_atlas(saved: Path, capsys, tmp_path) -> None:
    older = replace(Atlas.load(saved), held=None, folder=None).save(tmp_path / "older").folder
    status, _, err = lines(capsys, "--atlas", older, "drum")
    assert status == 2
    assert "made without the evidence that a search reads; dissect its model again" in err
