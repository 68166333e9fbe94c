"""Runs: shards in any order, kills at any moment, damaged chunks, full disks, other models."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dissect.planted import PlantedVisionText, concepts, probe_set, transform
from dissect.record_planted import BATCH, BROKEN, SEGMENT, images, network, recorded
from neuronym.concepts import from_words
from neuronym.dissect import DissectOptions, RecordingOptions, dissect, name_run, record_run
from neuronym.dissect.evidence import rows_of
from neuronym.dissect.naming import label_masks
from neuronym.dissect.null_cosine import cosine_p_values, profiles_of_moments
from neuronym.errors import FolderInUseError, InputError, MissingError, UnreadableError
from neuronym.lwta import convert
from neuronym.models import LoadedModel, Preprocessing
from neuronym.probes import load
from neuronym.record.runs import Run, Shard, merge_runs, parse_shard
from neuronym.similarity import SIMILARITIES

SCRIPT = Path(__file__).parent / "record_planted.py"
COUNT = 150
TOLERANCE = 1e-9


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute as the processes that the tests start do: rounding depends on the threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    return recorded(tmp_path_factory.mktemp("whole") / "run", COUNT, keep="all")


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> list[Path]:
    base = tmp_path_factory.mktemp("shards")
    places = [base / f"part{index}" for index in range(1, 5)]
    for index, place in enumerate(places, 1):
        recorded(place, COUNT, keep="all", shard=Shard(index, 4))
    return places


def arrays_of(run: Run) -> dict[str, np.ndarray]:
    return dict(run.sketches.arrays())


def assert_same(found: Run, wanted: Run, *, exactly: bool) -> None:
    """Compare every number of two runs."""
    ours, theirs = arrays_of(found), arrays_of(wanted)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        if exactly or array.dtype != np.float64:
            np.testing.assert_array_equal(array, theirs[name], err_msg=name)
        else:
            np.testing.assert_allclose(array, theirs[name], rtol=TOLERANCE, err_msg=name)
    np.testing.assert_array_equal(found.keys(), wanted.keys())
    np.testing.assert_array_equal(found.embeddings(), wanted.embeddings())
    assert found.ids(found.keys()) == wanted.ids(wanted.keys())
    assert found.skipped == wanted.skipped
    for site in wanted.sites:
        np.testing.assert_array_equal(found.activations(site.name), wanted.activations(site.name))


def test_a_run_holds_what_the_model_did(whole) -> None:
    probes = images(COUNT)
    readable = [place for place in range(COUNT) if place not in BROKEN]
    module = network().eval()
    inputs = torch.stack([transform(probes.image(place)) for place in readable])
    with torch.no_grad():
        expected = module.detect(module.flat(module.cells(inputs))).numpy()
    embeddings = PlantedVisionText().embed_images([probes.image(place) for place in readable])
    np.testing.assert_allclose(whole.activations("detect"), expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(whole.keys(), readable)
    np.testing.assert_array_equal(whole.embeddings(), embeddings)
    assert [each.index for each in whole.skipped] == list(BROKEN)
    sketch = whole.sketch("detect")
    exact = whole.activations("detect").astype(np.float64)
    np.testing.assert_allclose(sketch.products, exact.T @ embeddings.astype(np.float64), rtol=1e-9)
    np.testing.assert_allclose(sketch.squares, (exact**2).sum(0), rtol=1e-12)
    assert sketch.images == len(readable) == len(whole)
    competing = whole.sketch("act")
    assert competing.won is not None
    assert int(competing.won.sum()) == len(readable) * 20 // 4


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_four_shards_in_any_order_are_one_run(whole, shards, tmp_path, order) -> None:
    merged = merge_runs([shards[each] for each in order], tmp_path / "merged")
    assert_same(merged, whole, exactly=False)


def test_a_merged_run_stands_alone(whole, shards, tmp_path) -> None:
    copies = [shutil.copytree(place, tmp_path / place.name) for place in shards]
    merge_runs(copies, tmp_path / "merged")
    for place in copies:
        shutil.rmtree(place)
    assert_same(Run(tmp_path / "merged"), whole, exactly=False)


def start(out: Path, **options: str) -> subprocess.Popen[bytes]:
    flags = [text for name, value in options.items() for text in (f"--{name}", value)]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(out), str(COUNT), *flags],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def batches_kept(out: Path) -> int:
    """Count the batches that a kill would not lose; a segment takes its journal's place."""
    for _ in range(50):
        with contextlib.suppress(FileNotFoundError):  # removed while we look
            whole = [path for path in (out / "segments").glob("*") if path.name.isdigit()]
            journals = list((out / "segments").glob("*.journal/*.npz"))
            done = {path.name for path in whole}
            return SEGMENT // BATCH * len(done) + sum(
                path.parent.stem not in done for path in journals
            )
    raise AssertionError("the folder does not come to rest")


