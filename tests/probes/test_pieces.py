"""Pieces of probe sets: keys, resuming at any position, bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronym import probes
from neuronym.errors import InputError, UnreadableError
from probes_pictures import encoded, jpeg, photo


def read(pieces: probes.Pieces, piece: int, **options: object) -> tuple[list[int], list[str]]:
    keys: list[int] = []
    ids: list[str] = []
    for batch in pieces.open(piece, **options):
        keys += batch.indices.tolist()
        ids += batch.ids
    return keys, ids


def test_a_probe_set_in_pieces() -> None:
    whole = probes.load("scenes:10:3")
    pieces = probes.pieces_of(whole, length=4)
    assert isinstance(pieces, probes.Pieces)
    assert (pieces.name, pieces.count, pieces.total) == ("scenes:10:3", 3, 10)
    assert pieces.label_names == whole.label_names
    assert [pieces.length(piece) for piece in range(3)] == [4, 4, 2]
    found = [read(pieces, piece, batch_size=3) for piece in range(3)]
    assert [keys for keys, _ in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert tuple(name for _, ids in found for name in ids) == tuple(whole.ids)
    batch = next(pieces.open(2, batch_size=8, workers=0))
    assert batch.labels.tolist() == whole.labels[8:].tolist()
    assert batch.images[1].tobytes() == whole.image(9).tobytes()
    assert probes.load_pieces("scenes:10:3").count == 1


def test_the_fingerprint_covers_images_and_cut() -> None:
    whole = probes.load("scenes:10:3")
    assert len({probes.pieces_of(whole, length=n).fingerprint for n in (4, 5, 4)}) == 2
    other = probes.load("scenes:10:4")
    assert probes.pieces_of(whole).fingerprint != probes.pieces_of(other).fingerprint


@pytest.mark.parametrize("workers", [0, 2])
def test_a_piece_goes_on_where_it_stopped(tmp_path: Path, workers: int) -> None:
    for index in range(9):
        (tmp_path / f"{index}.jpg").write_bytes(b"no" if index in (0, 4, 5, 8) else jpeg(index))
    pieces = probes.pieces_of(probes.load(tmp_path), length=20)
    stream = pieces.open(0, batch_size=2, workers=workers)
    batches = list(stream)
    assert [batch.end for batch in batches] == [3, 7, 9]
    assert stream.end == 9
    for number, batch in enumerate(batches):
        rest = pieces.open(0, batch_size=2, workers=workers, skip=batch.end)
        assert rest.end == batch.end
        assert rest.total == 9 - batch.end
        assert [b.ids for b in rest] == [b.ids for b in batches[number + 1 :]]
        assert [s.index for s in rest.skipped] == [i for i in (0, 4, 5, 8) if i >= batch.end]
    assert list(pieces.open(0, skip=9)) == []


def test_a_piece_without_a_good_image_is_no_error(tmp_path: Path) -> None:
    for index in range(4):
        (tmp_path / f"{index}.jpg").write_bytes(b"" if index > 1 else jpeg(index))
    pieces = probes.pieces_of(probes.load(tmp_path), length=2)
    stream = pieces.open(1)
    assert list(stream) == []
    assert [skipped.index for skipped in stream.skipped] == [2, 3]


def test_options_reach_the_decoder(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(photo(0, (400, 320)), "JPEG"))
    pieces = probes.pieces_of(probes.load(tmp_path))
    prepare = {"size": lambda image: image.size}
    batch = next(pieces.open(0, at_least=80, prepare=prepare))
    assert batch.images[0].size == (100, 80)
    assert batch.prepared == {"size": ((100, 80),)}


@pytest.mark.parametrize(
    ("piece", "options", "message"),
    [
        (3, {}, r"piece must be in 0 to 2 of 'scenes:.*', not 3"),
        (-1, {}, "piece must be in 0 to 2"),
        (2, {"skip": 3}, r"skip must be in 0 to 2 in piece 2 of 'scenes:.*', not 3"),
        (0, {"skip": -1}, "skip must be in 0 to 4"),
        (0, {"batch_size": 0}, "batch_size must be at least 1"),
        (0, {"at_least": 0}, "at_least must be 1 pixel or more, not 0"),
    ],
)
def test_places_outside_are_refused_at_once(piece: int, options: dict, message: str) -> None:
    pieces = probes.pieces_of(probes.load("scenes:10"), length=4)
    with pytest.raises(InputError, match=message):
        pieces.open(piece, **options)


@pytest.mark.parametrize("length", [0, 2**32])
def test_a_length_outside_its_range_is_refused(length: int) -> None:
    with pytest.raises(InputError, match="length of a piece must be in 1 to 4294967295"):
        probes.pieces_of(probes.load("scenes:10"), length=length)


def test_a_source_that_gave_too_little_is_refused() -> None:
    pieces = probes.pieces_of(probes.load("scenes:10"), length=4)
    probes.check_complete(pieces, [4, 4, 2])
    with pytest.raises(UnreadableError, match="gave 9 images, and says that it has 10"):
        probes.check_complete(pieces, [4, 4, 1])
    with pytest.raises(InputError, match="2 ends for the 3 pieces"):
        probes.check_complete(pieces, [4, 6])
