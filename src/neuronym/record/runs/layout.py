"""The folder of a run: where its parts lie, what determines its numbers, and what it may hold."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from neuronym.errors import InputError, UnreadableError
from neuronym.files import existing, held_kind, read_record, write_json
from neuronym.record.sites import Site
from neuronym.store import differences

__all__ = [
    "KEEPS",
    "KIND",
    "Keep",
    "RunInfo",
    "Shard",
    "check_same",
    "flat",
    "guarded",
    "parse_shard",
]

KIND = "run"
SCHEMA = 1
INFO = "run.json"
FINAL = "sketches"
DATA = "data"
SEGMENTS = "segments"

Keep = str
KEEPS: Mapping[Keep, str] = {
    "none": "sketches and embeddings only",
    "winners": "the image winner of each block at competitive sites, everything at dense ones",
    "all": "the pooled activation of every unit",
}
"""Which activations a run keeps of every image."""

_SHARD = re.compile(r"([0-9]+)/([0-9]+)")


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count`` of a source's pieces; ``index`` counts from 1."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 1 <= self.index <= self.count:
            raise InputError(
                f"shard {self.index}/{self.count} does not exist; allowed: 1/{max(1, self.count)} "
                f"to {max(1, self.count)}/{max(1, self.count)}"
            )

    def pieces(self, total: int) -> range:
        """Return the numbers of this shard's pieces out of ``total``: a contiguous range."""
        return range(
            total * (self.index - 1) // self.count,
            total * self.index // self.count,
        )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Read ``"2/8"``: the second of eight shards.

    Raises:
        InputError: It is not of that form, or there is no such shard.
    """
    found = _SHARD.fullmatch(text.strip())
    if found is None:
        raise InputError(f"a shard is given as I/N, e.g. 2/8 for the second of eight, not {text!r}")
    return Shard(int(found[1]), int(found[2]))


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run before its first image.

    Attributes:
        identity: What determines its numbers, nested mappings of JSON types; shards of one run
            have the same identity.
        facts: What a reader wants to know beside it: SPECs, names of classes, logit scale.
        shard: Which part of the source this run covers.
    """

    identity: Mapping[str, Any]
    facts: Mapping[str, Any]
    shard: Shard

    def write(self, folder: Path) -> None:
        """Write it into a run's folder."""
        record = {"kind": KIND, "schema": SCHEMA, **asdict(self)}
        write_json(folder / INFO, record)

    @classmethod
    def read(cls, folder: str | Path) -> RunInfo:
        """Read it from a run's folder, finished or not.

        Raises:
            MissingError: There is no folder.
            UnreadableError: The folder is not that of a run.
        """
        folder = existing(folder, what="run")
        if held_kind(folder) not in (KIND, None) or not (folder / INFO).is_file():
            held = held_kind(folder)
            what = f"a folder of {held!r}" if held else "not a run"
            raise UnreadableError(f"{str(folder)!r} is {what}; give a folder made by record")
        found = read_record(folder / INFO, kind=KIND, schema=SCHEMA)
        try:
            return cls(found["identity"], found["facts"], Shard(**found["shard"]))
        except (KeyError, TypeError) as error:
            raise UnreadableError(f"{str(folder / INFO)!r} is not whole: {error}") from error

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where units were recorded."""
        known = {field.name for field in fields(Site)} - {"aliases"}
        return tuple(
            Site(name=name, **{key: row[key] for key in known - {"name"}})
            for name, row in self.identity["sites"].items()
        )

    @property
    def competitors(self) -> dict[str, int | None]:
        """Site → U, ``None`` for a dense site."""
        return {name: row["competitors"] for name, row in self.identity["sites"].items()}

    @property
    def poolings(self) -> dict[str, str]:
        """Site → name of its pooling."""
        return {name: row["pooling"] for name, row in self.identity["sites"].items()}

    @property
    def dim(self) -> int:
        """Length of the image embeddings."""
        return int(self.identity["vision_text"]["dim"])


def flat(identity: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dots in the names: ``{"versions.torch": "2.14.1"}``."""
    found: dict[str, Any] = {}
    for key, value in identity.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = value
    return found


def check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], *, where: str) -> None:
    """Refuse an identity that differs, and say which fields do.

    Raises:
        InputError: A field differs.
    """
    different = differences(flat(found), flat(wanted))
    if different:
        shown = "; ".join(different[:5])
        more = f" and {len(different) - 5} more" if len(different) > 5 else ""
        raise InputError(f"{where} was recorded from something else: {shown}{more}")


def segment_name(piece: int) -> str:
    """Return the name of a piece's folders."""
    return f"{piece:08d}"


def data_pieces(folder: Path) -> list[int]:
    """Return the numbers of the pieces whose data a run holds, in order; a shard may have none."""
    return sorted(int(path.name) for path in (folder / DATA).glob("*") if path.name.isdigit())


@contextlib.contextmanager
def guarded(what: str) -> Iterator[None]:
    """Say what to do where the disk is full; nothing that was recorded before is lost."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(
                error.errno,
                f"{error.strerror} ({what}); make room and repeat the command: it goes on there",
                error.filename,
            ) from error
        raise
