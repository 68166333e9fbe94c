"""Batches: in order, without the broken images, bounded, and without a thread left behind."""

from __future__ import annotations

import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuronym import probes
from neuronym.errors import InputError, UnreadableError
from probes_pictures import encoded, jpeg, photo


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


def test_each_batch_says_how_far_it_read() -> None:
    held = Counted(20)
    held.labels = np.arange(20) % 4
    stream = probes.batches(held, batch_size=4)
    ends, met = [], []
    for batch in stream:
        ends.append(batch.end)
        met.append(len(stream.skipped))
        assert batch.labels.tolist() == (batch.indices % 4).tolist()
    assert ends == [5, 11, 17, 20]  # of 20, every third is broken
    assert met == [1, 3, 5, 6]
    assert stream.end == 20
    assert next(probes.batches(Counted(3), batch_size=1)).labels is None


class Remembered(Counted):
    """Keeps a weak reference to every image, and the largest number alive at once."""

    def __init__(self, count: int) -> None:
        super().__init__(count, broken=0)
        self.images: list[weakref.ref[Image.Image]] = []
        self.most = 0
        self.threads: set[str] = set()

    def image(self, index: int) -> Image.Image:
        image = super().image(index)
        with self.lock:
            self.images.append(weakref.ref(image))
            self.most = max(self.most, sum(ref() is not None for ref in self.images))
            self.threads.add(threading.current_thread().name)
        return image


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_at_most_two_batches_wait_while_one_is_used(workers: int) -> None:
    held = Remembered(60)
    stream = probes.batches(held, batch_size=5, workers=workers)
    for _ in range(12):
        batch = next(stream)
        if workers and batch.end + 10 <= 60:
            # The threads read two batches ahead of the one in hand, and then they wait.
            for _ in range(30_000):
                if len(held.asked) >= batch.end + 10:
                    break
                time.sleep(0.001)
            assert len(held.asked) == batch.end + 10
        del batch
    assert len(held.images) == 60
    assert held.most <= (3 * 5 + 1 if workers else 5 + 1)


def test_prepare_runs_where_images_are_decoded() -> None:
    held = Remembered(12)
    threads = set()

    def shade(image: Image.Image) -> int:
        threads.add(threading.current_thread().name.rpartition("_")[0])
        return image.getpixel((0, 0))[0]

    prepare = {"shade": shade, "size": lambda image: image.size}
    stream = probes.batches(held, batch_size=5, workers=2, prepare=prepare)
    for batch in stream:
        assert batch.prepared["shade"] == tuple(batch.indices.tolist())
        assert batch.prepared["size"] == ((1, 1),) * len(batch)
        assert len(batch.images) == len(batch)
    assert threads == {"neuronym-decode"}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_prepare_names_the_image(workers: int) -> None:
    def fail(image: Image.Image) -> None:
        if image.getpixel((0, 0))[0] == 4:
            raise TypeError("no such  layout")

    stream = probes.batches(
        Counted(9, broken=0), batch_size=2, workers=workers, prepare={"target": fail}
    )
    with pytest.raises(
        InputError, match="preparing 'target' failed on image 'i4': TypeError: no such layout"
    ) as caught:
        list(stream)
    assert isinstance(caught.value.__cause__, TypeError)
    assert decoding_threads() == 0


def test_reduced_size_reaches_every_set_that_has_files(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(photo(0, (320, 240)), "JPEG"))
    files = probes.load(tmp_path)
    for held in (files, probes.subset(files, [0])):
        batch = next(probes.batches(held, at_least=100))
        assert batch.images[0].size == (160, 120)
    held = probes.from_images([photo(0, (320, 240))])
    assert next(probes.batches(held, at_least=100)).images[0].size == (320, 240)
    assert next(probes.batches(Counted(1), at_least=100)).images[0].size == (1, 1)
