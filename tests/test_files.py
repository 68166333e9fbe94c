"""Atomic writes, fingerprints by content, manifests, and output folders that lose nothing."""

from __future__ import annotations

import hashlib
import itertools
import json
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronym import files
from neuronym.errors import FolderInUseError, InputError, MissingError, UnreadableError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Atomic writes


def test_atomic_path_puts_the_file_in_place(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "table.parquet"
    with files.atomic_path(target) as temporary:
        assert temporary.suffix == ".parquet"
        assert temporary.parent == target.parent
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert names(target.parent) == ["table.parquet"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")

    def interrupted() -> None:
        with files.atomic_path(target) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["result.json"]


def test_a_failed_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), files.atomic_path(tmp_path / "x.json"):
        raise ZeroDivisionError
    assert names(tmp_path) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_json_refuses_what_is_not_finite(value: float, tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    with pytest.raises(InputError, match=r"cannot write .*x\.json.*: "):
        files.write_json(target, {"value": [1.0, value]})
    assert target.read_text() == "old"
    assert names(tmp_path) == ["x.json"]


@pytest.mark.parametrize("value", [{1, 2}, np.zeros(3), object()])
def test_json_refuses_other_objects(value: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"a {type(value).__name__} is not JSON"):
        files.write_json(tmp_path / "x.json", {"value": value})
    assert names(tmp_path) == []


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"name": "Zürich 木", "numbers": [1, 2.5, None, True], "nested": {"a": "b"}}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == value
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert "Zürich 木" in text
    assert text.endswith("}\n")


def test_json_takes_numpy_scalars(tmp_path: Path) -> None:
    value = {"a": np.float32(0.5), "b": np.int64(7), "c": np.bool_(True), "d": np.float64(0.1)}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == {"a": 0.5, "b": 7, "c": True, "d": 0.1}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b'{"a": 1} and more'])
def test_json_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UnreadableError, match=r"settings '.*x\.json' is not JSON: ") as raised:
        files.read_json(tmp_path / "x.json", what="settings")
    assert "\n" not in str(raised.value)


def test_json_that_is_missing_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"settings '.*x\.json' does not exist"):
        files.read_json(tmp_path / "x.json", what="settings")
    with pytest.raises(UnreadableError, match="is a folder"):
        files.read_json(tmp_path)


# Fingerprints

DIFFERENT = [
    (),
    ("",),
    ("ab", "c"),
    ("a", "bc"),
    ("abc",),
    (b"abc",),
    (["a", "b"], "c"),
    (["a"], ["b", "c"]),
    (["a", ["b"]],),
    ([["a"], "b"],),
    ("a", "b"),
    (["a", "b"],),
    ({"a": "b"},),
    (1,),
    ("1",),
    (1.0,),
    (True,),
    (None,),
    ("None",),
    ("True",),
    ([],),
    ({},),
    ([[]],),
    ({"a": [1, 2]},),
    ({"a": [1], "b": [2]},),
    ({1: "a"},),
    ({"1": "a"},),
]


def test_fingerprints_differ() -> None:
    prints = [files.fingerprint(*parts) for parts in DIFFERENT]
    assert len(set(prints)) == len(DIFFERENT)
    assert all(len(text) == 16 and set(text) <= set("0123456789abcdef") for text in prints)


def test_fingerprint_of_equal_content_is_equal() -> None:
    assert files.fingerprint({"a": 1, "b": 2}) == files.fingerprint({"b": 2, "a": 1})
    assert files.fingerprint({1: "x", "1": "y"}) == files.fingerprint({"1": "y", 1: "x"})
    assert files.fingerprint([1, 2]) == files.fingerprint((1, 2))
    assert files.fingerprint(b"ab") == files.fingerprint(bytearray(b"ab"), *())
    assert files.fingerprint(b"ab") == files.fingerprint(memoryview(b"ab"))


def test_fingerprint_counts_numpy_scalars_as_the_numbers_they_are() -> None:
    assert files.fingerprint(np.float64(1.5)) == files.fingerprint(1.5)
    assert files.fingerprint(np.str_("cat")) == files.fingerprint("cat")


def test_fingerprint_framing_written_out() -> None:
    framed = b"s5:'cat'" + b"l3:s1:1s3:2.5s4:None" + b"m1:s3:'b's4:True" + b"b1:\x00"
    expected = hashlib.sha256(framed).hexdigest()[:16]
    assert files.fingerprint("cat", [1, 2.5, None], {"b": True}, b"\x00") == expected


def test_fingerprint_refuses_other_types() -> None:
    with pytest.raises(InputError, match="cannot fingerprint a ndarray; give its bytes"):
        files.fingerprint({"a": [np.zeros(2)]})


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=4)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@given(st.lists(TREES, max_size=3), st.lists(TREES, max_size=3))
def test_fingerprint_tells_trees_apart(one: list[object], other: list[object]) -> None:
    same = repr(one) == repr(other)
    assert (files.fingerprint(*one) == files.fingerprint(*other)) == same


