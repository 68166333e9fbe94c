"""Explanations of a data set: the tables, their classes, and going on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from explained_sets import CLASSES, SITES, Broken, atlas_of, loaded, net, pictures

from neuronym.errors import FolderInUseError, InputError, MissingError, UnreadableError
from neuronym.explain import ExplainSetOptions, contribution_batches, explain, explain_set
from neuronym.explain.stream import ContributionBatch
from neuronym.explain.tables import Names, Rows, image_table, ranked
from neuronym.models import LoadedModel
from neuronym.probes import ProbeSet, from_images, load, pieces_of
from neuronym.results import ExplanationSet, SiteInfo

COUNT = 14
OPTIONS = ExplainSetOptions(part=5, batch_size=4, workers=0)


def explained(
    out: Path,
    *,
    images: ProbeSet | None = None,
    model: LoadedModel | None = None,
    sites: str | None = "*",
    targets: str | int = "predicted",
    options: ExplainSetOptions = OPTIONS,
) -> ExplanationSet:
    model = loaded(net()) if model is None else model
    return explain_set(
        model,
        pictures(COUNT, labelled=True) if images is None else images,
        atlas=atlas_of(model),
        out=out,
        sites=sites,
        targets=targets,
        options=options,
    )


def winners_of(found: ExplanationSet) -> list[dict[str, object]]:
    return [row for batch in found.winners() for row in batch.to_pylist()]


def same_tables(first: Path, second: Path) -> None:
    """The two folders hold the same files, byte by byte (but for the lock and the marker)."""
    names = sorted(
        path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file()
    )
    others = sorted(path.relative_to(second).as_posix() for path in second.rglob("*.*"))
    assert "images.parquet" in names
    assert [name for name in names if name.endswith(".parquet")] == [
        name for name in others if name.endswith(".parquet")
    ]
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.mark.parametrize("targets", ["predicted", "label", "ship", 0])
def test_the_tables_hold_what_each_image_is_explained_by_alone(
    tmp_path: Path, targets: str | int
) -> None:
    model, probes = loaded(net()), pictures(COUNT, labelled=True)
    found = explained(tmp_path / "out", model=model, images=probes, targets=targets)
    assert len(found) == COUNT
    assert [path.name for path in sorted((tmp_path / "out" / "winners").iterdir())] == [
        f"part-0000{number}.parquet" for number in range(3)
    ]
    rows, atlas = winners_of(found), atlas_of(model)
    about = {(row["image"], row["site"]): row for row in found.images.to_pylist()}
    assert len(about) == len(found.images) == COUNT * len(SITES)
    for key in range(COUNT):
        label = CLASSES[key % 3]
        target = {"predicted": None, "label": label}.get(str(targets), targets)
        for site in SITES:
            alone = explain(model, probes.image(key), atlas=atlas, site=site.name, target=target)
            row = about[probes.ids[key], site.name]
            assert row["key"] == key
            assert (row["label"], row["label_index"]) == (label, key % 3)
            assert row["predicted"] == alone.predictions[0].name
            assert row["right"] == (alone.predictions[0].name == label)
            assert (row["target"], row["target_index"]) == (alone.target.name, alone.target.index)
            assert row["logit"] == pytest.approx(alone.target.logit, abs=1e-6)
            assert row["probability"] == pytest.approx(alone.target.probability, abs=1e-6)
            assert row["baseline"] == pytest.approx(alone.baseline, abs=1e-6)
            assert row["completeness_error"] == pytest.approx(alone.completeness_error, abs=2e-6)
            assert row["winners"] == len(alone.winners)
            assert row["rest"] == 0
            listed = [
                each
                for each in rows
                if (each["image"], each["site"]) == (probes.ids[key], site.name)
            ]
            assert [each["rank"] for each in listed] == list(range(1, len(alone.winners) + 1))
            by_unit = {winner.unit: winner for winner in alone.winners}
            for each in listed:
                winner = by_unit.pop(each["unit"])
                assert each["contribution"] == pytest.approx(winner.contribution, abs=1e-6)
                assert each["activation"] == pytest.approx(winner.activation, rel=1e-5, abs=1e-5)
                assert (each["name"], each["block"]) == (winner.name, winner.block)
                assert (each["image_winner"], each["win_rate"]) == (
                    winner.image_winner,
                    winner.win_rate,
                )
            assert not by_unit
            sizes = [abs(each["contribution"]) for each in listed]
            assert sizes == sorted(sizes, reverse=True)


def test_the_rest_makes_the_sum_whole(tmp_path: Path) -> None:
    whole = explained(tmp_path / "whole")
    few = explained(tmp_path / "few", options=replace(OPTIONS, most=3))
    every, listed = winners_of(whole), winners_of(few)
    assert listed == [row for row in every if row["rank"] <= 3]
    for row in few.images.to_pylist():
        here = [
            each["contribution"]
            for each in listed
            if (each["image"], each["site"]) == (row["image"], row["site"])
        ]
        assert len(here) == 3
        assert row["winners"] > 3
        assert abs(row["rest"]) > 1e-6
        total = row["baseline"] + sum(here) + row["rest"] + row["completeness_error"]
        assert total == pytest.approx(row["logit"], abs=1e-12)
    assert classes_of(few) == classes_of(whole)  # the classes are over all units


def classes_of(found: ExplanationSet) -> list[dict[str, object]]:
    return pq.read_table(found.folder / "classes.parquet").to_pylist()


@pytest.mark.parametrize("targets", ["predicted", "label", "dog"])
def test_classes_are_the_literal_means(tmp_path: Path, targets: str) -> None:
    model = loaded(net())
    found = explained(tmp_path / "out", model=model, targets=targets)
    parts = list(
        contribution_batches(model, pictures(COUNT, labelled=True), SITES, targets=targets)
    )
    target = np.concatenate([part.targets for part in parts])
    rows = {(row["site"], row["class_index"], row["unit"]): row for row in classes_of(found)}
    assert len(rows) == len(set(target.tolist())) * sum(site.units for site in SITES)
    for site in SITES:
        values = np.concatenate([part.sites[site.name].contributions for part in parts])
        won = np.concatenate([part.sites[site.name].won for part in parts])
        for index in set(target.tolist()):
            here, where = values[target == index], won[target == index]
            positive = np.maximum(here, 0).sum()
            for unit in range(site.units):
                row = rows[site.name, index, unit]
                assert row["class"] == CLASSES[index]
                assert row["images"] == len(here)
                assert row["mean"] == pytest.approx(here[:, unit].mean(), abs=1e-6)
                assert row["wins"] == where[:, unit].mean()
                share = np.maximum(here[:, unit], 0).sum() / positive
                assert row["share"] == pytest.approx(share, abs=1e-6)
                if len(here) > 1:
                    assert row["spread"] == pytest.approx(here[:, unit].std(ddof=1), abs=1e-6)
                else:
                    assert row["spread"] is None


def test_questions_to_the_set(tmp_path: Path) -> None:
    found = explained(tmp_path / "out", targets="label")
    assert ExplanationSet.load(tmp_path / "out") == found
    classes = classes_of(found)
    carriers = found.carriers("SHIP", site="act", most=4)
    means = sorted(
        (row["mean"] for row in classes if (row["class"], row["site"]) == ("ship", "act")),
        reverse=True,
    )
    assert [each.mean for each in carriers] == means[:4]
    assert found.carriers(2, most=None) == found.carriers("ship", site="relu", most=None)
    assert len(found.carriers(2, most=None)) == SITES[1].units
    driven = found.drives("act", 7)
    assert sorted(each.class_name for each in driven) == sorted(CLASSES)
    assert [each.mean for each in driven] == sorted((each.mean for each in driven), reverse=True)
    assert driven[0].name == "name 7"
    assert driven[0].block == 1
    few = [batch.schema.names for batch in found.winners(columns=["unit", "rank"], site="relu")]
    assert few == [["unit", "rank"]] * len(few)
    with pytest.raises(InputError, match="no class 'shp'; nearest: ship"):
        found.carriers("shp")
    with pytest.raises(InputError, match="no class 7; known: 0, 1, 2"):
        found.carriers(7)
    with pytest.raises(InputError, match="no site 'rel'; nearest: relu"):
        found.carriers("ship", site="rel")
    with pytest.raises(InputError, match="'act' has units 0 to 15, not 16"):
        found.decided_by("act", 16)
    with pytest.raises(InputError, match="no column 'ranks'; nearest: rank"):
        next(found.winners(columns=["ranks"]))
    with pytest.raises(InputError, match="most must be at least 1"):
        found.drives("act", 1, most=0)


def test_a_unit_decides_where_it_supports_the_class_most(tmp_path: Path) -> None:
    """The largest contribution by size may speak against; the largest support may be unlisted."""
    whole = explained(tmp_path / "whole", targets="label")
    few = explained(tmp_path / "few", targets="label", options=replace(OPTIONS, most=1))
    rows = winners_of(whole)
    strongest: dict[tuple[object, object], tuple[float, object]] = {}
    for row in rows:
        key, found = (row["site"], row["image"]), (float(str(row["contribution"])), row["unit"])
        if found[0] > 0:
            strongest[key] = max(strongest.get(key, found), found, key=lambda each: each[0])
    assert len(strongest) == COUNT * len(SITES)
    assert any(row["rank"] == 1 and float(str(row["contribution"])) < 0 for row in rows)
    for made in (whole, few):
        for site in SITES:
            decided = {
                image: unit
                for unit in range(site.units)
                for image in made.decided_by(site.name, unit)
            }
            assert decided == {
                image: unit for (name, image), (_, unit) in strongest.items() if name == site.name
            }
    of_few = {(row["site"], row["unit"], row["image"]) for row in winners_of(few)}
    listed = [(site, unit, image) in of_few for (site, image), (_, unit) in strongest.items()]
    assert not all(listed)


def test_where_nothing_supports_nothing_decides() -> None:
    model = loaded(net())
    (batch,) = contribution_batches(model, pictures(2), SITES[:1], batch_size=2)
    found = batch.sites["act"]
    made = replace(found, contributions=-np.abs(found.contributions))
    batch = replace(batch, sites={"act": made})
    names = Names(CLASSES, {"act": ("unit",) * 16})
    table = image_table(batch, SITES[0], ranked(made, None), names)
    assert table["decided_by"].to_pylist() == [None, None]


def test_a_class_that_was_not_explained(tmp_path: Path) -> None:
    found = explained(tmp_path / "out", targets="dog")
    with pytest.raises(InputError, match=r"no image was explained for the class 'cat'.*: dog"):
        found.carriers("cat")


def test_the_summary(tmp_path: Path) -> None:
    found = explained(tmp_path / "out")
    once = [row for row in found.images.to_pylist() if row["site"] == "act"]
    summary = found.summary
    assert summary["images"] == summary["labelled"] == COUNT
    assert summary["skipped"] == 0
    assert summary["accuracy"] == sum(row["right"] for row in once) / COUNT
    for each in summary["accuracy_per_class"]:
        here = [row["right"] for row in once if row["label"] == each["class"]]
        assert (each["images"], each["accuracy"]) == (len(here), sum(here) / len(here))
    for site in SITES:
        errors = [
            abs(row["completeness_error"])
            for row in found.images.to_pylist()
            if row["site"] == site.name
        ]
        assert abs(summary["completeness_error"][site.name]["largest"]) == max(errors)
    assert summary["explained_classes"] == sorted({row["target_index"] for row in once})
    assert found.provenance["model"]["spec"] == "toy"


def test_labels_may_be_missing(tmp_path: Path) -> None:
    found = explained(tmp_path / "out", images=pictures(3), sites=None)
    assert [site.name for site in found.sites] == ["act"]  # the last competitive site
    assert found.images["label"].null_count == found.images["right"].null_count == 3
    assert found.summary["accuracy"] is None
    assert found.summary["accuracy_per_class"] == []
    with pytest.raises(InputError, match="needs images with labels"):
        explained(tmp_path / "no", images=pictures(3), targets="label")
    assert not (tmp_path / "no").exists()


def test_broken_images_are_listed(tmp_path: Path) -> None:
    probes = Broken(pictures(12), {1, 5, 6, 7, 8, 9})  # the second part has no image at all
    found = explained(tmp_path / "out", images=probes)
    assert len(found) == 6
    assert found.summary["skipped"] == 6
    assert found.images.filter(pa.compute.equal(found.images["site"], "act"))[
        "key"
    ].to_pylist() == [0, 2, 3, 4, 10, 11]
    skipped = pq.read_table(tmp_path / "out" / "skipped.parquet").to_pylist()
    assert [row["key"] for row in skipped] == [1, 5, 6, 7, 8, 9]
    assert "is truncated" in skipped[0]["reason"]
    with pytest.raises(InputError, match="every one of the 3 images is broken"):
        explained(tmp_path / "none", images=Broken(pictures(3), {0, 1, 2}))
    with pytest.raises(UnreadableError, match="not a finished"):
        ExplanationSet.load(tmp_path / "none")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
import torch
torch.set_num_threads(1)
from dataclasses import replace
from test_explain_many import OPTIONS, explained

def progress(done, total, note):
    if done >= int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

explained(Path(sys.argv[1]), options=replace(OPTIONS, progress=progress))
"""


