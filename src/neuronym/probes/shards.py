"""WebDataset shards: tar files whose members are grouped by name."""

from __future__ import annotations

import glob
import hashlib
import re
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from neuronym.errors import InputError, MissingError, UnavailableError, UnreadableError
from neuronym.files import atomic_path, cache_folder, fingerprint
from neuronym.probes.decode import decode
from neuronym.probes.folder import IMAGE_SUFFIXES, sampled_digest
from neuronym.probes.memory import check_labels

__all__ = [
    "ShardProbes",
    "class_text",
    "expand_braces",
    "is_address",
    "sample_part",
    "shard_places",
]

_RANGE = re.compile(r"\{([^{}]*)\}")
_MAX_SHARDS = 100_000


@dataclass(frozen=True)
class _Member:
    """Where one image lies: the shard's number, and its bytes in the shard."""

    shard: int
    offset: int
    size: int


class ShardProbes:
    """The images of tar shards, read at random by an index of their headers.

    The members of one sample share their name up to the first dot: an image, and optionally its
    class as text in a member ``.cls``. Samples without an image are left out. Shards on the web
    are downloaded once into the cache.
    """

    def __init__(self, pattern: str) -> None:
        """Find and index the shards.

        Args:
            pattern: Paths or ``http(s)`` addresses of uncompressed tar files, with ranges
                ``{000..012}`` or lists ``{a,b}``; in paths also ``*`` and ``?``.

        Raises:
            InputError: The pattern is malformed, or no shard has an image.
            MissingError: No file matches.
            UnavailableError: A shard on the web cannot be reached.
            UnreadableError: A shard is not an uncompressed tar file, or is truncated.
        """
        self.name = f"webdataset:{pattern}"
        self._shards = [
            _fetched(place) if is_address(place) else Path(place) for place in shard_places(pattern)
        ]
        self._members: list[_Member] = []
        ids: list[str] = []
        classes: list[int] = []
        for number, shard in enumerate(self._shards):
            for key, member, label in _samples(shard, number):
                ids.append(key)
                self._members.append(member)
                classes.append(label)
        if not self._members:
            raise InputError(f"no images in the shards of {pattern!r}")
        if len(set(ids)) != len(ids):
            stems = [self._shards[member.shard].stem for member in self._members]
            ids = [f"{stem}/{key}" for stem, key in zip(stems, ids, strict=True)]
        if len(set(ids)) != len(ids):
            ids = [f"{name}#{number}" for number, name in enumerate(ids)]
        self.ids = tuple(ids)
        labelled = any(label >= 0 for label in classes)
        self.labels = check_labels(classes, count=len(ids), names=None) if labelled else None
        self.label_names = (
            tuple(f"class {label}" for label in range(int(np.max(classes)) + 1))
            if labelled
            else None
        )

    def __len__(self) -> int:
        return len(self._members)

    @cached_property
    def fingerprint(self) -> str:
        """Of every member's name, place and size, and of the shards' start, middle and end."""
        places = [[member.shard, member.offset, member.size] for member in self._members]
        shards = [sampled_digest(shard) for shard in self._shards]
        return fingerprint("webdataset", list(self.ids), places, shards)

    def image(self, index: int) -> Image.Image:
        """Decode one image; :class:`UnreadableError` names a broken one and says why."""
        return self._decoded(index, None)

    def reduced(self, index: int, at_least: int) -> Image.Image:
        """Decode one image, a JPEG at reduced size; see :func:`decode`."""
        return self._decoded(index, at_least)

    def _decoded(self, index: int, at_least: int | None) -> Image.Image:
        member = self._members[index]
        name = self.ids[index]
        try:
            with self._shards[member.shard].open("rb") as file:
                file.seek(member.offset)
                data = file.read(member.size)
        except OSError as error:
            raise UnreadableError(f"image {name!r} cannot be read: {error.strerror}") from error
        return decode(data, name=name, at_least=at_least)


