"""Tar shards as a stream: each is read from front to back, and never indexed or kept."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from neuronym.errors import UnavailableError, UnreadableError
from neuronym.files import fingerprint
from neuronym.probes.ahead import Item, Prepare, Reading
from neuronym.probes.batches import Batches
from neuronym.probes.decode import decode
from neuronym.probes.pieces import KEYS_PER_PIECE, check_piece, check_skip
from neuronym.probes.shards import class_text, is_address, sample_part, shard_places
from neuronym.probes.web import Forward, identity_of

__all__ = ["TarPieces"]

_CHUNK = 1 << 20
_ASKED_AT_ONCE = 8


@dataclass
class _Sample:
    """The members of one sample that were met: ``data`` is ``None`` where it is left out."""

    key: str
    found: bool = False
    data: bytes | None = None
    label: int = -1


class TarPieces:
    """The images of tar shards, one piece per shard.

    The members of one sample share their name up to the first dot and lie side by side: an image,
    and optionally its class as text in a member ``.cls``. Samples without an image, and hidden
    members, are left out. A shard on the web is read while it arrives and not kept.
    """

    label_names: tuple[str, ...] | None = None
    total: int | None = None

    def __init__(self, pattern: str) -> None:
        """Find the shards; none is read yet.

        Args:
            pattern: As for :class:`neuronym.probes.shards.ShardProbes`.

        Raises:
            InputError: The pattern is malformed.
            MissingError: No file matches.
        """
        self.name = f"stream:webdataset:{pattern}"
        self._places = shard_places(pattern)
        self.count = len(self._places)
        stems = [_stem(place) for place in self._places]
        unique = len(set(stems)) == len(stems)
        self._prefixes = stems if unique else [f"{s}#{piece}" for piece, s in enumerate(stems)]

    @cached_property
    def fingerprint(self) -> str:
        """Of the shards in order: samples of a file's bytes, the headers of one on the web.

        Raises:
            UnavailableError: A shard on the web cannot be reached.
        """
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
            return fingerprint("webdataset-stream", *pool.map(identity_of, self._places))

    def length(self, piece: int) -> None:
        """Return ``None``: how many images a shard has is known when it was read."""
        check_piece(self, piece)

    def open(
        self,
        piece: int,
        *,
        batch_size: int = 64,
        workers: int | None = None,
        skip: int = 0,
        at_least: int | None = None,
        prepare: Prepare | None = None,
    ) -> Batches:
        """Read one shard; see :meth:`neuronym.probes.Pieces.open`."""
        check_skip(self, piece, skip)
        return Batches(
            self._items(piece, skip),
            Reading(batch_size, workers, at_least, prepare or {}),
            total=None,
            labelled=True,
            start=skip,
        )

    def _items(self, piece: int, skip: int) -> Generator[Item, None, None]:
        with Forward(self._places[piece]) as source:
            shard = _Shard(source)
            for position, sample in enumerate(_samples(shard, skip)):
                if position < skip:
                    continue
                name = f"{self._prefixes[piece]}/{sample.key}"
                yield Item(
                    key=piece * KEYS_PER_PIECE + position,
                    id=name,
                    end=position + 1,
                    read=partial(_decoded, sample.data or b"", name),
                    label=sample.label,
                )
        if shard.images < skip:
            raise UnreadableError(
                f"shard {shard.place!r} has {shard.images} images, not the {skip} that were read "
                "before; it has changed"
            )


def _stem(place: str) -> str:
    return PurePosixPath(urlsplit(place).path if is_address(place) else place).stem


def _decoded(data: bytes, name: str, at_least: int | None) -> Image.Image:
    return decode(data, name=name, at_least=at_least)


def _samples(shard: _Shard, skip: int) -> Iterator[_Sample]:
    """Yield the samples that have an image; the first ``skip`` come without its bytes."""
    done: set[str] = set()
    current: _Sample | None = None
    try:
        for key, part, read in shard.members():
            if current is None or key != current.key:
                if key in done:
                    raise UnreadableError(
                        f"shard {shard.place!r}: the members of sample {key!r} do not lie side by "
                        "side, so it cannot be streamed; read it as 'webdataset:' instead"
                    )
                if current is not None and current.found:
                    yield current
                done.add(key)
                current = _Sample(key)
            if part == "class":
                current.label = class_text(read(), shard=shard.place, key=key)
            elif not current.found:
                current.data = read() if shard.images >= skip else None
                current.found = True
                shard.images += 1
    except (UnreadableError, UnavailableError):
        if current is not None and current.found:
            yield current  # it was read before the damage
        raise
    if current is not None and current.found:
        yield current


class _Shard:
    """Walks over the members of one tar file, and knows how far it came.

    Attributes:
        place: Path or address.
        images: Images met so far; counted by whoever walks.
    """

    def __init__(self, source: Forward) -> None:
        self.place, self.images = source.place, 0
        self._source = source
        self._last: str | None = None

    def members(self) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
        """Yield the sample's key, ``"image"`` or ``"class"``, and a reader of the bytes.

        Raises:
            UnreadableError: The file is no uncompressed tar file, is damaged, or ends early.
            UnavailableError: The web breaks off.
        """
        source: Any = self._source
        archive: Any
        try:
            archive = tarfile.TarFile(fileobj=source, mode="r")
            while (member := archive.next()) is not None:
                archive.members.clear()  # else it keeps every header
                self._check_room(member)
                part = sample_part(member.name) if member.isfile() else None
                if part is not None:
                    yield *part, partial(_bytes_of, archive, member)
                self._last = member.name
            self._check_end()
        except tarfile.TarError as error:
            if self._last is None:
                raise UnreadableError(
                    f"shard {self.place!r} is not a whole, uncompressed tar file: {error}"
                ) from error
            raise self._ends_early() from error
        except UnavailableError as error:
            raise UnavailableError(f"{error}; images read: {self.images}") from error

    def _check_room(self, member: tarfile.TarInfo) -> None:
        length = self._source.length
        if length is not None and member.offset_data + member.size > length:
            raise UnreadableError(
                f"shard {self.place!r} ends early, inside {member.name!r}: it has {length} bytes; "
                f"images read: {self.images}"
            )

    def _check_end(self) -> None:
        """Make sure that the archive came to its end mark, and that nothing follows it.

        The standard library takes a damaged header, and the end of the file, for the end of the
        archive; only a block of zeros is that.
        """
        block = self._source.last
        if len(block) < tarfile.BLOCKSIZE:
            raise self._ends_early()
        if block.count(0) != len(block):
            raise UnreadableError(
                f"shard {self.place!r} has a broken member header after {self._last!r}; "
                f"images read: {self.images}"
            )
        while rest := self._source.read(_CHUNK):
            if rest.count(0) != len(rest):
                raise UnreadableError(
                    f"shard {self.place!r} goes on after the mark that ends it, which comes after "
                    f"{self._last!r}; images read: {self.images}"
                )

    def _ends_early(self) -> UnreadableError:
        return UnreadableError(
            f"shard {self.place!r} ends early, after {self._last!r}: it has no mark that ends it; "
            f"images read: {self.images}"
        )


def _bytes_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    held = archive.extractfile(member)
    return held.read() if held is not None else b""
