"""Saved results come back as they were, and nothing broken passes for whole."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuronym.errors import InputError, MissingError, UnreadableError
from neuronym.results import (
    Atlas,
    ClassScore,
    Explanation,
    Formula,
    LinearFit,
    Metric,
    Place,
    ProbeImage,
    RunnerUp,
    Scorecard,
    SiteInfo,
    Unit,
    Winner,
)

NEURONS, IMAGES, MANIFEST = "neurons.parquet", "images.parquet", "manifest.json"


def unit(site: str = "head", index: int = 0, **changes: Any) -> Unit:
    made = Unit(
        site=site,
        unit=index,
        block=index // 2,
        name="red circle",
        score=0.1 + 0.2,  # not a round number in binary
        p_value=0.01,
        runner_up_names=("red", "ball"),
        runner_up_scores=(0.25, -1e-300),
        firing_rate=0.5,
        win_rate=0.125,
        top_images=("scenes/3", "scenes/1"),
        top_activations=(2.5, 1.5),
    )
    return replace(made, **changes)


def atlas(*units: Unit) -> Atlas:
    units = units or (
        unit(),
        unit(index=1, name="Zürich 木", block=None, win_rate=None, p_value=None),
        unit("body.0", 0, name=None, score=None, top_images=(), top_activations=()),
    )
    return Atlas(
        sites=(
            SiteInfo("head", 2, 1, 2, "mean", 1, 0.5),
            SiteInfo("body.0", 1, 1, None, "max", 49),
        ),
        units=units,
        images={
            "scenes/1": ProbeImage("scenes/1", "circle", "1.jpg"),
            "scenes/3": ProbeImage("scenes/3", None, None),
        },
        provenance={"model": "pocket", "seed": 0, "similarity": {"name": "cosine"}},
    )


def explanation(**changes: Any) -> Explanation:
    classes = (ClassScore(2, "cat", 3.5, 0.75), ClassScore(0, "dog", 1.25, 0.25))
    made = Explanation(
        image="cat.jpg",
        site="head",
        target=classes[0],
        predictions=classes,
        winners=(
            Winner(3, 1, "whiskers", 0.5, 2.0, 1.5, True, 1.0, 0.2),
            Winner(0, 0, None, None, -0.5, -0.25, False),
            Winner(
                unit=9,
                block=2,
                name=None,
                score=None,
                activation=0.5,
                contribution=0.125,
                p_value=0.4,
                q_value=0.5,
                unnamed="not significant",
                candidate="fur",
                runner_up=RunnerUp(8, "paw", 0.75, 0.25, -0.5),
                effect_silenced=-0.125,
                effect_handed_over=-0.375,
                place=Place((0.0, 0.25, 0.5, 0.75), (0.25, 0.5), 0.25, 0.0625),
            ),
        ),
        baseline=2.25,
        completeness_error=1e-7,
        competitive=True,
        provenance={"atlas": "0123"},
        against=classes[1],
        grid=(2, 2),
    )
    return replace(made, **changes)


def scorecard(*metrics: Metric) -> Scorecard:
    metrics = metrics or (
        Metric("units.right", 0.8, 40, (0.7, 0.9), 3),
        Metric("units.live", 0.95, 64),
    )
    return Scorecard(metrics, {"probe": "scenes:100"})


# Atlas


def test_atlas_round_trip(tmp_path: Path) -> None:
    made = atlas()
    saved = made.save(tmp_path / "atlas")
    loaded = Atlas.load(tmp_path / "atlas")
    assert loaded == made == saved
    assert saved.folder == loaded.folder == tmp_path / "atlas"
    assert made.folder is None
    assert sorted(path.name for path in (tmp_path / "atlas").iterdir()) == [
        IMAGES,
        MANIFEST,
        NEURONS,
    ]


def test_atlas_takes_numpy_numbers(tmp_path: Path) -> None:
    made = atlas(
        unit(
            index=np.int64(0),
            score=np.float64(0.3),
            firing_rate=np.float32(0.5),
            top_activations=(np.float32(2.5), np.float32(1.5)),
        )
    )
    made = replace(made, sites=(replace(made.sites[0], active_fraction=np.float32(0.25)),))
    made.save(tmp_path)
    loaded = Atlas.load(tmp_path)
    assert loaded.units[0].top_activations == (2.5, 1.5)
    assert type(loaded.units[0].unit) is int
    assert loaded.sites[0].active_fraction == 0.25


def test_neurons_table_has_the_promised_columns(tmp_path: Path) -> None:
    atlas().save(tmp_path)
    table = pq.read_table(tmp_path / NEURONS)
    promised = {"site", "unit", "block", "name", "score", "p_value", "runner_up_names"}
    assert promised | {"firing_rate", "top_images"} <= set(table.column_names)
    assert table.num_rows == 3


def test_better_names_round_trip(tmp_path: Path) -> None:
    linear = LinearFit(("red", "ball"), (0.5, 0.25), 0.6, 0.35, "red", 0.5)
    formula = Formula("red AND NOT ball", 0.9, 0.05, "red", 0.85)
    reasons = (None, "constant", "never above zero", "not significant")
    made = atlas(
        unit(q_value=0.02, linear=linear, formula=formula),
        *(
            unit(index=n, name=None, score=None, unnamed=why, q_value=0.5)
            for n, why in enumerate(reasons)
        ),
    )
    made.save(tmp_path)
    assert Atlas.load(tmp_path) == made
    assert json.loads((tmp_path / MANIFEST).read_text())["schema"] == 2


def test_an_atlas_of_the_first_schema_still_loads(tmp_path: Path) -> None:
    made = atlas()
    made.save(tmp_path)
    table = pq.read_table(tmp_path / NEURONS)
    new = ["q_value", "unnamed", "linear", "formula"]
    pq.write_table(table.drop_columns(new), tmp_path / NEURONS)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, "schema": 1}))
    assert Atlas.load(tmp_path) == made


@pytest.mark.parametrize(
    "changes", [{"unnamed": "dull", "name": None}, {"unnamed": "constant", "name": "red"}]
)
def test_a_reason_for_no_name_is_known_and_stands_alone(changes: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unnamed='(dull|constant)'.*one of the reasons constant"):
        atlas(unit(**changes)).save(tmp_path / "atlas")
    broken = Formula("red", float("nan"), 0.1, "red", 0.5)
    with pytest.raises(InputError, match="auroc nan; it must be finite"):
        atlas(unit(formula=broken)).save(tmp_path / "atlas")


def test_atlas_of_no_units(tmp_path: Path) -> None:
    empty = Atlas((), (), {}, {})
    empty.save(tmp_path)
    assert Atlas.load(tmp_path) == empty
    assert len(empty) == 0


def test_atlas_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        atlas().units = ()  # type: ignore[misc]


def test_atlas_lookups() -> None:
    made = atlas()
    assert len(made) == 3
    assert [item.key for item in made] == ["head/0", "head/1", "body.0/0"]
    assert made.site("head").units == 2
    assert [item.unit for item in made.of_site("head")] == [0, 1]
    assert made.unit("head", 1).name == "Zürich 木"
    with pytest.raises(InputError, match=r"atlas has no site 'haed'; nearest: head"):
        made.of_site("haed")
    for index in (2, -1):
        with pytest.raises(InputError, match=rf"site 'head' has units 0 to 1, not {index}"):
            made.unit("head", index)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf")])
@pytest.mark.parametrize("name", ["score", "p_value", "firing_rate", "win_rate"])
def test_atlas_refuses_numbers_that_are_not_finite(name: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"unit 'head/0' has the {name} -?(nan|inf); it must be"):
        atlas(unit(**{name: value})).save(tmp_path / "atlas")
    with pytest.raises(InputError, match="top_activations nan"):
        atlas(unit(top_activations=(1.0, float("nan")))).save(tmp_path / "atlas")
    assert not (tmp_path / "atlas").exists()


def test_unfinished_atlas_is_refused(tmp_path: Path) -> None:
    atlas().save(tmp_path)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(UnreadableError, match="is not a finished atlas folder"):
        Atlas.load(tmp_path)


def test_a_save_that_fails_does_not_leave_the_old_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atlas().save(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="disk full"):
        atlas(unit(name="another")).save(tmp_path)
    with pytest.raises(UnreadableError, match="is not a finished atlas folder"):
        Atlas.load(tmp_path)


@pytest.mark.parametrize("name", [NEURONS, IMAGES])
@pytest.mark.parametrize("damage", ["empty", "text", "head", "tail"])
def test_broken_table(name: str, damage: str, tmp_path: Path) -> None:
    atlas().save(tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"site,unit\nhead,0\n",
            "head": content[: len(content) // 2],
            "tail": content[: len(content) // 2] + b"\x00" * 40 + content[-8:],
        }[damage]
    )
    with pytest.raises(UnreadableError, match=rf"{name}' is not a readable table: ") as raised:
        Atlas.load(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", [NEURONS, IMAGES])
def test_missing_table(name: str, tmp_path: Path) -> None:
    atlas().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(MissingError, match=rf"{name}' does not exist"):
        Atlas.load(tmp_path)


def test_table_of_other_columns(tmp_path: Path) -> None:
    atlas().save(tmp_path)
    pq.write_table(pa.table({"colour": ["red"]}), tmp_path / NEURONS)
    with pytest.raises(UnreadableError, match="is not a whole atlas"):
        Atlas.load(tmp_path)


@pytest.mark.parametrize("field", ["sites", "provenance"])
def test_manifest_that_lacks_a_field(field: str, tmp_path: Path) -> None:
    atlas().save(tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    del manifest[field]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UnreadableError, match=rf"is not a whole atlas: '{field}'"):
        Atlas.load(tmp_path)


def test_newer_atlas(tmp_path: Path) -> None:
    atlas().save(tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(UnreadableError, match=r"schema 99 of 'atlas'; .*update neuronym"):
        Atlas.load(tmp_path)


def test_folder_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text('{"kind": "model", "schema": 1}')
    with pytest.raises(UnreadableError, match="holds 'model', not 'atlas'"):
        Atlas.load(tmp_path)
    with pytest.raises(MissingError, match=r"atlas folder .* does not exist"):
        Atlas.load(tmp_path / "none")


# Explanation and scorecard: one JSON file each


def test_explanation_round_trip(tmp_path: Path) -> None:
    made = explanation()
    made.save(tmp_path / "why.json")
    assert Explanation.load(tmp_path / "why.json") == made
    assert json.loads((tmp_path / "why.json").read_text())["kind"] == "explanation"
    assert made.to_dict()["winners"][0]["name"] == "whiskers"


def test_explanations_of_older_schemas_are_read(tmp_path: Path) -> None:
    data = explanation().to_dict() | {"schema": 2}
    for name in ("against", "grid", "no_map"):
        del data[name]
    newer = ("p_value", "q_value", "unnamed", "candidate", "runner_up", "place")
    for winner in data["winners"]:
        for name in (*newer, "effect_silenced", "effect_handed_over"):
            del winner[name]
    (tmp_path / "why.json").write_text(json.dumps(data))
    loaded = Explanation.load(tmp_path / "why.json")
    assert loaded.against is None
    assert loaded.explained == 3.5
    assert all(winner.runner_up is None and winner.place is None for winner in loaded.winners)
    assert [winner.name for winner in loaded.winners] == ["whiskers", None, None]


def test_an_atlas_finds_the_units_of_a_site_without_a_scan() -> None:
    made = atlas()
    assert made.of_site("head") is made.of_site("head")
    assert [unit.key for unit in made.of_site("body.0")] == ["body.0/0"]
    assert replace(made, units=made.units[:2]).of_site("body.0") == ()


def test_explanation_written_before_image_winners_were_kept(tmp_path: Path) -> None:
    data = explanation().to_dict()
    for winner in data["winners"]:
        del winner["image_winner"]
    (tmp_path / "why.json").write_text(json.dumps(data))
    loaded = Explanation.load(tmp_path / "why.json")
    assert all(winner.image_winner for winner in loaded.winners)


def test_scorecard_round_trip(tmp_path: Path) -> None:
    made = scorecard()
    made.save(tmp_path / "scorecard.json")
    loaded = Scorecard.load(tmp_path / "scorecard.json")
    assert loaded == made
    assert loaded["units.right"].interval == (0.7, 0.9)
    assert loaded["units.live"].interval is None
    with pytest.raises(InputError, match=r"no metric 'units.rigth'; nearest: units.right"):
        loaded["units.rigth"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_results_refuse_numbers_that_are_not_finite(value: float, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    scorecard().save(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="cannot write"):
        scorecard(Metric("units.right", value, 3)).save(path)
    with pytest.raises(InputError, match="cannot write"):
        explanation(completeness_error=value).save(path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("kind", [Explanation, Scorecard])
def test_json_results_that_are_something_else(
    kind: type[Explanation] | type[Scorecard], tmp_path: Path
) -> None:
    name = kind.__name__.lower()
    path = tmp_path / "x.json"
    with pytest.raises(MissingError, match=rf"{name} '.*x.json' does not exist"):
        kind.load(path)
    path.write_text("{")
    with pytest.raises(UnreadableError, match=rf"{name} '.*' is not JSON"):
        kind.load(path)
    path.write_text('{"kind": "atlas"}')
    with pytest.raises(UnreadableError, match=rf"holds 'atlas', not '{name}'"):
        kind.load(path)
    path.write_text(json.dumps({"kind": name, "schema": 99}))
    with pytest.raises(UnreadableError, match=rf"schema 99 of '{name}'; .*update neuronym"):
        kind.load(path)
    path.write_text(json.dumps({"kind": name, "schema": 1, "winners": [], "target": {"x": 1}}))
    with pytest.raises(UnreadableError, match=f"is not a whole {name}"):
        kind.load(path)