def expand_braces(pattern: str) -> list[str]:
    """Expand ``{000..012}`` (with the zeros kept) and ``{a,b}``, leftmost first.

    Raises:
        InputError: A brace is not a range of whole numbers or a list, or there are too many.
    """
    match = _RANGE.search(pattern)
    if not match:
        if "{" in pattern or "}" in pattern:
            raise InputError(f"shard pattern {pattern!r} has an unmatched brace")
        return [pattern]
    inner = match.group(1)
    bounds = re.fullmatch(r"(\d+)\.\.(\d+)", inner)
    if bounds:
        first, last = int(bounds.group(1)), int(bounds.group(2))
        width = len(bounds.group(1)) if bounds.group(1).startswith("0") else 0
        if last < first or last - first >= _MAX_SHARDS:
            raise InputError(f"shard range {{{inner}}} must rise and name at most {_MAX_SHARDS}")
        choices = [f"{number:0{width}d}" for number in range(first, last + 1)]
    elif "," in inner:
        choices = inner.split(",")
    else:
        raise InputError(f"brace {{{inner}}} must be a range such as {{000..012}} or a list")
    head, tail = pattern[: match.start()], pattern[match.end() :]
    rest = expand_braces(tail)
    return [f"{head}{choice}{end}" for choice in choices for end in rest]


def is_address(place: str) -> bool:
    """Return whether a shard is on the web."""
    return place.startswith(("http://", "https://"))


def shard_places(pattern: str) -> list[str]:
    """Return the path or ``http(s)`` address of every shard of a pattern, in order.

    Raises:
        InputError: The pattern is malformed, or names another scheme.
        MissingError: A path does not exist, or no file matches.
    """
    return [place for part in expand_braces(pattern) for place in _places(part)]


def _places(part: str) -> list[str]:
    if is_address(part):
        return [part]
    if re.match(r"[a-z0-9]+:", part) and not Path(part).exists():
        raise InputError(f"shards are read from paths, http:// and https://, not from {part!r}")
    if glob.has_magic(part):
        found = sorted(glob.glob(part))
        if not found:
            raise MissingError(f"no shard matches {part!r}")
        return found
    if not Path(part).is_file():
        raise MissingError(f"shard {part!r} does not exist")
    return [part]


def _fetched(url: str) -> Path:
    name = Path(url.partition("?")[0]).name
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    path = cache_folder() / "webdataset" / f"{digest}-{name}"
    if path.is_file():
        return path
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, atomic_path(path) as temporary:
            with temporary.open("wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)
            expected = answer.headers.get("Content-Length")
            if expected is not None and temporary.stat().st_size != int(expected):
                raise UnavailableError(f"shard {url!r} broke off while it was downloaded")
    except (urllib.error.URLError, OSError) as error:
        raise UnavailableError(f"shard {url!r} cannot be downloaded here: {error}") from error
    return path


def _samples(shard: Path, number: int) -> Iterator[tuple[str, _Member, int]]:
    images: dict[str, _Member] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(shard, mode="r:") as archive:
            for member in archive:
                found = sample_part(member.name) if member.isfile() else None
                if found is None:
                    continue
                key, part = found
                if part == "image":
                    images.setdefault(key, _Member(number, member.offset_data, member.size))
                elif held := archive.extractfile(member):
                    labels[key] = class_text(held.read(), shard=str(shard), key=key)
        size = shard.stat().st_size
    except (tarfile.TarError, EOFError) as error:
        raise UnreadableError(
            f"shard {str(shard)!r} is not a whole, uncompressed tar file: {error}"
        ) from error
    for key, place in images.items():
        if place.offset + place.size > size:
            raise UnreadableError(f"shard {str(shard)!r} is truncated inside {key!r}")
        yield key, place, labels.get(key, -1)


def sample_part(name: str) -> tuple[str, str] | None:
    """Return a member's sample, by its name up to the first dot, and ``"image"`` or ``"class"``.

    ``None`` where it is neither, or hidden (some programs add ``._NAME`` beside every file).
    """
    folder, _, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    key = f"{folder}/{stem}" if folder else stem
    if not stem:
        return None
    if f".{suffix.rpartition('.')[2].lower()}" in IMAGE_SUFFIXES:
        return key, "image"
    return (key, "class") if suffix == "cls" else None


def class_text(data: bytes, *, shard: str, key: str) -> int:
    """Return the class that a member ``.cls`` holds as text.

    Raises:
        UnreadableError: It is not a whole number.
    """
    try:
        return int(data)
    except ValueError as error:
        raise UnreadableError(
            f"shard {shard!r}: the class of {key!r} is {data[:20]!r}, not a whole number"
        ) from error
