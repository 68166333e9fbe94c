"""Files and folders: atomic writes, fingerprints by content, and output folders.

A stage writes into a folder and writes ``manifest.json`` last. A folder without its manifest is
an unfinished run; a folder whose manifest names another run is not touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronym.errors import FolderInUseError, InputError, MissingError, UnreadableError

__all__ = [
    "CACHE_SWITCH",
    "MANIFEST",
    "Claim",
    "atomic_path",
    "cache_folder",
    "caches_allowed",
    "claim_folder",
    "fingerprint",
    "fingerprint_file",
    "held_kind",
    "locked",
    "output_folder",
    "read_json",
    "read_manifest",
    "read_record",
    "write_json",
    "write_manifest",
]

CACHE_SWITCH = "NEURONYM_NO_CACHE"
"""Environment variable: any value but ``0`` or nothing turns the caches off."""
MANIFEST = "manifest.json"
MARKER = ".neuronym"
LOCK = ".lock"
_CHUNK = 1 << 20


def cache_folder() -> Path:
    """Return the folder for caches: ``$NEURONYM_CACHE``, else the user's cache folder."""
    if given := os.environ.get("NEURONYM_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "neuronym"


def caches_allowed() -> bool:
    """Return whether :data:`CACHE_SWITCH` leaves the caches on."""
    return os.environ.get(CACHE_SWITCH, "0") in ("", "0")


def fingerprint(*parts: object) -> str:
    """Return 16 hexadecimal digits that identify ``parts`` by content.

    Strings, bytes, numbers, ``None`` and (nested) lists, tuples and mappings of them are allowed;
    mappings count without regard to order. Each part is framed by its length, so that
    ``("ab", "c")`` and ``("a", "bc")`` differ.

    Raises:
        InputError: For a part of another type.
    """
    digest = hashlib.sha256()
    for part in parts:
        _update(digest, part)
    return digest.hexdigest()[:16]


def _update(digest: Any, part: object) -> None:
    if isinstance(part, (bytes, bytearray, memoryview)):
        data = bytes(part)
        digest.update(b"b%d:" % len(data) + data)
    elif part is None or isinstance(part, (str, int, float, bool)):
        data = repr(_builtin(part)).encode("utf-8", "surrogatepass")
        digest.update(b"s%d:" % len(data) + data)
    elif isinstance(part, Mapping):
        items = sorted(part.items(), key=lambda item: (str(item[0]), type(item[0]).__name__))
        digest.update(b"m%d:" % len(items))
        for key, value in items:
            _update(digest, key)
            _update(digest, value)
    elif isinstance(part, (list, tuple)):
        digest.update(b"l%d:" % len(part))
        for item in part:
            _update(digest, item)
    else:
        raise InputError(f"cannot fingerprint a {type(part).__name__}; give its bytes or its text")


def _builtin(part: str | float | None) -> str | float | None:
    """Return a scalar of a subclass, such as NumPy's, as the builtin whose value it has."""
    if part is None or isinstance(part, bool):
        return part
    if isinstance(part, int):
        return int(part)
    return float(part) if isinstance(part, float) else str.__str__(part)


def fingerprint_file(path: str | Path) -> str:
    """Return 16 hexadecimal digits that identify a file by its bytes."""
    digest = hashlib.sha256()
    with _file(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:16]


def existing(path: str | Path, *, what: str = "file") -> Path:
    """Return ``path`` as a :class:`~pathlib.Path`, or raise :class:`MissingError`."""
    path = Path(path)
    if not path.exists():
        raise MissingError(f"{what} {str(path)!r} does not exist")
    return path


def _file(path: str | Path, *, what: str = "file") -> Path:
    path = existing(path, what=what)
    if path.is_dir():
        raise UnreadableError(f"{what} {str(path)!r} is a folder")
    return path


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: object) -> None:
    """Write ``value`` as indented UTF-8 JSON, atomically; NumPy scalars become plain numbers.

    Raises:
        InputError: Something in ``value`` is not JSON: NaN, infinity, an array, an object.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_scalar)
    except (TypeError, ValueError) as error:
        raise InputError(f"cannot write {str(path)!r}: {error}") from error
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _scalar(value: Any) -> Any:
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    raise TypeError(f"a {type(value).__name__} is not JSON")


def read_json(path: str | Path, *, what: str = "file") -> Any:
    """Read a JSON file; :class:`MissingError` or :class:`UnreadableError` say what is wrong."""
    path = _file(path, what=what)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UnreadableError(f"{what} {str(path)!r} is not JSON: {error}") from error


def read_record(path: str | Path, *, kind: str, schema: int) -> dict[str, Any]:
    """Read a JSON file that holds one ``kind`` of record, and check its kind and schema.

    Raises:
        MissingError: The file does not exist.
        UnreadableError: It is not JSON, of another kind, or of a newer schema.
    """
    record = read_json(path, what=kind)
    return _checked(record, str(path), kind=kind, schema=schema)


def _checked(record: Any, where: str, *, kind: str, schema: int) -> dict[str, Any]:
    found = record.get("kind") if isinstance(record, dict) else None
    if found != kind:
        held = repr(found) if found else "something else"
        raise UnreadableError(f"{where!r} holds {held}, not {kind!r}")
    number = record.get("schema", 0)
    if not isinstance(number, int):
        raise UnreadableError(f"{where!r} has the schema {number!r}, which is not a number")
    if number > schema:
        raise UnreadableError(
            f"{where!r} has schema {number} of {kind!r}; "
            f"this version reads up to {schema}: update neuronym"
        )
    return dict(record)


def write_manifest(folder: str | Path, *, kind: str, schema: int, **fields: object) -> None:
    """Write ``folder/manifest.json``: the last act of a stage, which says that it is whole."""
    write_json(Path(folder) / MANIFEST, {"kind": kind, "schema": schema, **fields})


def read_manifest(folder: str | Path, *, kind: str, schema: int) -> dict[str, Any]:
    """Read and check the manifest of a finished ``kind`` folder.

    Raises:
        MissingError: The folder does not exist.
        UnreadableError: There is no manifest (the run did not finish), it is of another kind, or
            of a newer schema.
    """
    folder = existing(folder, what=f"{kind} folder")
    path = folder / MANIFEST
    if not path.is_file():
        raise UnreadableError(
            f"{str(folder)!r} is not a finished {kind} folder: it has no {MANIFEST}"
        )
    return _checked(read_json(path), str(folder), kind=kind, schema=schema)


@dataclass(frozen=True)
class Claim:
    """An output folder that a run may write, and that keeps an earlier run until it is cleared.

    Claim before the work, so that a folder in use is found at once; clear when the input has
    proved good, so that a request that fails costs nothing.

    Attributes:
        folder: The folder; it exists and is marked.
        kind: Of the run.
        overwrite: Whether an earlier run of the same kind is replaced.
        made: The folders that the claim made, innermost first.
        marked: Whether the claim put the marker there.
    """

    folder: Path
    kind: str
    overwrite: bool
    made: tuple[Path, ...] = ()
    marked: bool = False

    @contextlib.contextmanager
    def returned_on_failure(self) -> Iterator[None]:
        """Take the claim back if the block fails before anything is written into the folder.

        Then the marker and the folders that this claim made are removed again; what was there
        before stays.
        """
        try:
            yield
        except BaseException:
            self._give_back()
            raise

    def _give_back(self) -> None:
        if not self.marked or any(child.name != MARKER for child in self.folder.iterdir()):
            return
        (self.folder / MARKER).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another program has put something into it
            for folder in self.made:
                folder.rmdir()

    def clear(self) -> Path:
        """Remove an earlier run and return the folder, which is then empty but for its marker.

        Raises:
            FolderInUseError: The folder was put to another use since it was claimed.
        """
        return self._clear(keep=())

    @contextlib.contextmanager
    def staged(self) -> Iterator[Path]:
        """Yield a folder whose content takes the place of an earlier run if the block succeeds."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".new-") as name:
            yield Path(name)
            self._clear(keep=(Path(name).name,))
            for child in list(Path(name).iterdir()):
                child.rename(self.folder / child.name)

    def _clear(self, keep: tuple[str, ...]) -> Path:
        keep = (MARKER, *keep)
        _refuse_used(self.folder, self.kind, overwrite=self.overwrite, keep=keep)
        if self.overwrite:
            _clear(self.folder, keep)
        return self.folder