def test_killed_again_and_again_it_ends_the_same(whole, tmp_path) -> None:
    out = tmp_path / "killed"
    moments = random.Random(0)
    kept, kills = 0, 0
    for target in (1, 3, 6, 9, 13):
        process = start(out, pause="0.15")
        deadline = time.monotonic() + 120
        while batches_kept(out) < target and process.poll() is None:
            assert time.monotonic() < deadline, "the recording does not get on"
            time.sleep(0.005)
        time.sleep(moments.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        assert batches_kept(out) >= max(kept, target)
        kept = batches_kept(out)
        with pytest.raises(UnreadableError, match="not a finished run"):
            Run(out)
    assert kills == 5
    process = start(out)
    assert process.wait() == 0
    assert_same(Run(out), whole, exactly=True)
    assert not (out / "segments").exists()


def test_two_processes_are_one_run(whole, tmp_path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    out = tmp_path / "together"
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(out), str(COUNT)],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "WORLD_SIZE": "2",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "ACCELERATE_USE_CPU": "true",
            },
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
    assert_same(Run(out), whole, exactly=False)
    assert not (out / ".processes").exists()


def test_a_finished_run_is_kept_and_a_damaged_segment_recorded_again(tmp_path) -> None:
    run = recorded(tmp_path / "run", COUNT, keep="all")
    before = arrays_of(run)
    activations = run.activations("detect")
    chunk = next(path for path in (run.folder / "data" / "00000001").rglob("0.0"))
    stamp = (run.folder / "data" / "00000000" / "store.json").stat().st_ino
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 255
    chunk.write_bytes(bytes(data))
    with pytest.raises(UnreadableError, match=r"chunk .* of array .* is damaged"):
        Run(run.folder).activations("detect")
    seen: list[str] = []
    again = recorded(
        run.folder, COUNT, keep="all", progress=lambda done, total, note: seen.append(note)
    )
    assert "found" in seen
    np.testing.assert_array_equal(again.activations("detect"), activations)
    for name, array in arrays_of(again).items():
        np.testing.assert_array_equal(array, before[name])
    assert (run.folder / "data" / "00000000" / "store.json").stat().st_ino == stamp