def test_fingerprint_of_a_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # more than one chunk
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(content)
    (tmp_path / "c").write_bytes(content[:-1] + b"\x00")
    a, b, c = (files.fingerprint_file(tmp_path / name) for name in "abc")
    assert a == b != c
    with pytest.raises(MissingError, match=r"file '.*none' does not exist"):
        files.fingerprint_file(tmp_path / "none")
    with pytest.raises(UnreadableError, match="is a folder"):
        files.fingerprint_file(tmp_path)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURONYM_CACHE", "/given")
    assert files.cache_folder() == Path("/given")
    monkeypatch.delenv("NEURONYM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert files.cache_folder() == Path("/xdg/neuronym")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert files.cache_folder() == Path("/home/me/.cache/neuronym")


# Manifests


def test_manifest_round_trip(tmp_path: Path) -> None:
    files.write_manifest(tmp_path, kind="atlas", schema=2, units=7)
    expected = {"kind": "atlas", "schema": 2, "units": 7}
    assert files.read_manifest(tmp_path, kind="atlas", schema=2) == expected
    assert files.read_manifest(tmp_path, kind="atlas", schema=3) == expected


def test_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(
        UnreadableError, match=r"is not a finished atlas folder: it has no manifest"
    ):
        files.read_manifest(tmp_path, kind="atlas", schema=1)
    with pytest.raises(MissingError, match=r"atlas folder '.*none' does not exist"):
        files.read_manifest(tmp_path / "none", kind="atlas", schema=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"kind": "model", "schema": 1}', r"holds 'model', not 'atlas'"),
        ('{"schema": 1}', r"holds something else, not 'atlas'"),
        ("[1, 2]", r"holds something else, not 'atlas'"),
        ('{"kind": "atlas", "schema": 9}', r"schema 9 of 'atlas'; this version reads up to 1: upd"),
        ('{"kind": "atlas", "schema": "new"}', r"has the schema 'new', which is not a number"),
        ('{"kind": "atlas", "sch', r"is not JSON"),
    ],
)
def test_manifest_that_does_not_fit(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / files.MANIFEST).write_text(content)
    with pytest.raises(UnreadableError, match=message):
        files.read_manifest(tmp_path, kind="atlas", schema=1)


# Output folders


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished run with a file, a sub-folder and a link to a folder outside it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("keep me")
    folder = files.output_folder(tmp_path / "run", kind="atlas")
    (folder / "neurons.parquet").write_text("rows")
    (folder / "thumbnails").mkdir()
    (folder / "thumbnails" / "0.jpg").write_text("picture")
    (folder / "link").symlink_to(outside, target_is_directory=True)
    files.write_manifest(folder, kind="atlas", schema=1)
    return folder


