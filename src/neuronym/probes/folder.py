"""A folder of images; class sub-folders give labels."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuronym.errors import InputError
from neuronym.files import existing, fingerprint
from neuronym.probes.decode import decode

__all__ = ["IMAGE_SUFFIXES", "FolderProbes", "sampled_digest"]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp"}
    | {".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico"}
)
_WHOLE = 64 * 1024
_PIECE = 16 * 1024


class FolderProbes:
    """Every image file below a folder, ordered by path.

    Files whose suffix is not in :data:`IMAGE_SUFFIXES` and hidden files are left out. Where every
    image lies in a sub-folder, and there are two or more such sub-folders, the first folder of
    its path is its class.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """List the images of ``folder``; nothing is read yet.

        Raises:
            MissingError: The folder does not exist.
            InputError: It is not a folder, or there is no image in it.
        """
        self._root = existing(Path(folder), what="image folder")
        if not self._root.is_dir():
            raise InputError(f"images {str(folder)!r} is a file; give a folder or a .parquet file")
        self.name = str(folder)
        self._paths = _list_images(self._root)
        self.ids: tuple[str, ...] = tuple(_printable(path) for path in self._paths)
        if not self.ids:
            raise InputError(
                f"no images in {str(folder)!r}; looked for {' '.join(sorted(IMAGE_SUFFIXES))}"
            )
        self.label_names, self.labels = _classes(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """Of every image's path, size and bytes.

        Files up to 64 KiB count whole, larger ones by 16 KiB at their start, middle and end.
        """
        return fingerprint(
            "folder", [[name, sampled_digest(self._root / name)] for name in self._paths]
        )

    def image(self, index: int) -> Image.Image:
        """Decode one image; :class:`UnreadableError` names a broken one and says why."""
        return decode(self._root / self._paths[index], name=self.ids[index])

    def reduced(self, index: int, at_least: int) -> Image.Image:
        """Decode one image, a JPEG at reduced size; see :func:`decode`."""
        return decode(self._root / self._paths[index], name=self.ids[index], at_least=at_least)


def _printable(path: str) -> str:
    """Return a path as text that any file can hold: bytes that are not UTF-8 become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _list_images(root: Path) -> tuple[str, ...]:
    found: list[str] = []
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            (Path(folder) / name).relative_to(root).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return tuple(sorted(found))


def _classes(
    ids: tuple[str, ...],
) -> tuple[tuple[str, ...] | None, npt.NDArray[np.int64] | None]:
    first = [name.split("/")[0] if "/" in name else None for name in ids]
    names = sorted({name for name in first if name is not None})
    if None in first or len(names) < 2:
        return None, None
    index = {name: number for number, name in enumerate(names)}
    labels = np.array([index[name] for name in first if name is not None], dtype=np.int64)
    return tuple(names), labels


def sampled_digest(path: Path) -> str:
    """Hash a file's size and bytes, or its start, middle and end where it is large.

    A file that cannot be read counts as such: it will be skipped when images are decoded.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(b"%d:" % size)
            if size <= _WHOLE:
                digest.update(file.read())
            else:
                for offset in (0, size // 2, size - _PIECE):
                    file.seek(offset)
                    digest.update(file.read(_PIECE))
    except OSError as error:
        digest.update(f"unreadable {error.errno}".encode())
    return digest.hexdigest()
