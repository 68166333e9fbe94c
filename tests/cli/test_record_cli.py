"""The command line of runs: record in shards, merge, name; streams; and what is refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from neuronym.cli import main
from neuronym.probes.scenes import SceneSet
from neuronym.results import Atlas

MODEL = "neuronym.models.small:scene_net"
RECORD = ("record", "--model", MODEL, "--sites", "layers.*.act", "--segment", "12", "--quiet")


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tar shards of rendered scenes."""
    folder = tmp_path_factory.mktemp("tars")
    scenes = SceneSet(40, seed=3)
    for number in range(2):
        with tarfile.open(folder / f"part-{number}.tar", "w") as archive:
            for index in range(20 * number, 20 * number + 20):
                buffer = io.BytesIO()
                scenes.image(index).save(buffer, "PNG")
                member = tarfile.TarInfo(f"{index:04d}.png")
                member.size = buffer.tell()
                archive.addfile(member, io.BytesIO(buffer.getvalue()))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    for part in ("1/2", "2/2"):
        place = str(folder / part[0])
        assert main([*RECORD, "--images", "scenes:40", "--shard", part, "--out", place]) == 0
    shards = [str(folder / "2"), str(folder / "1")]
    assert main(["merge", *shards, "--out", str(folder / "merged")]) == 0
    return folder / "merged"


def test_a_merged_run_is_named_again_and_again(run, tmp_path) -> None:
    for similarity in ("cosine", "auroc"):
        out = tmp_path / similarity
        asked = ["dissect", "--run", str(run), "--concepts", "attributes", "--quiet"]
        flags = ["--similarity", similarity, "--significance", "0", "--out", str(out)]
        assert main([*asked, *flags]) == 0
        atlas = Atlas.load(out)
        assert atlas.provenance["images"]["seen"] == 40
        assert len(atlas) == 32 + 64 + 128
        assert sum(unit.name is not None for unit in atlas) > 100
        assert all((out / image.thumbnail).is_file() for image in atlas.images.values())


def test_a_stream_is_recorded_shown_and_named(tars, tmp_path, capsys) -> None:
    images = f"stream:webdataset:{tars}/part-{{0..1}}.tar"
    assert main([*RECORD, "--images", images, "--out", str(tmp_path / "run")]) == 0
    assert "40 images" in capsys.readouterr().err
    asked = ["dissect", "--run", str(tmp_path / "run"), "--concepts", "attributes", "--quiet"]
    out = tmp_path / "atlas"
    assert main([*asked, "--similarity", "cosine", "--linear", "2", "--out", str(out)]) == 2
    assert "too few to fit a name on some and score it on others" in capsys.readouterr().err
    assert main([*asked, "--similarity", "cosine", "--out", str(out)]) == 0
    atlas = Atlas.load(out)
    assert all((out / image.thumbnail).is_file() for image in atlas.images.values())
    assert set(atlas.images) <= {f"part-{index // 20}/{index:04d}" for index in range(40)}


def test_images_that_are_gone_leave_an_atlas_without_thumbnails(tmp_path, capsys) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(12):
        SceneSet(12, seed=4).image(index).save(photos / f"{index}.png")
    assert main([*RECORD, "--images", str(photos), "--out", str(tmp_path / "run")]) == 0
    asked = ["dissect", "--run", str(tmp_path / "run"), "--concepts", "attributes", "--quiet"]
    SceneSet(1, seed=5).image(0).save(photos / "new.png")
    assert main([*asked, "--out", str(tmp_path / "changed")]) == 0
    assert "has changed since it was recorded" in capsys.readouterr().err
    for path in photos.iterdir():
        path.unlink()
    photos.rmdir()
    assert main([*asked, "--out", str(tmp_path / "gone")]) == 0
    assert "no thumbnails, because the images are not here" in capsys.readouterr().err
    assert not any(image.thumbnail for image in Atlas.load(tmp_path / "gone").images.values())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("record", "--model", MODEL, "--images", "scenes:9", "--shard", "3/2"), "shard 3/2 does"),
        (("record", "--model", MODEL, "--images", "scenes:9", "--keep", "most"), "keep must be"),
        (("record", "--model", MODEL, "--images", "scenes:9", "--sites", "block*"), "no module"),
        (("record", "--model", MODEL, "--images", "stream:zip:x"), "unknown stream 'stream:zip'"),
        (("dissect", "--run", "RUN", "--model", MODEL), "leave --model out"),
        (("dissect", "--run", "RUN", "--pooling", "max"), "leave --pooling out"),
        (("dissect", "--images", "scenes:9"), "missing --model, --sites"),
        (("dissect", "--run", "nowhere"), "run 'nowhere' does not exist"),
        (("dissect", "--run", "RUN", "--top-k", "400"), "more than the 100 top images"),
        (("dissect", "--run", "RUN", "--images", "scenes:41"), "are not those of run"),
        (("merge", "RUN", "RUN"), "shard 1/1 is given twice"),
        (("merge", "TARS"), "is not a run; give a folder made by record"),
    ],
)
def test_wrong_input_is_one_line(run, tars, tmp_path, capsys, arguments, text) -> None:
    places = {"RUN": str(run), "TARS": str(tars)}
    given = [places.get(each, each) for each in arguments]
    if given[0] == "record" and "--sites" not in given:
        given += ["--sites", "layers.*.act"]
    assert main([*given, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert text in said[-1]
    assert said[-1].startswith("neuronym: ")
    assert not (tmp_path / "out" / "manifest.json").exists()
