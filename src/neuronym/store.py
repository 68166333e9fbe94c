"""A chunked store of arrays whose rows are images, identified by what determined its numbers.

A store is a folder: one zarr array per name and ``store.json``, which is written last and holds
the identity and a checksum of every file. While it is written it lies in a temporary folder
beside its place, so that a folder with the right name is always whole. Works with zarr 2.18 and
with zarr 3.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuronym.errors import FolderInUseError, InputError, MissingError, UnreadableError, nearest

__all__ = ["Store", "StoreWriter", "create", "differences", "open_store", "prune", "try_open"]

SCHEMA = 1
INDEX = "store.json"
_CHUNK_BYTES = 4 << 20

Identity = Mapping[str, Any]
Array = npt.NDArray[Any]


class Store:
    """A finished store, read only; made by :func:`open_store`.

    Attributes:
        folder: Where it is.
        identity: What determined its numbers, as it was given to :func:`create`.
        facts: What the writer found out, as it was given to :meth:`StoreWriter.note`.
    """

    def __init__(self, folder: Path, index: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity: Identity = index["identity"]
        self.facts: Identity = index["facts"]
        self._names: list[str] = index["arrays"]
        self._checksums: Mapping[str, str] = index.get("checksums", {})
        self._open: dict[str, Any] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays, in the order in which they were begun."""
        return tuple(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array; the first dimension counts rows."""
        return tuple(int(size) for size in self._array(name).shape)

    def read(
        self, name: str, start: int = 0, stop: int | None = None, *, columns: slice | None = None
    ) -> Array:
        """Read rows ``start`` to ``stop`` (and a slice of columns) into memory.

        Raises:
            InputError: There is no such array.
            UnreadableError: A chunk is damaged.
        """
        array = self._array(name)
        chosen = (slice(start, stop),) if columns is None else (slice(start, stop), columns)
        try:
            return np.asarray(array[chosen])
        except (OSError, ValueError, RuntimeError) as error:
            raise UnreadableError(f"array {name!r} of {str(self.folder)!r}: {error}") from error

    def verify(self) -> None:
        """Compare every file with the checksum that was taken when it was written.

        Raises:
            UnreadableError: A file is lost or damaged; the text names the file and its array.
        """
        for relative, expected in self._checksums.items():
            path = self.folder / relative
            try:
                found = _checksum(path)
            except OSError as error:
                found = error.strerror or "cannot be read"
            if found != expected:
                name = self._names[int(relative.partition("/")[0])]
                raise UnreadableError(
                    f"chunk {relative!r} of array {name!r} in {str(self.folder)!r} is damaged: "
                    f"its checksum is {found}, not {expected}"
                )

    def _array(self, name: str) -> Any:
        if name not in self._names:
            close = ", ".join(nearest(name, self._names)) or ", ".join(self._names[:5])
            raise InputError(f"store has no array {name!r}; nearest: {close}")
        if name not in self._open:
            import zarr

            path = self.folder / str(self._names.index(name))
            try:
                self._open[name] = zarr.open_array(str(path), mode="r")
            except Exception as error:  # zarr 2 and 3 raise different classes for a lost array
                raise UnreadableError(
                    f"array {name!r} of {str(self.folder)!r} cannot be read: {error}"
                ) from error
        return self._open[name]


class StoreWriter:
    """Appends rows to arrays; made by :func:`create`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._arrays: dict[str, Any] = {}
        self._pending: dict[str, list[Array]] = {}
        self._waiting: dict[str, int] = {}
        self._facts: dict[str, Any] = {}

    def append(self, name: str, rows: Array) -> None:
        """Append rows to an array; the first call fixes its dtype and the shape of a row.

        Rows are gathered into whole chunks before they are written.

        Raises:
            InputError: The rows do not fit those before.
        """
        rows = np.asarray(rows)
        if rows.ndim < 1:
            raise InputError(f"rows of {name!r} need a dimension of rows, not a single number")
        if name not in self._arrays:
            self._arrays[name] = self._begin(rows)
            self._pending[name], self._waiting[name] = [], 0
        array = self._arrays[name]
        if rows.shape[1:] != tuple(array.shape[1:]) or rows.dtype != array.dtype:
            raise InputError(
                f"rows of {name!r} are {rows.dtype} {rows.shape[1:]}, those before "
                f"{array.dtype} {tuple(array.shape[1:])}"
            )
        self._pending[name].append(rows.copy())
        self._waiting[name] += len(rows)
        length = int(array.chunks[0])
        if self._waiting[name] >= length:
            self._flush(name, self._waiting[name] // length * length)

    def note(self, **facts: Any) -> None:
        """Keep facts, of JSON types, beside the arrays."""
        self._facts.update(facts)

    def _begin(self, rows: Array) -> Any:
        import zarr

        row_bytes = max(1, rows[:1].nbytes or rows.dtype.itemsize)
        length = max(1, min(1024, _CHUNK_BYTES // row_bytes))
        # Format 2 is what both read; zarr 2 knows no other and does not take the keyword.
        newer = {} if zarr.__version__.startswith("2.") else {"zarr_format": 2}
        return zarr.open_array(
            str(self._folder / str(len(self._arrays))),
            mode="w",
            shape=(0, *rows.shape[1:]),
            chunks=(length, *(max(1, size) for size in rows.shape[1:])),
            dtype=rows.dtype,
            **newer,
        )

    def _flush(self, name: str, count: int) -> None:
        rows = np.concatenate(self._pending[name])
        self._arrays[name].append(rows[:count])
        self._pending[name], self._waiting[name] = [rows[count:]], len(rows) - count

    def _finish(self, identity: Identity) -> None:
        for name, waiting in self._waiting.items():
            if waiting:
                self._flush(name, waiting)
        index = {
            "kind": "store",
            "schema": SCHEMA,
            "identity": identity,
            "facts": self._facts,
            "arrays": list(self._arrays),
            "checksums": {
                path.relative_to(self._folder).as_posix(): _checksum(path)
                for path in sorted(self._folder.rglob("*"))
                if path.is_file()
            },
        }
        _write_json(self._folder / INDEX, index)


@contextlib.contextmanager
def create(folder: str | Path, identity: Identity) -> Iterator[StoreWriter]:
    """Write a store; it appears at ``folder`` when the block succeeds, and not at all otherwise.

    Args:
        folder: Where it will be. A store that is there already is replaced.
        identity: What determines the numbers (fingerprints, settings), of JSON types.

    Raises:
        FolderInUseError: ``folder`` holds something that is not a store.
        InputError: ``identity`` is not JSON.
    """
    folder = Path(folder)
    _check_replaceable(folder)
    known = _plain(identity)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        writer = StoreWriter(temporary)
        yield writer
        writer._finish(known)
        temporary.chmod(0o755)
        _take_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def open_store(folder: str | Path, identity: Identity | None = None) -> Store:
    """Open a finished store and check that it is what the caller needs.

    Args:
        folder: Where it is.
        identity: What it must have been made from; ``None`` takes it as it is.

    Raises:
        MissingError: There is no folder.
        UnreadableError: The folder is not a finished store.
        InputError: It was made from something else; the text says which fields differ.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingError(f"store {str(folder)!r} does not exist")
    index = _read_index(folder)
    if index is None:
        raise UnreadableError(f"{str(folder)!r} is not a finished store: no readable {INDEX}")
    if index["schema"] > SCHEMA:
        raise UnreadableError(
            f"store {str(folder)!r} has schema {index['schema']}; this version reads up to "
            f"{SCHEMA}: update neuronym"
        )
    if identity is not None:
        different = differences(index["identity"], _plain(identity))
        if different:
            raise InputError(
                f"store {str(folder)!r} was made from something else: " + "; ".join(different)
            )
    with contextlib.suppress(OSError):  # says to prune() that it is in use; may be read only
        os.utime(folder / INDEX)
    return Store(folder, index)


def try_open(folder: str | Path, identity: Identity) -> Store | None:
    """Open a store if it is there, whole, and made from ``identity``; else return ``None``."""
    try:
        return open_store(folder, identity)
    except (InputError, MissingError, UnreadableError):
        return None


def prune(
    parent: str | Path, *, limit_bytes: int, keep: Sequence[Path] = (), index: str = INDEX
) -> list[Path]:
    """Delete the stores of a folder that were opened longest ago, until the rest fits a limit.

    Args:
        parent: A folder of stores; whatever else it holds is not touched.
        limit_bytes: What all stores together may take.
        keep: Stores that stay.
        index: The file that makes a folder a store, and whose time says when it was used.

    Returns:
        The stores that were deleted.
    """
    found = []
    for folder in Path(parent).glob("*"):
        if not folder.name.startswith(".") and (folder / index).is_file():
            with contextlib.suppress(FileNotFoundError):  # another process deletes it just now
                files = [path.stat() for path in folder.rglob("*") if path.is_file()]
                size = sum(status.st_size for status in files)
                found.append(((folder / index).stat().st_mtime_ns, size, folder))
    total = sum(size for _, size, _ in found)
    gone = []
    for _, size, folder in sorted(found):
        if total <= limit_bytes:
            break
        if folder not in keep:
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(folder)
            total -= size
    return gone


def differences(found: Identity, wanted: Identity) -> list[str]:
    """Say which fields of two identities differ, e.g. ``["pooling is 'max', not 'mean'"]``."""
    keys = [*wanted, *(key for key in found if key not in wanted)]
    return [
        f"{key} is {_short(found.get(key))}, not {_short(wanted.get(key))}"
        for key in keys
        if found.get(key) != wanted.get(key)
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _checksum(path: Path) -> str:
    """Return the CRC-32 of a file in hexadecimal digits."""
    value = 0
    with path.open("rb") as file:
        while part := file.read(_CHUNK_BYTES):
            value = zlib.crc32(part, value)
    return f"{value:08x}"


def _plain(identity: Identity) -> dict[str, Any]:
    """Return the identity as JSON gives it back, so that tuples and lists compare equal."""
    try:
        return dict(json.loads(json.dumps(dict(identity), allow_nan=False, sort_keys=True)))
    except (TypeError, ValueError) as error:
        raise InputError(f"an identity must be of JSON types: {error}") from error


def _read_index(folder: Path) -> dict[str, Any] | None:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    needed: Sequence[str] = ("schema", "identity", "facts", "arrays")
    if not isinstance(index, dict) or index.get("kind") != "store":
        return None
    return index if all(key in index for key in needed) else None


def _check_replaceable(folder: Path) -> None:
    if folder.is_dir() and (not any(folder.iterdir()) or _read_index(folder) is not None):
        return
    if folder.exists():
        raise FolderInUseError(f"{str(folder)!r} holds something that is not a store")


def _take_place(temporary: Path, folder: Path) -> None:
    """Move a finished store to its place; another process may have finished the same first."""
    if folder.exists():
        old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            folder.replace(old / "old")
            temporary.replace(folder)
        finally:
            shutil.rmtree(old, ignore_errors=True)
    else:
        temporary.replace(folder)


def _write_json(path: Path, value: Any) -> None:
    try:
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"facts of a store must be of JSON types: {error}") from error
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
