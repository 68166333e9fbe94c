"""Batches: in order, without the broken images, bounded, and without a thread left behind."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuronym import probes
from neuronym.errors import InputError, UnreadableError
from probes_pictures import jpeg


class Counted:
    """A probe set that counts what was asked for; every third image is broken."""

    name = "counted"
    labels = None
    label_names = None
    fingerprint = "0" * 16

    def __init__(self, count: int, *, broken: int = 3) -> None:
        self.ids = [f"i{index}" for index in range(count)]
        self.broken = broken
        self.asked: list[int] = []
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Image.Image:
        with self.lock:
            self.asked.append(index)
        if self.broken and index % self.broken == 2:
            raise UnreadableError(f"image {self.ids[index]!r} is broken: why {index}")
        return Image.new("RGB", (1, 1), (index, 0, 0))


def decoding_threads() -> int:
    return sum(thread.name.startswith("neuronym-decode") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_in_order_and_skip_broken_images(workers: int) -> None:
    held = Counted(20)
    stream = probes.batches(held, batch_size=4, workers=workers)
    found = list(stream)
    good = [index for index in range(20) if index % 3 != 2]
    assert [index for batch in found for index in batch.indices.tolist()] == good
    assert [len(batch) for batch in found] == [4, 4, 4, 2]
    for batch in found:
        assert batch.indices.dtype == np.int64
        assert batch.ids == tuple(f"i{index}" for index in batch.indices)
        assert [image.getpixel((0, 0))[0] for image in batch.images] == batch.indices.tolist()
    assert [skipped.index for skipped in stream.skipped] == [2, 5, 8, 11, 14, 17]
    assert stream.skipped[0] == probes.Skipped(2, "i2", "image 'i2' is broken: why 2")
    assert stream.total == 20
    assert decoding_threads() == 0


def test_indices_choose_and_order() -> None:
    stream = probes.batches(Counted(9, broken=0), batch_size=2, indices=np.array([5, 1, 8]))
    assert [batch.indices.tolist() for batch in stream] == [[5, 1], [8]]


def test_a_consumer_that_stops_leaves_no_thread_and_reads_little() -> None:
    held = Counted(1000, broken=0)
    for batch in probes.batches(held, batch_size=5, workers=2):
        assert batch.indices.tolist() == [0, 1, 2, 3, 4]
        break
    assert decoding_threads() == 0
    assert len(held.asked) <= 5 + 2 * 5 + 2
    with probes.batches(held, batch_size=5, workers=2) as stream:
        next(stream)
        assert decoding_threads() > 0
    assert decoding_threads() == 0


def test_an_error_that_is_not_a_broken_image_is_passed_on() -> None:
    class Faulty(Counted):
        def image(self, index: int) -> Image.Image:
            if index == 3:
                raise RuntimeError("a bug")
            return super().image(index)

    with pytest.raises(RuntimeError, match="a bug"):
        list(probes.batches(Faulty(9, broken=0), batch_size=2, workers=2))
    assert decoding_threads() == 0


def test_all_broken_is_an_error() -> None:
    class Broken(Counted):
        def image(self, index: int) -> Image.Image:
            raise UnreadableError(f"image {index} is bad")

    held = Broken(3)
    with pytest.raises(
        InputError, match="every one of the 3 images of 'counted' is broken; the first: image 0"
    ):
        list(probes.batches(held, workers=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"workers": -1}, "workers must be 0 or more"),
        ({"indices": []}, "no images to read from 'counted'"),
        ({"indices": [0, 9]}, "indices must lie in 0 to 8"),
        ({"indices": [-1]}, "indices must lie in 0 to 8"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        probes.batches(Counted(9), **arguments)


def test_a_folder_with_one_bad_file(tmp_path: Path) -> None:
    for index in range(4):
        (tmp_path / f"{index}.jpg").write_bytes(jpeg(index))
    (tmp_path / "1.jpg").write_bytes(jpeg(1)[:-200])
    (tmp_path / "2.jpg").write_bytes(b"")
    stream = probes.batches(probes.load(tmp_path), batch_size=8)
    assert [batch.ids for batch in stream] == [("0.jpg", "3.jpg")]
    assert [skipped.id for skipped in stream.skipped] == ["1.jpg", "2.jpg"]
    assert "is broken: " in stream.skipped[0].reason
    assert "empty" in stream.skipped[1].reason


def test_parquet_is_read_from_several_threads(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": jpeg(row), "path": f"{row}"} for row in range(40)]
    pq.write_table(pa.table({"image": images}), tmp_path / "x.parquet", row_group_size=3)
    held = probes.load(tmp_path / "x.parquet")
    order = np.random.default_rng(0).permutation(40)
    for batch in probes.batches(held, batch_size=7, indices=order, workers=4):
        for index, image in zip(batch.indices, batch.images, strict=True):
            assert image.tobytes() == probes.decode(jpeg(int(index))).tobytes()