def test_damaged_sketches_are_named_and_made_again(tmp_path) -> None:
    run = recorded(tmp_path / "run", COUNT)
    before = arrays_of(run)
    chunk = max((run.folder / "sketches").rglob("0.0"), key=lambda path: path.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(UnreadableError, match=r"chunk .* of array 'sites/"):
        arrays_of(Run(run.folder))
    for name, array in arrays_of(recorded(run.folder, COUNT)).items():
        np.testing.assert_array_equal(array, before[name])


def test_a_damaged_journal_loses_only_its_end(whole, tmp_path) -> None:
    out = tmp_path / "run"
    process = start(out, pause="0.1")
    while batches_kept(out) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    last = max((out / "segments").glob("*.journal/*.npz"))
    last.write_bytes(last.read_bytes()[:-100])
    assert_same(recorded(out, COUNT, keep="all"), whole, exactly=True)


def test_a_full_disk_loses_nothing(whole, tmp_path, monkeypatch) -> None:
    out = tmp_path / "run"
    write = Path.write_bytes
    left = [7]

    def full(self: Path, data: bytes) -> int:
        if self.parent.suffix == ".journal":
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left .*make room and repeat the command"):
        recorded(out, COUNT, keep="all")
    monkeypatch.undo()
    assert batches_kept(out) == 7
    assert_same(recorded(out, COUNT, keep="all"), whole, exactly=True)


def test_winners_are_kept_in_little_room(tmp_path) -> None:
    run = recorded(tmp_path / "run", COUNT, keep="winners")
    every = recorded(tmp_path / "all", COUNT, keep="all")
    np.testing.assert_array_equal(run.activations("act"), every.activations("act"))
    np.testing.assert_array_equal(run.activations("detect"), every.activations("detect"))
    store = run._stores[0]
    assert store.shape("kept/act/winner") == store.shape("kept/act/value") == (SEGMENT - 1, 5)
    part = run.activations("act", slice(3, 9))
    np.testing.assert_array_equal(part, every.activations("act")[:, 3:9])


def test_rows_by_key_in_any_order(whole) -> None:
    keys = whole.keys()
    chosen = np.random.default_rng(0).permutation(len(keys))[:40]
    np.testing.assert_array_equal(whole.rows(keys[chosen]), whole.embeddings()[chosen])
    assert whole.ids(keys[chosen]) == [whole.ids(keys)[each] for each in chosen]
    with pytest.raises(InputError, match="has no image 3"):
        whole.rows(np.array([2, 3]))
    with pytest.raises(InputError, match="has no image 9999"):
        whole.rows(np.array([9999]))


def test_what_differs_is_said(tmp_path) -> None:
    recorded(tmp_path / "run", COUNT)
    with pytest.raises(InputError, match=r"keep is 'none', not 'all'; give a new folder"):
        recorded(tmp_path / "run", COUNT, keep="all")
    with pytest.raises(InputError, match=r"images is '.*', not '.*'"):
        recorded(tmp_path / "run", COUNT + 1)
    other = network()
    with torch.no_grad():
        other.head.bias += 1
    with pytest.raises(InputError, match=r"model is '\w{16}', not '\w{16}'"):
        record_run(
            other,
            images(COUNT),
            PlantedVisionText(),
            sites="detect,act",
            out=tmp_path / "run",
            options=RecordingOptions(
                transform=transform, segment=SEGMENT, batch_size=BATCH, top=10, sample=50
            ),
        )
    with pytest.raises(InputError, match=r"is shard 1/1, not 1/2"):
        recorded(tmp_path / "run", COUNT, shard=Shard(1, 2))
    replaced = recorded(tmp_path / "run", COUNT, keep="all", overwrite=True)
    assert replaced.keeps == "all"


def test_shards_that_do_not_fit(whole, shards, tmp_path) -> None:
    with pytest.raises(InputError, match=r"shard 3/4 is missing; 3 of 4 are given"):
        merge_runs([shards[0], shards[1], shards[3]], tmp_path / "out")
    with pytest.raises(InputError, match=r"shard 2/4 is given twice: .*part2.* and .*part2"):
        merge_runs([*shards, shards[1]], tmp_path / "out")
    other = recorded(tmp_path / "other", COUNT, shard=Shard(4, 4))
    with pytest.raises(InputError, match=r"keep is 'none', not 'all'"):
        merge_runs([*shards[:3], other.folder], tmp_path / "out")
    halves = recorded(tmp_path / "half", COUNT, keep="all", shard=Shard(1, 2))
    with pytest.raises(InputError, match="parts of one division"):
        merge_runs([*shards, halves.folder], tmp_path / "out")
    with pytest.raises(InputError, match="nothing to merge"):
        merge_runs([], tmp_path / "out")
    with pytest.raises(MissingError, match="does not exist"):
        merge_runs([tmp_path / "nowhere"], tmp_path / "out")
    unfinished = shutil.copytree(shards[0], tmp_path / "unfinished")
    (unfinished / "manifest.json").unlink()
    with pytest.raises(UnreadableError, match="not a finished run"):
        merge_runs([unfinished, *shards[1:]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_lost_segment_is_noticed(shards, tmp_path) -> None:
    place = shutil.copytree(shards[1], tmp_path / "part")
    shutil.rmtree(place / "data" / sorted(os.listdir(place / "data"))[0])
    with pytest.raises(UnreadableError, match=r"has 0 of 1 segments"):
        Run(place)


def test_two_writers_are_one_too_many(tmp_path) -> None:
    fcntl = pytest.importorskip("fcntl")
    recorded(tmp_path / "run", COUNT)
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert len(recorded(tmp_path / "run", COUNT)) == COUNT - len(BROKEN)  # it is only read
        (tmp_path / "run" / "manifest.json").unlink()
        with pytest.raises(FolderInUseError, match="another process records into"):
            recorded(tmp_path / "run", COUNT)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0"])
def test_shards_that_do_not_exist(text) -> None:
    with pytest.raises(InputError, match="does not exist"):
        parse_shard(text)


def test_shards_are_a_division() -> None:
    assert parse_shard(" 2/8 ") == Shard(2, 8)
    with pytest.raises(InputError, match="I/N"):
        parse_shard("two of eight")
    for total in (0, 1, 5, 17):
        every = [piece for index in range(1, 6) for piece in Shard(index, 5).pieces(total)]
        assert every == list(range(total))


def test_bad_options() -> None:
    with pytest.raises(InputError, match="top must be a whole number of at least 1, not 0"):
        RecordingOptions(top=0)
    with pytest.raises(InputError, match="keep must be one of none, winners, all, not 'some'"):
        RecordingOptions(keep="some")


@pytest.mark.parametrize("similarity", list(SIMILARITIES))
def test_a_run_answers_later_what_dissect_answers_at_once(whole, similarity, tmp_path) -> None:
    options = DissectOptions(
        top_images=10, transform=transform, cache=False, seed=4, significance=None
    )
    at_once = dissect(
        network(),
        images(COUNT),
        concepts(),
        PlantedVisionText(),
        sites="detect,act",
        similarity=similarity,
        options=options,
    )
    reads_top = similarity in ("wpmi", "soft_wpmi")
    options = DissectOptions(
        top_images=10,
        cache=False,
        seed=4,
        significance=None,
        similarity_keywords={"top_k": 10} if reads_top else {},
    )
    if not reads_top:
        later = name_run(
            whole, concepts(), PlantedVisionText(), similarity=similarity, options=options
        )
        assert [unit.name for unit in later] == [unit.name for unit in at_once]
        assert [unit.score for unit in later] == pytest.approx([u.score for u in at_once])
    else:
        later = name_run(
            whole, concepts(), PlantedVisionText(), similarity=similarity, options=options
        )
        planted = at_once.of_site("detect")[:16]
        assert [unit.name for unit in later.of_site("detect")[:16]] == [u.name for u in planted]
    assert [unit.top_images for unit in later] == [unit.top_images for unit in at_once]
    assert [unit.firing_rate for unit in later] == [unit.firing_rate for unit in at_once]


def test_other_words_need_no_model(whole, tmp_path) -> None:
    model = PlantedVisionText()
    few = from_words(["kettle", "ladder"], name="few")
    atlas = name_run(
        whole,
        few,
        model,
        similarity="cosine",
        options=DissectOptions(significance=None, top_images=5),
    )
    assert model.images == 0
    assert {unit.name for unit in atlas} <= {"kettle", "ladder", None}
    assert atlas.provenance["similarity"]["read_from"] == "moments of all images"
    small = recorded(tmp_path / "small", COUNT)
    five = DissectOptions(top_images=5)
    sampled = name_run(small, concepts(), model, similarity="auroc", options=five)
    assert sampled.provenance["similarity"]["read_from"] == "a sample of 50 of 146 images"
    kept = name_run(whole, concepts(), model, similarity="auroc", options=five)
    assert kept.provenance["similarity"]["read_from"] == "kept activations"


def test_what_a_run_cannot_answer(whole, tmp_path) -> None:
    with pytest.raises(InputError, match=r"holds embeddings of 'planted' .* not of 'planted'"):
        name_run(whole, concepts(), PlantedVisionText("other"))
    with pytest.raises(InputError, match="top_k 11 is more than the 10 top images"):
        name_run(
            whole,
            concepts(),
            PlantedVisionText(),
            options=DissectOptions(similarity_keywords={"top_k": 11}, top_images=5),
        )
    with pytest.raises(InputError, match="top_images 20 is more than the 10"):
        name_run(whole, concepts(), PlantedVisionText())
    with pytest.raises(InputError, match="are not those of run"):
        name_run(
            whole,
            concepts(),
            PlantedVisionText(),
            images=probe_set(COUNT),
            options=DissectOptions(top_images=5),
            out=tmp_path / "atlas",
        )
    assert not (tmp_path / "atlas").exists()


def test_thumbnails_of_a_run(whole, tmp_path) -> None:
    options = DissectOptions(top_images=5, significance=None)
    atlas = name_run(
        whole,
        concepts(),
        PlantedVisionText(),
        images=images(COUNT),
        options=options,
        out=tmp_path / "atlas",
    )
    assert all((tmp_path / "atlas" / image.thumbnail).is_file() for image in atlas.images.values())
    without = name_run(whole, concepts(), PlantedVisionText(), options=options)
    assert {image.thumbnail for image in without.images.values()} == {None}


def test_activations_that_are_not_finite(tmp_path) -> None:
    module = network()
    with torch.no_grad():
        module.detect.weight[3] = float("nan")
    with pytest.raises(InputError, match=r"site 'detect' is NaN or infinite"):
        record_run(
            module,
            images(COUNT),
            PlantedVisionText(),
            sites="detect",
            out=tmp_path / "run",
            options=RecordingOptions(transform=transform, segment=SEGMENT, batch_size=BATCH),
        )
    with pytest.raises(UnreadableError, match="not a finished run"):
        Run(tmp_path / "run")


def test_a_bad_batch_is_not_kept(tmp_path) -> None:
    broken = network()
    with torch.no_grad():
        broken.detect.weight[3, :] = float("inf")
    options = RecordingOptions(
        transform=transform, segment=SEGMENT, batch_size=BATCH, top=10, sample=50, workers=0
    )
    asked = {"sites": "detect,act", "out": tmp_path / "run", "options": options}
    with pytest.raises(
        InputError, match=r"NaN or infinite in .* numbers, first on image 'planted-"
    ):
        record_run(broken, images(COUNT), PlantedVisionText(), **asked)
    assert batches_kept(tmp_path / "run") == 0


def test_an_empty_shard_is_part_of_the_whole(whole, tmp_path) -> None:
    places = [tmp_path / str(index) for index in range(1, 8)]
    for index, place in enumerate(places, 1):  # 7 shards of 5 segments
        recorded(place, COUNT, keep="all", shard=Shard(index, 7))
    assert len(Run(places[0])) == 0
    assert_same(merge_runs(places, tmp_path / "merged"), whole, exactly=False)
    with pytest.raises(InputError, match="is shard 2/7 of its images; merge all shards"):
        name_run(Run(places[1]), concepts(), PlantedVisionText())


def test_a_merge_that_broke_off_is_repeated_and_shards_are_not_overwritten(
    whole, shards, tmp_path
) -> None:
    copies = [shutil.copytree(place, tmp_path / place.name) for place in shards]
    for out in (copies[0], tmp_path):
        with pytest.raises(InputError, match="is or holds the shard"):
            merge_runs(copies, out, overwrite=True)
    merge_runs(copies, tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    assert_same(merge_runs(copies, tmp_path / "out"), whole, exactly=False)
    with pytest.raises(FolderInUseError, match="already holds a run"):
        merge_runs(copies, tmp_path / "out")


def test_overwriting_waits_for_no_other_process(tmp_path) -> None:
    fcntl = pytest.importorskip("fcntl")
    recorded(tmp_path / "run", COUNT)
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FolderInUseError, match="another process records into"):
            recorded(tmp_path / "run", COUNT, overwrite=True)
    assert len(Run(tmp_path / "run")) == COUNT - len(BROKEN)


def test_a_division_and_a_pooling_of_ones_own(tmp_path) -> None:
    recorded(tmp_path / "run", COUNT)
    (tmp_path / "run" / ".processes" / "1-of-3").mkdir(parents=True)
    with pytest.raises(InputError, match="was begun by 3 processes and goes on with as many, not"):
        recorded(tmp_path / "run", COUNT)
    with pytest.raises(InputError, match="take a pooling by name"):
        recorded(tmp_path / "own", COUNT, shard=Shard(1, 2), pooling=lambda a, won: a.amax(-1))


def test_labels_judge_only_where_every_image_has_one() -> None:
    words = from_words(["cat", "dog", "owl"], name="pets")
    names = ["cat", "dog", "owl"]
    assert sorted(label_masks(np.array([0, 0, 1, 1]), names, words)) == [0, 1]
    assert label_masks(np.array([0, 0, 1, -1]), names, words) == {}
    assert label_masks(np.array([1, 1]), names, words) == {}


def test_kept_winners_of_several_positions_are_not_read(tmp_path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    module = convert(module, competitors=4, example=torch.rand(2, 3, 8, 8))[0]
    run = record_run(
        module,
        probe_set(60),
        PlantedVisionText(),
        sites="1",
        out=tmp_path / "run",
        options=RecordingOptions(transform=transform, sample=20, keep="winners"),
    )
    assert rows_of(run).basis == "a sample of 20 of 60 images"


def test_the_null_of_the_cosine_from_a_sample_is_that_of_all_images() -> None:
    draw = np.random.default_rng(0)
    vectors = (draw.standard_normal((20_000, 24)) + 1).astype(np.float32)
    vectors -= vectors.mean(0)
    words = draw.standard_normal((60, 24)).astype(np.float32)
    q = 1 + np.abs(draw.standard_normal((20_000, 300))).astype(np.float32)
    scores = vectors @ words.T
    best = (q.T @ scores / np.linalg.norm(q, axis=0)[:, None] / np.linalg.norm(scores, axis=0)).max(
        1
    )
    placed = -np.sort(-q.T, axis=1)[:, :100]
    exact = q.astype(np.float64)
    profiles = profiles_of_moments(20_000, exact.sum(0), (exact**2).sum(0), placed)
    wide = vectors.astype(np.float64)
    moments = (np.zeros(24), wide.T @ wide / 19_999, wide.T @ wide)
    chosen = draw.choice(20_000, 500, replace=False)
    p = cosine_p_values(
        best,
        profiles,
        vectors[chosen],
        words,
        moments=moments,
        draws=400,
        generator=np.random.default_rng(1),
    )
    assert 0.4 < p.mean() < 0.6
    assert (p <= 0.05).mean() < 0.1
    with pytest.raises(InputError, match="a sample needs the moments of all images"):
        cosine_p_values(best, profiles, vectors[chosen], words, generator=np.random.default_rng(1))


@pytest.mark.parametrize(("side", "at_least", "decoded"), [(8, 16, 32), (None, None, 256)])
def test_reduced_decoding_reaches_the_images(tmp_path, side, at_least, decoded) -> None:
    sizes = set()

    class Noting(PlantedVisionText):
        resize_side = side

        def embed_images(self, images):
            sizes.update(image.size for image in images)
            return super().embed_images([image.resize((8, 8)) for image in images])

    (tmp_path / "photos").mkdir()
    for number in range(4):
        wide = probe_set(4).image(number).resize((256, 256))
        wide.save(tmp_path / "photos" / f"{number}.jpg", quality=95)
    preprocessing = Preprocessing((3, 8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)
    run = record_run(
        LoadedModel(network(), preprocessing, None, "planted", (3, 8, 8)),
        load(tmp_path / "photos"),
        Noting(),
        sites="detect",
        out=tmp_path / "run",
        options=RecordingOptions(reduced=True),
    )
    assert run.info.identity["decoded_at_least"] == at_least
    assert sizes == {(decoded, decoded)}  # an eighth is the smallest that JPEG gives
