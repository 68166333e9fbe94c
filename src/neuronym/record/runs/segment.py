"""A segment: the sketches and rows of one piece of the source."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError, MissingError, UnreadableError
from neuronym.probes import Skipped
from neuronym.record.capture import Captured
from neuronym.record.runs.journal import Entry
from neuronym.record.runs.layout import Keep, RunInfo
from neuronym.record.sketches import ImageMoments, Sample, SiteShape, SiteSketch, Won
from neuronym.store import Store, StoreWriter, create, open_store

__all__ = ["Segment", "Sketches", "read_ids"]

KEYS, IDS, LABELS, EMBEDDINGS = "keys", "ids", "labels", "embeddings"


@dataclass(frozen=True, eq=False)
class Sketches:
    """All sketches of some images; they merge with those of other images.

    Attributes:
        images: Moments of the embeddings.
        sites: Site → its sketch.
        sample: The sampled images.
    """

    images: ImageMoments
    sites: Mapping[str, SiteSketch]
    sample: Sample

    @classmethod
    def empty(cls, info: RunInfo) -> Sketches:
        """Return the sketches of no image."""
        return cls(
            ImageMoments(info.dim),
            {shape.name: SiteSketch(shape) for shape in _shapes(info)},
            Sample(info.identity["sample"], info.dim, units=_units(info)),
        )

    def add(self, entry: Entry) -> None:
        """Add one batch."""
        self.images.add(entry.embeddings, entry.keys)
        for name, captured in entry.sites.items():
            self.sites[name].add(
                captured.pooled,
                entry.embeddings,
                entry.keys,
                won=_won(captured),
                active=captured.active,
                values=captured.values,
            )
        pooled = {name: captured.pooled for name, captured in entry.sites.items()}
        self.sample.add(pooled, entry.embeddings, entry.keys)

    def merge(self, other: Sketches) -> Sketches:
        """Return the sketches of the images of both."""
        return Sketches(
            self.images.merge(other.images),
            {name: sketch.merge(other.sites[name]) for name, sketch in self.sites.items()},
            self.sample.merge(other.sample),
        )

    def write(self, writer: StoreWriter) -> None:
        """Append every array to a store."""
        for name, array in self.arrays():
            writer.append(name, array)

    def arrays(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Yield every array by its name: ``images/…``, ``sites/SITE/…`` and ``sample/…``."""
        for name, array in self.images.arrays().items():
            yield f"images/{name}", array
        for site, sketch in self.sites.items():
            for name, array in sketch.arrays().items():
                yield f"sites/{site}/{name}", array
        for name, array in self.sample.arrays().items():
            yield f"sample/{name}", array

    @classmethod
    def read(cls, store: Store, info: RunInfo) -> Sketches:
        """Read what :meth:`write` wrote, from a store whose checksums were compared.

        Raises:
            UnreadableError: An array is missing or has another shape.
        """

        def under(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {
                name.removeprefix(prefix): store.read(name)
                for name in store.names
                if name.startswith(prefix)
            }

        return cls(
            ImageMoments.from_arrays(info.dim, under("images/")),
            {
                shape.name: SiteSketch.from_arrays(shape, under(f"sites/{shape.name}/"))
                for shape in _shapes(info)
            },
            Sample.from_arrays(
                info.identity["sample"], info.dim, units=_units(info), arrays=under("sample/")
            ),
        )


class Segment:
    """Gathers one piece of the source: sketches at once, rows until they are written."""

    def __init__(self, info: RunInfo, piece: int) -> None:
        self._identity = segment_identity(info, piece)
        self.sketches = Sketches.empty(info)
        self.skipped: list[Skipped] = []
        self.end = 0
        self.images = 0
        self._info = info
        self._ids: list[str] = []
        self._rows: dict[str, list[npt.NDArray[Any]]] = {}

    def add(self, entry: Entry) -> None:
        """Add one batch."""
        self.sketches.add(entry)
        self._ids += entry.ids
        self.images += len(entry.keys)
        for name, rows in self._kept(entry).items():
            self._rows.setdefault(name, []).append(rows)
        self.skipped += entry.skipped
        self.end = entry.end

    def write_data(self, folder: Path) -> None:
        """Write keys, ids, labels, embeddings and kept activations as a store."""
        with create(folder, self._identity) as writer:
            for name, parts in self._rows.items():
                writer.append(name, np.concatenate(parts))
            if self._ids:
                text = json.dumps(self._ids, ensure_ascii=False).encode()
                writer.append(IDS, np.frombuffer(text, np.uint8)[None])
            keys = self._rows.get(KEYS)
            writer.note(
                images=self.images,
                first=int(keys[0][0]) if keys else None,
                skipped=[asdict(each) for each in self.skipped],
            )

    def write_sketches(self, folder: Path) -> None:
        """Write the sketches as a store."""
        with create(folder, self._identity) as writer:
            self.sketches.write(writer)

    def _kept(self, entry: Entry) -> dict[str, npt.NDArray[Any]]:
        rows: dict[str, npt.NDArray[Any]] = {KEYS: entry.keys, EMBEDDINGS: entry.embeddings}
        if entry.labels is not None:
            rows[LABELS] = entry.labels
        keep: Keep = self._info.identity["keep"]
        if keep == "none":
            return rows
        for name, captured in entry.sites.items():
            competitors = self._info.competitors[name]
            if keep == "winners" and competitors is not None:
                index, value = image_winners(captured, competitors)
                rows[f"kept/{name}/winner"], rows[f"kept/{name}/value"] = index, value
            else:
                rows[f"kept/{name}"] = captured.pooled
        return rows


def image_winners(
    captured: Captured, competitors: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]:
    """Return each block's image winner and its activation: ``(images, blocks)`` both.

    Of the candidates the one with the largest pooled masked activation, the first of equals.
    """
    if captured.candidates is None:
        raise InputError("a dense site has no winners")
    if competitors > np.iinfo(np.uint16).max:
        raise InputError(f"winners are kept for blocks of at most 65535 units, not {competitors}")
    images = len(captured.pooled)
    masked = np.where(captured.candidates, captured.pooled, -np.inf)
    blocks = masked.reshape(images, -1, competitors)
    index = blocks.argmax(2)
    value = np.take_along_axis(blocks, index[:, :, None], 2)[:, :, 0]
    return index.astype(np.uint16), value.astype(np.float32)


def read_ids(store: Store) -> list[str]:
    """Return the ids of a segment's images.

    Raises:
        UnreadableError: They are damaged.
    """
    if IDS not in store.names:
        return []
    try:
        return list(json.loads(store.read(IDS).tobytes()))
    except ValueError as error:
        raise UnreadableError(f"the ids in {str(store.folder)!r} are damaged: {error}") from error


def segment_identity(info: RunInfo, piece: int) -> dict[str, Any]:
    """Return the identity of a piece's stores."""
    return {**info.identity, "piece": piece}


def open_checked(folder: Path, identity: Mapping[str, Any]) -> Store:
    """Open a store of a run and compare its checksums.

    Raises:
        InputError, MissingError, UnreadableError: See ``open_store`` and ``Store.verify``.
    """
    store = open_store(folder, identity)
    store.verify()
    return store


def open_whole(folder: Path, identity: Mapping[str, Any]) -> Store | None:
    """Open a store of a run if it is there and whole; ``None`` where it must be made."""
    with contextlib.suppress(InputError, MissingError, UnreadableError):
        return open_checked(folder, identity)
    return None


def _won(captured: Captured) -> Won | None:
    if captured.won is None or captured.candidates is None:
        return None
    return Won(captured.won, captured.candidates)


def _units(info: RunInfo) -> dict[str, int]:
    return {site.name: site.units for site in info.sites}


def _shapes(info: RunInfo) -> Sequence[SiteShape]:
    return [
        SiteShape(
            name=site.name,
            units=site.units,
            dim=info.dim,
            competitors=info.competitors[site.name],
            top=info.identity["top"],
        )
        for site in info.sites
    ]