def test_after_a_kill_it_goes_on_and_ends_as_if_undisturbed(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        explained(tmp_path / "whole")
        here = Path(__file__).parent
        killed = subprocess.run(  # after the first batch of the second part
            [sys.executable, "-c", KILLED, tmp_path / "out", "9", here, here.parent],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        with pytest.raises(UnreadableError, match="not a finished"):
            ExplanationSet.load(tmp_path / "out")
        assert list((tmp_path / "out" / "winners").glob(".*"))  # half-written
        said: list[tuple[int, int | None, str]] = []
        options = replace(OPTIONS, progress=lambda *each: said.append(each))
        explained(tmp_path / "out", options=options)
    finally:
        torch.set_num_threads(threads)
    assert said[0] == (5, COUNT, "found")
    assert said[-1] == (COUNT, COUNT, "")
    assert sum(note == "found" for _, _, note in said) == 1
    same_tables(tmp_path / "whole", tmp_path / "out")


class Stopped(Exception):
    pass


def stop_at(images: int) -> ExplainSetOptions:
    def progress(done: int, total: int | None, note: str) -> None:
        if done >= images and not note:
            raise Stopped

    return replace(OPTIONS, progress=progress)


@pytest.mark.parametrize(
    "lost",
    [
        "winners/part-00000.parquet",
        "parts/images-00001.parquet",
        "parts/sums-00001.npz",
        "parts/00000.json",
        "parts/00001.json",
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_what_was_damaged_between_is_computed_again(tmp_path: Path, lost: str, cut: bool) -> None:
    explained(tmp_path / "whole")
    with pytest.raises(Stopped):
        explained(tmp_path / "out", options=stop_at(12))
    path = tmp_path / "out" / lost
    path.write_bytes(path.read_bytes()[:-7]) if cut else path.unlink()
    explained(tmp_path / "out")
    same_tables(tmp_path / "whole", tmp_path / "out")


def test_a_finished_folder_is_only_read(tmp_path: Path) -> None:
    explained(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    assert len(explained(tmp_path / "out", options=stop_at(0))) == COUNT
    assert before == {path: path.stat().st_mtime_ns for path in before}
    path = tmp_path / "out" / "winners" / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UnreadableError, match=r"part-00001.*damaged; repeat .* --overwrite"):
        explained(tmp_path / "out")
    with pytest.raises(UnreadableError, match="damaged"):
        winners_of(ExplanationSet.load(tmp_path / "out"))
    path.unlink()
    explained(tmp_path / "out", options=replace(OPTIONS, overwrite=True))
    assert path.is_file()
    (tmp_path / "out" / "classes.parquet").unlink()
    with pytest.raises(MissingError, match=r"have no classes.parquet"):
        ExplanationSet.load(tmp_path / "out")


def test_another_request_in_the_same_folder_is_refused_by_its_fields(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        explained(tmp_path / "out", options=stop_at(9))
    for change, field in (
        ({"targets": "label"}, "targets is 'predicted', not 'label'"),
        ({"images": pictures(9, labelled=True)}, "number_of_images is 14, not 9"),
        ({"sites": "act"}, r"sites\.relu\.units is 12, not None"),
        ({"options": replace(OPTIONS, most=7)}, "most is 50, not 7"),
        ({"options": replace(OPTIONS, part=7)}, "part is 5, not 7"),
        ({"model": loaded(net(), names=("cat", "dog", "bird"))}, "classes is "),
    ):
        with pytest.raises(InputError, match=f"of something else.*{field}.*--overwrite"):
            explained(tmp_path / "out", **change)  # type: ignore[arg-type]
    other = net()
    with torch.no_grad():
        other.head.bias.add_(1)
    with pytest.raises(InputError, match="model is "):
        explained(tmp_path / "out", model=loaded(other))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(FolderInUseError, match="not a neuronym run"):
        explained(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_an_atlas_of_other_weights_is_refused(tmp_path: Path) -> None:
    other = net()
    with torch.no_grad():
        other.head.bias.add_(1)
    with pytest.raises(InputError, match="the atlas was made from another model"):
        explain_set(loaded(net()), pictures(2), atlas=atlas_of(loaded(other)), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_requests(tmp_path: Path) -> None:
    for change, message in (
        ({"sites": "actt"}, "no site 'actt'; nearest: act"),
        ({"sites": ","}, "no site in ','; the atlas has act, relu"),
        ({"targets": "shp"}, "no class 'shp'; nearest: ship"),
    ):
        with pytest.raises(InputError, match=message):
            explained(tmp_path / "out", **change)  # type: ignore[arg-type]
    for name in ("most", "limit", "part", "batch_size"):
        with pytest.raises(InputError, match=f"{name} must be at least 1, not 0"):
            ExplainSetOptions(**{name: 0})
    with pytest.raises(InputError, match="is read in pieces"):
        explain_set(
            loaded(net()),
            pieces_of(pictures(4), length=2),
            atlas=atlas_of(loaded(net())),
            out=tmp_path / "out",
            options=ExplainSetOptions(limit=2),
        )


def test_pieces_and_limits(tmp_path: Path) -> None:
    model = loaded(net())
    pieces = pieces_of(pictures(9, labelled=True), length=5)
    cut = explain_set(
        model,
        pieces,
        atlas=atlas_of(model),
        out=tmp_path / "cut",
        options=replace(OPTIONS, part=99),
    )
    first = explained(
        tmp_path / "first",
        model=model,
        images=pictures(COUNT, labelled=True),
        sites=None,
        options=replace(OPTIONS, limit=9),
    )
    assert len(cut) == len(first) == 9
    assert cut.images.equals(first.images)


def test_classes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    model = loaded(net(), names=("crane", "dog", "crane"))
    found = explained(tmp_path / "out", model=model, images=pictures(COUNT), targets=2)
    assert {row["class_index"] for row in classes_of(found)} == {2}
    several = explained(tmp_path / "two", model=model, images=pictures(COUNT))
    assert several.class_names[0] == several.class_names[2] == "crane"
    with pytest.raises(InputError, match=r"several classes are called 'crane'; give an index"):
        several.carriers("crane")
    assert several.carriers(0)


def test_a_model_without_names(tmp_path: Path) -> None:
    found = explained(tmp_path / "out", model=loaded(net(), names=None), targets="label")
    assert found.carriers("class 1")[0].class_index == 1
    assert set(found.images["label"].to_pylist()) == {"class 0", "class 1", "class 2"}


def test_no_row_is_held_for_longer_than_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither batches nor tables gather: what is alive does not depend on the images."""
    most = {}
    add = Rows.add
    held: list[tuple[int, int]] = []
    alive: weakref.WeakSet[ContributionBatch] = weakref.WeakSet()

    def made(*given: Any, **named: Any) -> ContributionBatch:
        batch = ContributionBatch(*given, **named)
        alive.add(batch)
        return batch

    def watched(rows: Rows, table: object) -> None:
        add(rows, table)
        held.append((rows._waiting, len(alive)))

    monkeypatch.setattr(Rows, "add", watched)
    monkeypatch.setattr("neuronym.explain.stream.ContributionBatch", made)
    monkeypatch.setattr("neuronym.explain.tables._ROWS", 64)
    for count in (8, 32):
        held.clear()
        explained(
            tmp_path / str(count),
            images=pictures(count),
            options=replace(OPTIONS, part=8, batch_size=2),
        )
        most[count] = max(waiting for waiting, _ in held), max(alive for _, alive in held)
    assert most[8] == most[32]
    assert most[8][0] < 64
    assert 1 <= most[8][1] <= 2


@pytest.mark.shared_data
def test_real_photos(tmp_path: Path, shared_data: Path) -> None:
    model = loaded(net(), names=("cat", "dog", "ship"))
    found = explained(
        tmp_path / "out",
        model=model,
        images=load(shared_data / "cifar10-test.parquet"),
        options=ExplainSetOptions(limit=120, part=50, most=5),
    )
    assert len(found) == 120
    labels = found.images.filter(pa.compute.equal(found.images["site"], "relu"))["label"]
    known = [label for label in labels.to_pylist() if label is not None]
    assert set(known) == {"cat", "dog", "ship"}  # the other names are no class of this model
    assert found.summary["labelled"] == len(known)
    assert abs(found.summary["completeness_error"]["relu"]["largest"]) < 1e-4
    assert max(row["rank"] for row in winners_of(found)) == 5
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert len([name for name in manifest["files"] if name.startswith("winners/")]) == 3


def test_a_dense_site_lists_what_fired(tmp_path: Path) -> None:
    found = explained(tmp_path / "out", sites="relu")
    rows = winners_of(found)
    assert all(row["activation"] > 0 for row in rows)
    assert all(row["block"] is None and row["win_rate"] is None for row in rows)
    assert [site.name for site in found.sites] == ["relu"]


def test_images_in_memory_and_a_site_alone(tmp_path: Path) -> None:
    images = [pictures(3).image(at) for at in range(3)]
    model = loaded(net())
    site = SiteInfo("act", 16, 1, 4, "token:3", 64)
    found = explain_set(
        model, from_images(images), atlas=atlas_of(model, [site]), out=tmp_path / "out"
    )
    chosen = [row for row in winners_of(found) if row["image_winner"]]
    assert len(chosen) == 3 * 4  # one per block