def claim_folder(path: str | Path, *, kind: str, overwrite: bool = False) -> Claim:
    """Claim ``path`` for a run of ``kind``; what it holds stays until :meth:`Claim.clear`.

    A missing or empty folder is fine, and so is one that a run of this kind has claimed and not
    written to. A folder that holds a finished or begun run of the same kind needs
    ``overwrite=True``. Anything else is refused.

    Raises:
        FolderInUseError: The folder holds another run, or files that are not a run.
        InputError: The folder cannot be made or written into.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise FolderInUseError(f"output {str(path)!r} is a file; give a folder")
    if path.is_dir():
        _refuse_used(path, kind, overwrite=overwrite, keep=(MARKER,))
    made = tuple(each for each in (path, *path.parents) if not each.exists())
    marked = not (path / MARKER).exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / MARKER).write_text(kind + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write into output {str(path)!r}: {error.strerror}") from error
    return Claim(path, kind, overwrite, made, marked)


def output_folder(path: str | Path, *, kind: str, overwrite: bool = False) -> Path:
    """Claim ``path`` for a run of ``kind`` and return it, cleared of any earlier run.

    As :func:`claim_folder` and :meth:`Claim.clear` at once. Nothing is deleted in a folder that
    is refused.

    Raises:
        FolderInUseError: The folder holds another run, or files that are not a run.
        InputError: The folder cannot be made or written into.
    """
    return claim_folder(path, kind=kind, overwrite=overwrite).clear()


def held_kind(folder: str | Path) -> str | None:
    """Return the kind of run, finished or not, that a folder was claimed for, or ``None``."""
    marker = Path(folder) / MARKER
    return (
        marker.read_text(encoding="utf-8", errors="replace").strip() if marker.is_file() else None
    )


@contextlib.contextmanager
def locked(folder: str | Path, *, doing: str) -> Iterator[None]:
    """Hold a folder's lock, which the system releases when a process dies.

    Args:
        folder: The folder; it exists.
        doing: What another process that holds it does, e.g. ``"records"``.

    Raises:
        FolderInUseError: Another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows, where two writers are not noticed
        yield
        return
    handle: Any = os.open(Path(folder) / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FolderInUseError(
                f"another process {doing} into {str(folder)!r}; wait for it, or give a new folder"
            ) from error
        yield
    finally:
        os.close(handle)


def _refuse_used(folder: Path, kind: str, *, overwrite: bool, keep: tuple[str, ...]) -> None:
    """Refuse a folder that must not be written; entries named in ``keep`` are no content."""
    names = {child.name for child in folder.iterdir()}
    held = held_kind(folder)
    if names and held != kind:
        what = f"a run of {held!r}" if held else "files that are not a neuronym run"
        raise FolderInUseError(f"output {str(folder)!r} holds {what}; give a new folder")
    if names - set(keep) and not overwrite:
        raise FolderInUseError(
            f"output {str(folder)!r} already holds a run of {kind!r}; "
            "give a new folder or pass --overwrite"
        )


def _clear(folder: Path, keep: tuple[str, ...]) -> None:
    """Empty a run's folder: the manifest first, so that a half-cleared run never looks whole.

    The marker stays, so that the same command can go on after an interruption.
    """
    (folder / MANIFEST).unlink(missing_ok=True)
    for child in folder.iterdir():
        if child.name in keep:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
