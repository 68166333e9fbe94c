"""Embeddings on disk, by content: computed once, read back where the same is asked for again.

A file is named by a key made from what determines the numbers, carries that key and a checksum,
and appears whole or not at all. A file that is broken or belongs to something else counts as
absent. Several processes may share a folder. Where the folder cannot be written, everything is
computed anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError
from neuronym.files import atomic_path, cache_folder, caches_allowed

__all__ = ["ArrayCache"]

FloatArray = npt.NDArray[np.float32]

_MAGIC = b"neuronym-array-1\n"
_MEBIBYTE = 1 << 20

_log = logging.getLogger(__name__)


class ArrayCache:
    """Two-dimensional float32 arrays by key.

    Args:
        folder: Where the files are; by default ``embeddings`` in the cache folder.
        enabled: ``False`` computes always and touches no file. So does the environment variable
            ``NEURONYM_NO_CACHE``.
        limit_mib: The least recently used files go once their sizes exceed this many MiB.

    Raises:
        InputError: ``limit_mib`` is below 1.
    """

    def __init__(
        self, folder: str | Path | None = None, *, enabled: bool = True, limit_mib: int = 1024
    ) -> None:
        if limit_mib < 1:
            raise InputError(f"limit_mib must be at least 1, not {limit_mib}")
        self.folder = cache_folder() / "embeddings" if folder is None else Path(folder)
        self.enabled = enabled and caches_allowed()
        self._limit = limit_mib * _MEBIBYTE

    def get(
        self, key: str, shape: tuple[int, int], compute: Callable[[], FloatArray]
    ) -> FloatArray:
        """Return the array of ``key``: from disk, else from ``compute``, which is then stored.

        Args:
            key: Made by :func:`neuronym.files.fingerprint` from all that determines the array.
            shape: What the array has; a file of another shape counts as broken.
            compute: Gives the array, ``shape`` float32.
        """
        if not self.enabled:
            return compute()
        path = self.folder / f"{key}.f32"
        found = self._read(path, key, shape)
        if found is not None:
            return found
        array = np.ascontiguousarray(compute(), dtype=np.float32)
        self._write(path, key, array)
        return array

    def _read(self, path: Path, key: str, shape: tuple[int, int]) -> FloatArray | None:
        try:
            data = path.read_bytes()
        except OSError:
            return None
        header, body = _header(key, shape), memoryview(data)[-4 * shape[0] * shape[1] :]
        if shape[0] * shape[1] == 0:
            body = memoryview(b"")
        whole = len(data) == len(header) + 32 + len(body) and data.startswith(header)
        if not whole or data[len(header) : len(header) + 32] != hashlib.sha256(body).digest():
            _log.warning("the cached embeddings %s are broken and are computed again", path.name)
            return None
        try:
            os.utime(path)
        except OSError:
            _log.debug("cannot mark %s as used", path.name)
        return np.frombuffer(body, dtype="<f4").reshape(shape).astype(np.float32)

    def _write(self, path: Path, key: str, array: FloatArray) -> None:
        body = array.astype("<f4").tobytes()
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                file.write(_header(key, (array.shape[0], array.shape[1])))
                file.write(hashlib.sha256(body).digest())
                file.write(body)
            self._prune(path)
        except OSError as error:
            _log.warning(
                "embeddings are not cached in %s: %s", self.folder, error.strerror or error
            )

    def _prune(self, newest: Path) -> None:
        """Delete the least recently used files beyond the limit, never the newest."""
        files = []
        for path in self.folder.glob("*.f32"):
            if path.name.startswith("."):  # another process is writing it
                continue
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._limit:
                break
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size


def _header(key: str, shape: tuple[int, int]) -> bytes:
    return _MAGIC + f"{key} {shape[0]} {shape[1]}\n".encode()
