"""Datasets of the `datasets` library as streams."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronym import probes
from neuronym.errors import (
    InputError,
    MissingError,
    UnavailableError,
    UnknownNameError,
    UnreadableError,
)
from neuronym.probes import rows
from probes_pictures import jpeg

datasets = pytest.importorskip("datasets", reason="the extra `datasets` is not installed")

README = """---
dataset_info:
  splits:
  - name: train
    num_examples: {count}
---
"""


@pytest.fixture(scope="module")
def table() -> object:
    features = datasets.Features(
        {"img": datasets.Image(), "y": datasets.ClassLabel(names=["cat", "dog"])}
    )
    images = [{"bytes": b"broken" if i == 3 else jpeg(i), "path": None} for i in range(10)]
    labels = [None if i == 4 else i % 2 for i in range(10)]
    return datasets.Dataset.from_dict({"img": images, "y": labels}, features=features)


@pytest.fixture
def folder(tmp_path: Path, table: object) -> Path:
    """Parquet shards of 4, 3 and 3 rows, as the hub holds them."""
    path = tmp_path / "hub"
    path.mkdir()
    for number in range(3):
        shard = table.shard(3, number, contiguous=True)
        shard.to_parquet(path / f"train-0000{number}-of-00003.parquet")
    return path


def positions(pieces: probes.Pieces, **options: object) -> list[tuple[int, int]]:
    found = []
    for piece in range(pieces.count):
        for batch in pieces.open(piece, batch_size=2, **options):
            found += [divmod(key, 2**32) for key in batch.indices.tolist()]
    return found


def test_a_saved_dataset_in_shards(
    tmp_path: Path, table: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "PIECE_LENGTH", 4)
    datasets.DatasetDict({"test": table}).save_to_disk(tmp_path / "d")
    pieces = probes.load_pieces(f"stream:hf:{tmp_path}/d/test")
    assert isinstance(pieces, probes.Pieces)
    assert (pieces.count, pieces.total) == (3, 10)
    assert pieces.label_names == ("cat", "dog")
    stream = pieces.open(0, batch_size=3)
    batch = next(stream)
    assert batch.ids == ("shard-0/row-0", "shard-0/row-1", "shard-0/row-2")
    assert batch.labels.tolist() == [0, 1, 0]
    assert batch.images[1].tobytes() == probes.decode(jpeg(1)).tobytes()
    assert list(stream) == []
    assert [(s.index, s.id) for s in stream.skipped] == [(3, "shard-0/row-3")]
    batch = next(pieces.open(1, batch_size=3))
    assert batch.indices.tolist() == [2**32, 2**32 + 1, 2**32 + 2]
    assert batch.labels.tolist() == [-1, 1, 0]
    rest = next(pieces.open(1, batch_size=3, skip=1))
    assert rest.indices.tolist() == [2**32 + 1, 2**32 + 2]
    assert rest.images[0].tobytes() == batch.images[1].tobytes()
    again = probes.load_pieces(f"stream:hf:{tmp_path}/d/test")
    assert again.fingerprint == pieces.fingerprint
    with pytest.raises(UnknownNameError, match="Did you mean 'test'"):
        probes.load_pieces(f"stream:hf:{tmp_path}/d/tets")


def test_a_folder_of_parquet_shards(folder: Path, table: object) -> None:
    pieces = probes.load_pieces(f"stream:hf:{folder}/train")
    assert (pieces.count, pieces.total, pieces.length(0)) == (3, None, None)
    assert positions(pieces) == [
        *((0, n) for n in range(3)),  # row 3 is broken
        *((1, n) for n in range(3)),
        *((2, n) for n in range(3)),
    ]
    before = pieces.fingerprint
    table.select([0, 1]).to_parquet(folder / "train-00002-of-00003.parquet")
    assert probes.load_pieces(f"stream:hf:{folder}/train").fingerprint != before
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        probes.load_pieces(f"stream:hf:{folder}/tran")


def test_fewer_rows_than_the_info_says(folder: Path) -> None:
    (folder / "README.md").write_text(README.format(count=12))
    pieces = probes.load_pieces(f"stream:hf:{folder}/train")
    assert pieces.total == 12
    ends = []
    for piece in range(pieces.count):
        stream = pieces.open(piece)
        list(stream)
        ends.append(stream.end)
    assert ends == [4, 3, 3]
    with pytest.raises(UnreadableError, match="gave 10 images, and says that it has 12"):
        probes.check_complete(pieces, ends)
    for number in (1, 2):
        (folder / f"train-0000{number}-of-00003.parquet").unlink()
    pieces = probes.load_pieces(f"stream:hf:{folder}/train")
    assert (pieces.count, pieces.length(0)) == (1, 12)
    stream = pieces.open(0, batch_size=2)
    assert [len(next(stream)), len(next(stream))] == [2, 1]
    with pytest.raises(UnreadableError, match="gave 4 images, and its info says 12"):
        next(stream)


def test_a_shard_that_is_cut_is_an_error(folder: Path) -> None:
    path = folder / "train-00001-of-00003.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    pieces = probes.load_pieces(f"stream:hf:{folder}/train")
    with pytest.raises(UnreadableError, match=r"shard 1 of 'stream:hf:.* broke off after 0 images"):
        list(pieces.open(1))


def test_files_of_a_folder_are_read_by_their_paths(tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "dog", "cat")):
        path = tmp_path / "f" / "train" / name / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
    pieces = probes.load_pieces(f"stream:hf:{tmp_path}/f/train")
    assert pieces.label_names == ("cat", "dog")
    found = next(pieces.open(0))
    assert sorted(image.tobytes() for image in found.images) == sorted(
        probes.decode(jpeg(number)).tobytes() for number in range(3)
    )


def test_datasets_that_cannot_be_used(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"y": [1]}).save_to_disk(tmp_path / "p")
    with pytest.raises(InputError, match="has no image column; it has y"):
        probes.load_pieces(f"stream:hf:{tmp_path}/p/train")
    with pytest.raises(InputError, match="must be stream:hf:REPO/SPLIT"):
        probes.load_pieces("stream:hf:train")
    with pytest.raises((UnavailableError, MissingError), match="images 'stream:hf:some-owner"):
        probes.load_pieces("stream:hf:some-owner/thing/test")
