"""The chunked store: rows come back, identity is checked, nothing half-written looks whole."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from neuronym.errors import FolderInUseError, InputError, MissingError, UnreadableError
from neuronym.store import create, open_store, prune, try_open

IDENTITY = {"model": "abc", "probes": "def", "sites": ["a", "b"], "pooling": {"a": "mean"}}


def rows(count: int, width: int = 3, start: int = 0) -> np.ndarray:
    return np.arange(start * width, (start + count) * width, dtype=np.float32).reshape(count, width)


def write(folder, identity=IDENTITY, blocks=(4, 1, 7)) -> None:
    with create(folder, identity) as writer:
        done = 0
        for count in blocks:
            writer.append("layer1.conv", rows(count, start=done))
            writer.append("odd/name #1", np.arange(done, done + count))
            done += count
        writer.note(skipped=["x.jpg"], seen=done)


def fail_midway(folder) -> None:
    with create(folder, {"other": 1}) as writer:
        writer.append("a", rows(5))
        raise RuntimeError("stop")


def test_rows_come_back_in_order(tmp_path) -> None:
    write(tmp_path / "store")
    store = open_store(tmp_path / "store", IDENTITY)
    assert store.names == ("layer1.conv", "odd/name #1")
    assert store.shape("layer1.conv") == (12, 3)
    assert store.facts == {"skipped": ["x.jpg"], "seen": 12}
    np.testing.assert_array_equal(store.read("layer1.conv"), rows(12))
    np.testing.assert_array_equal(store.read("layer1.conv", 3, 9), rows(12)[3:9])
    found = store.read("layer1.conv", 3, columns=slice(1, 2))
    np.testing.assert_array_equal(found, rows(12)[3:, 1:2])
    assert store.read("odd/name #1").tolist() == list(range(12))
    assert store.read("layer1.conv").dtype == np.float32


def test_many_chunks(tmp_path) -> None:
    width = 4096  # 16 KiB a row: 256 rows fill a chunk
    generator = np.random.default_rng(0)
    blocks = [generator.random((count, width), dtype=np.float32) for count in (100, 300, 1, 219)]
    with create(tmp_path / "store", {}) as writer:
        for block in blocks:
            writer.append("a", block)
            block[:] = -1  # the store keeps its own copy
    store = open_store(tmp_path / "store")
    generator = np.random.default_rng(0)
    expected = np.concatenate(
        [generator.random((count, width), dtype=np.float32) for count in (100, 300, 1, 219)]
    )
    np.testing.assert_array_equal(store.read("a"), expected)
    np.testing.assert_array_equal(store.read("a", 250, 513), expected[250:513])


def test_a_mismatch_says_which_field_differs(tmp_path) -> None:
    write(tmp_path / "store")
    wanted = {**IDENTITY, "pooling": {"a": "max"}, "seed": 3}
    with pytest.raises(InputError) as caught:
        open_store(tmp_path / "store", wanted)
    assert "pooling is {'a': 'mean'}, not {'a': 'max'}; seed is None, not 3" in str(caught.value)
    assert "model" not in str(caught.value)
    assert try_open(tmp_path / "store", wanted) is None
    assert try_open(tmp_path / "nothing", wanted) is None
    assert try_open(tmp_path / "store", {**IDENTITY, "sites": ("a", "b")}) is not None


def test_a_failure_leaves_nothing(tmp_path) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        fail_midway(tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MissingError, match="does not exist"):
        open_store(tmp_path / "store")


def test_a_failure_leaves_the_store_before_it(tmp_path) -> None:
    write(tmp_path / "store")
    with pytest.raises(RuntimeError, match="stop"):
        fail_midway(tmp_path / "store")
    assert open_store(tmp_path / "store", IDENTITY).shape("layer1.conv") == (12, 3)


def test_a_store_is_replaced_and_anything_else_is_not(tmp_path) -> None:
    write(tmp_path / "store")
    write(tmp_path / "store", {"other": 1}, blocks=(2,))
    assert open_store(tmp_path / "store", {"other": 1}).shape("layer1.conv") == (2, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.txt").write_text("keep")
    with pytest.raises(FolderInUseError, match="not a store"):
        write(tmp_path / "mine")
    assert (tmp_path / "mine" / "photo.txt").read_text() == "keep"
    assert not (tmp_path / "mine" / "store.json").exists()


def test_a_folder_without_its_index_is_not_finished(tmp_path) -> None:
    write(tmp_path / "store")
    (tmp_path / "store" / "store.json").unlink()
    with pytest.raises(UnreadableError, match="not a finished store"):
        open_store(tmp_path / "store")
    write(tmp_path / "newer")
    index = json.loads((tmp_path / "newer" / "store.json").read_text())
    (tmp_path / "newer" / "store.json").write_text(json.dumps({**index, "schema": 9}))
    with pytest.raises(UnreadableError, match="schema 9; this version reads up to 1"):
        open_store(tmp_path / "newer")


def test_damage_is_reported(tmp_path) -> None:
    write(tmp_path / "store")
    chunk = next(path for path in (tmp_path / "store" / "0").iterdir() if path.name[0] != ".")
    chunk.write_bytes(b"garbage")
    with pytest.raises(UnreadableError, match=r"array 'layer1\.conv'"):
        open_store(tmp_path / "store").read("layer1.conv")
    for path in (tmp_path / "store" / "1").iterdir():
        path.unlink()
    with pytest.raises(UnreadableError, match=r"array 'odd/name #1' .* cannot be read"):
        open_store(tmp_path / "store").read("odd/name #1")


def test_rows_that_do_not_fit(tmp_path) -> None:
    with create(tmp_path / "store", {}) as writer:
        writer.append("a", rows(2))
        with pytest.raises(InputError, match=r"rows of 'a' are float32 \(4,\), those before"):
            writer.append("a", rows(2, width=4))
        with pytest.raises(InputError, match="rows of 'a' are float64"):
            writer.append("a", rows(2).astype(np.float64))
        with pytest.raises(InputError, match="single number"):
            writer.append("b", np.float32(1))
    with pytest.raises(InputError, match="no array 'b'; nearest: a"):
        open_store(tmp_path / "store").read("b")


def test_identity_must_be_json(tmp_path) -> None:
    with (
        pytest.raises(InputError, match="an identity must be of JSON types"),
        create(tmp_path / "store", {"a": object()}),
    ):
        pass
    with (
        pytest.raises(InputError, match="facts of a store must be of JSON types"),
        create(tmp_path / "store", {}) as writer,
    ):
        writer.note(bad=float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_prune_deletes_what_was_used_longest_ago(tmp_path) -> None:
    for number, name in enumerate(["a", "b", "c", "d"]):
        write(tmp_path / name)
        os.utime(tmp_path / name / "store.json", (number, number))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("x" * 10_000)
    size = sum(path.stat().st_size for path in (tmp_path / "a").rglob("*") if path.is_file())
    open_store(tmp_path / "a")  # used now
    gone = prune(tmp_path, limit_bytes=2 * size + size // 2, keep=[tmp_path / "b"])
    assert [path.name for path in gone] == ["c", "d"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "notes"]
    assert prune(tmp_path / "nothing", limit_bytes=0) == []


def test_a_damaged_chunk_is_named(tmp_path) -> None:
    with create(tmp_path / "store", {"kind": "test"}) as writer:
        writer.append("values", np.arange(3000, dtype=np.float32)[:, None])
    store = open_store(tmp_path / "store")
    store.verify()
    chunk = tmp_path / "store" / "0" / "1.0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(bytes(data))
    with pytest.raises(UnreadableError, match=r"chunk '0/1\.0' of array 'values' .* is damaged"):
        store.verify()
    chunk.unlink()
    with pytest.raises(UnreadableError, match="No such file"):
        store.verify()
