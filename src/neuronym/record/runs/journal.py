"""The journal of a segment: every batch as it was recorded, until the segment is whole.

A batch is one file, written beside its place and moved there, with a checksum inside. After a
kill the files are replayed in order up to the first that is lost or damaged; the images from
there on are recorded again.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuronym.probes import Skipped
from neuronym.record.capture import Captured

__all__ = ["Entry", "Journal"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One recorded batch.

    Attributes:
        keys: ``(images,)`` int64.
        ids: Id of each image.
        labels: ``(images,)`` int64, or ``None``.
        embeddings: ``(images, dim)`` float32.
        sites: Site → what the batch did there.
        skipped: Broken images that were met since the entry before.
        end: Position in the piece after the last image read.
    """

    keys: npt.NDArray[np.int64]
    ids: tuple[str, ...]
    labels: npt.NDArray[np.int64] | None
    embeddings: npt.NDArray[np.float32]
    sites: Mapping[str, Captured]
    skipped: tuple[Skipped, ...]
    end: int

    def to_bytes(self) -> bytes:
        """Return the entry as the bytes of an uncompressed ``.npz``, which holds checksums."""
        facts = {
            "ids": self.ids,
            "skipped": [asdict(each) for each in self.skipped],
            "end": self.end,
            "sites": [[name, each.active, each.values] for name, each in self.sites.items()],
        }
        arrays: dict[str, npt.NDArray[Any]] = {
            "keys": self.keys,
            "embeddings": self.embeddings,
            "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8),
        }
        if self.labels is not None:
            arrays["labels"] = self.labels
        for number, captured in enumerate(self.sites.values()):
            arrays[f"pooled{number}"] = captured.pooled
            if captured.won is not None:
                arrays[f"won{number}"] = captured.won
            if captured.candidates is not None:
                arrays[f"candidates{number}"] = np.packbits(captured.candidates, axis=1)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Entry:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            ValueError, KeyError, zipfile.BadZipFile: The bytes are damaged.
        """
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            facts = json.loads(arrays["facts"].tobytes())
            sites = {
                name: _captured(arrays, number, active, values)
                for number, (name, active, values) in enumerate(facts["sites"])
            }
            return cls(
                keys=arrays["keys"],
                ids=tuple(facts["ids"]),
                labels=arrays.get("labels", None),
                embeddings=arrays["embeddings"],
                sites=sites,
                skipped=tuple(Skipped(**each) for each in facts["skipped"]),
                end=facts["end"],
            )


def _captured(
    arrays: Mapping[str, npt.NDArray[Any]], number: int, active: int, values: int
) -> Captured:
    pooled = arrays[f"pooled{number}"]
    if f"won{number}" not in arrays:
        return Captured(pooled, None, None, active, values)
    bits = np.unpackbits(arrays[f"candidates{number}"], axis=1, count=pooled.shape[1])
    return Captured(pooled, arrays[f"won{number}"], bits.astype(bool), active, values)


class Journal:
    """The entries of one segment, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def replay(self) -> Iterator[Entry]:
        """Yield the entries that are whole, in order; delete what comes after them."""
        if not self._folder.is_dir():
            return
        while (entry := self._read(self._count)) is not None:
            self._count += 1
            yield entry
        kept = {self._name(number) for number in range(self._count)}
        for path in self._folder.iterdir():
            if path.name not in kept:
                path.unlink()

    def append(self, entry: Entry) -> None:
        """Keep an entry: when this returns, a killed process does not lose it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".new.{os.getpid()}"
        temporary.write_bytes(entry.to_bytes())
        temporary.replace(self._folder / self._name(self._count))
        self._count += 1

    def remove(self) -> None:
        """Delete the journal, when its segment is whole."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, number: int) -> Entry | None:
        try:
            return Entry.from_bytes((self._folder / self._name(number)).read_bytes())
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    @staticmethod
    def _name(number: int) -> str:
        return f"{number:06d}.npz"