@pytest.mark.parametrize("there", [False, True])
def test_new_or_empty_folder_is_claimed(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    if there:
        folder.mkdir(parents=True)
    assert files.output_folder(folder, kind="atlas") == folder
    assert names(folder) == [".neuronym"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_that_are_not_a_run_are_never_touched(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "photos").mkdir()
    before = snapshot(tmp_path)
    with pytest.raises(
        FolderInUseError, match="holds files that are not a neuronym run; give a new"
    ):
        files.output_folder(tmp_path, kind="atlas", overwrite=overwrite)
    assert snapshot(tmp_path) == before
    assert (tmp_path / "photos").is_dir()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_of_another_kind_is_never_touched(overwrite: bool, finished: Path) -> None:
    before = snapshot(finished)
    with pytest.raises(FolderInUseError, match="holds a run of 'atlas'; give a new folder"):
        files.output_folder(finished, kind="model", overwrite=overwrite)
    assert snapshot(finished) == before


def test_a_run_of_the_same_kind_is_kept_unless_told(finished: Path) -> None:
    before = snapshot(finished)
    with pytest.raises(
        FolderInUseError, match=r"already holds a run of 'atlas'; .* pass --overwrite"
    ):
        files.output_folder(finished, kind="atlas")
    assert snapshot(finished) == before


def test_overwrite_clears_the_run_and_nothing_outside(finished: Path) -> None:
    files.output_folder(finished, kind="atlas", overwrite=True)
    assert names(finished) == [".neuronym"]
    assert (finished.parent / "outside" / "precious.txt").read_text() == "keep me"


def test_a_half_cleared_run_looks_unfinished_and_can_be_cleared_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(path: Path) -> None:
        raise OSError("disk gone")

    with monkeypatch.context() as patch:
        patch.setattr(files.shutil, "rmtree", stop)
        with pytest.raises(OSError, match="disk gone"):
            files.output_folder(finished, kind="atlas", overwrite=True)
    with pytest.raises(UnreadableError, match="not a finished atlas"):
        files.read_manifest(finished, kind="atlas", schema=1)
    files.output_folder(finished, kind="atlas", overwrite=True)
    assert names(finished) == [".neuronym"]


def test_an_unfinished_run_can_be_overwritten(tmp_path: Path) -> None:
    folder = files.output_folder(tmp_path / "run", kind="atlas")
    (folder / "half.parquet").write_text("ro")
    files.output_folder(folder, kind="atlas", overwrite=True)
    assert names(folder) == [".neuronym"]


def test_a_claim_keeps_the_earlier_run_until_it_is_cleared(finished: Path) -> None:
    before = snapshot(finished)
    with pytest.raises(FolderInUseError, match="already holds a run of 'atlas'"):
        files.claim_folder(finished, kind="atlas")
    claim = files.claim_folder(finished, kind="atlas", overwrite=True)
    assert snapshot(finished) == before
    assert claim.clear() == finished
    assert names(finished) == [".neuronym"]


def test_a_claimed_folder_that_nobody_wrote_to_counts_as_empty(tmp_path: Path) -> None:
    files.claim_folder(tmp_path / "run", kind="atlas")
    files.claim_folder(tmp_path / "run", kind="atlas").clear()
    assert files.held_kind(tmp_path / "run") == "atlas"
    assert files.held_kind(tmp_path) is None
    with pytest.raises(FolderInUseError, match="holds a run of 'atlas'"):
        files.claim_folder(tmp_path / "run", kind="model", overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_came_in_since_the_claim_is_not_cleared(overwrite: bool, tmp_path: Path) -> None:
    claim = files.claim_folder(tmp_path / "run", kind="atlas", overwrite=overwrite)
    (claim.folder / "thesis.txt").write_text("years of work")
    if overwrite:
        (claim.folder / ".neuronym").write_text("model")
    with pytest.raises(FolderInUseError):
        claim.clear()
    assert (claim.folder / "thesis.txt").read_text() == "years of work"


def write_half_of_it(claim: files.Claim) -> None:
    with claim.staged() as folder:
        (folder / "new.txt").write_text("half")
        raise OSError("disk gone")


def test_staged_work_takes_its_place_only_when_it_is_done(finished: Path) -> None:
    before = snapshot(finished)
    claim = files.claim_folder(finished, kind="atlas", overwrite=True)
    with pytest.raises(OSError, match="disk gone"):
        write_half_of_it(claim)
    assert snapshot(finished) == before
    assert names(finished) == [
        ".neuronym",
        "link",
        "manifest.json",
        "neurons.parquet",
        "thumbnails",
    ]
    with claim.staged() as folder:
        (folder / "images").mkdir()
        (folder / "images" / "0.png").write_text("picture")
    assert names(finished) == [".neuronym", "images"]
    assert (finished / "images" / "0.png").read_text() == "picture"


def test_output_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("text")
    with pytest.raises(FolderInUseError, match=r"out' is a file; give a folder"):
        files.output_folder(tmp_path / "out", kind="atlas", overwrite=True)
    with pytest.raises(InputError, match=r"cannot write into output .*: Not a directory"):
        files.output_folder(tmp_path / "out" / "below", kind="atlas")
    assert (tmp_path / "out").read_text() == "text"


def test_output_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=r"cannot write into output '.*run': Permission denied"):
        files.output_folder(tmp_path / "run", kind="atlas")


def test_marker_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / ".neuronym").write_bytes(b"\xff\xfe")
    with pytest.raises(FolderInUseError, match="give a new folder"):
        files.output_folder(tmp_path, kind="atlas", overwrite=True)


# Records


def test_record_round_trip_and_refusals(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    files.write_json(path, {"kind": "card", "schema": 1, "x": 2})
    assert files.read_record(path, kind="card", schema=1)["x"] == 2
    for (kind, schema), message in zip(
        itertools.product(["card", "other"], [0, 1]),
        ["schema 1 of 'card'; this version reads up to 0", None, "holds 'card'", "holds 'card'"],
        strict=True,
    ):
        if message is not None:
            with pytest.raises(UnreadableError, match=message):
                files.read_record(path, kind=kind, schema=schema)
    path.write_text(json.dumps("card"))
    with pytest.raises(UnreadableError, match="holds something else, not 'card'"):
        files.read_record(path, kind="card", schema=1)


@pytest.mark.parametrize("there", [False, True])
def test_a_claim_is_returned_where_nothing_came_of_it(there: bool, tmp_path: Path) -> None:
    place = tmp_path / "a" / "run"
    if there:
        place.mkdir(parents=True)
    claim = files.claim_folder(place, kind="atlas")
    with pytest.raises(KeyError), claim.returned_on_failure():
        raise KeyError
    assert place.exists() == (tmp_path / "a").exists() == there
    if there:
        assert not list(place.iterdir())


def test_a_claim_on_something_that_is_there_is_not_returned(finished: Path, tmp_path: Path) -> None:
    before = {path.name for path in finished.iterdir()}
    claim = files.claim_folder(finished, kind="atlas", overwrite=True)
    with pytest.raises(KeyError), claim.returned_on_failure():
        raise KeyError
    assert {path.name for path in finished.iterdir()} == before
    begun = files.claim_folder(tmp_path / "begun", kind="atlas")
    (begun.folder / "part").write_text("half")
    with pytest.raises(KeyError), begun.returned_on_failure():
        raise KeyError
    assert {path.name for path in begun.folder.iterdir()} == {"part", ".neuronym"}
