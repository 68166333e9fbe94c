"""The cache of embeddings: by content, whole or absent, shared, bounded, and easy to turn off."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from neuronym.errors import InputError
from neuronym.files import CACHE_SWITCH
from neuronym.vision_text.cache import ArrayCache

FloatArray = npt.NDArray[np.float32]


class Counted:
    """A computation that counts how often it runs."""

    def __init__(self, rows: int = 5, value: float = 0.0) -> None:
        self.calls = 0
        self._array = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3) + np.float32(value)

    def __call__(self) -> FloatArray:
        self.calls += 1
        return self._array


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArrayCache:
    monkeypatch.delenv(CACHE_SWITCH, raising=False)
    return ArrayCache(tmp_path)


def test_the_second_time_is_read(cache: ArrayCache) -> None:
    compute = Counted()
    first, second = (cache.get("key", (5, 3), compute) for _ in range(2))
    assert compute.calls == 1
    assert np.array_equal(first, second)
    assert second.dtype == np.float32
    second[0, 0] = 1  # a reader may change what it got
    assert cache.get("key", (5, 3), compute)[0, 0] == 0


def test_another_key_is_another_array(cache: ArrayCache) -> None:
    assert cache.get("a", (5, 3), Counted())[0, 0] == 0
    assert cache.get("b", (5, 3), Counted(value=7))[0, 0] == 7


def test_an_empty_array_is_kept(cache: ArrayCache) -> None:
    compute = Counted(rows=0)
    assert [cache.get("none", (0, 3), compute).shape for _ in range(2)] == [(0, 3)] * 2
    assert compute.calls == 1


def cut(data: bytes) -> bytes:
    return data[:-4]


def longer(data: bytes) -> bytes:
    return data + b"\0\0\0\0"


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def emptied(data: bytes) -> bytes:
    return b""


def renamed(data: bytes) -> bytes:
    return data.replace(b"key ", b"kay ")


@pytest.mark.parametrize("damage", [cut, longer, flipped, emptied, renamed])
def test_a_broken_file_is_computed_again(
    cache: ArrayCache, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    compute = Counted()
    cache.get("key", (5, 3), compute)
    path = cache.folder / "key.f32"
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        again = cache.get("key", (5, 3), compute)
    assert compute.calls == 2
    assert np.array_equal(again, compute())
    assert "key.f32 are broken" in caplog.text
    before = compute.calls
    cache.get("key", (5, 3), compute)
    assert compute.calls == before, "the broken file was not replaced"


def test_a_file_of_another_shape_is_broken(cache: ArrayCache) -> None:
    cache.get("key", (5, 3), Counted())
    compute = Counted(rows=4)
    assert cache.get("key", (4, 3), compute).shape == (4, 3)
    assert compute.calls == 1


def test_it_can_be_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = Counted()
    off = ArrayCache(tmp_path / "off", enabled=False)
    for _ in range(2):
        off.get("key", (5, 3), compute)
    monkeypatch.setenv(CACHE_SWITCH, "1")
    ArrayCache(tmp_path / "off").get("key", (5, 3), compute)
    assert compute.calls == 3
    assert not (tmp_path / "off").exists()
    monkeypatch.setenv(CACHE_SWITCH, "0")
    assert ArrayCache(tmp_path / "off").enabled


def test_the_default_folder_follows_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURONYM_CACHE", str(tmp_path / "mine"))
    assert ArrayCache().folder == tmp_path / "mine" / "embeddings"


def test_a_folder_that_cannot_be_written_is_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ArrayCache(tmp_path / "file" / "below")
    with caplog.at_level(logging.WARNING):
        assert cache.get("key", (5, 3), Counted()).shape == (5, 3)
    assert "are not cached in" in caplog.text


def test_the_oldest_files_go(tmp_path: Path) -> None:
    import os

    cache = ArrayCache(tmp_path, limit_mib=1)
    rows = 30_000  # 360 kB each: two fit
    for number, key in enumerate(("first", "second")):
        cache.get(key, (rows, 3), Counted(rows))
        os.utime(tmp_path / f"{key}.f32", (1000 + number, 1000 + number))
    cache.get("first", (rows, 3), Counted(rows))  # used again: now younger than the second
    cache.get("third", (rows, 3), Counted(rows))
    assert {path.stem for path in tmp_path.glob("*.f32")} == {"first", "third"}
    with pytest.raises(InputError, match="at least 1, not 0"):
        ArrayCache(tmp_path, limit_mib=0)


def test_threads_and_processes_share_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from neuronym.vision_text.cache import ArrayCache\n"
        "cache = ArrayCache(sys.argv[1])\n"
        "for _ in range(30):\n"
        "    rows = cache.get('key', (2000, 3), lambda: np.full((2000, 3), 7, dtype=np.float32))\n"
        "    assert (rows == 7).all()\n"
        "    (cache.folder / 'key.f32').unlink(missing_ok=True)\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    cache, wrong = ArrayCache(tmp_path), []

    def read() -> None:
        for _ in range(100):
            rows = cache.get("key", (2000, 3), lambda: np.full((2000, 3), 7, dtype=np.float32))
            if not (rows == 7).all():
                wrong.append(rows)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait(timeout=120) for other in others] == [0, 0]
    assert not wrong
    assert not list(tmp_path.glob(".*")), "temporary files are left"
