"""A finished run: sketches, embeddings and kept activations, read from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError, UnreadableError, nearest
from neuronym.files import read_manifest
from neuronym.probes import Skipped
from neuronym.record.runs.layout import (
    DATA,
    FINAL,
    KIND,
    SCHEMA,
    RunInfo,
    data_pieces,
    segment_name,
)
from neuronym.record.runs.segment import (
    EMBEDDINGS,
    KEYS,
    LABELS,
    Sketches,
    open_checked,
    read_ids,
    segment_identity,
)
from neuronym.record.sites import Site
from neuronym.record.sketches import Sample, SiteSketch
from neuronym.store import Store, open_store

__all__ = ["Run"]


class Run:
    """What :func:`neuronym.dissect.record_run` or :func:`merge_runs` wrote.

    Arrays over images are in the order of the images' keys.

    Attributes:
        folder: Where it is.
        info: Identity, facts and shard.
        sites: Where units were recorded.
    """

    def __init__(self, folder: str | Path, *, facts: Mapping[str, Any] | None = None) -> None:
        """Open a finished run.

        Args:
            folder: Where it is.
            facts: What is said of it instead of what stands in the folder: a run that is found
                again may be of a model and images that have moved since.

        Raises:
            MissingError: There is no folder.
            UnreadableError: It is not a finished run; or a part is lost.
        """
        self.folder = Path(folder)
        self.info = RunInfo.read(folder)
        if facts is not None:
            self.info = replace(self.info, facts=facts)
        manifest = read_manifest(folder, kind=KIND, schema=SCHEMA)
        self.sites: tuple[Site, ...] = self.info.sites
        pieces = data_pieces(self.folder)
        if len(pieces) != manifest["pieces"]:
            raise UnreadableError(
                f"run {str(folder)!r} has {len(pieces)} of {manifest['pieces']} segments; repeat "
                "the command that recorded it"
            )
        self._stores = [self._open(piece) for piece in pieces]
        self._filled = [store for store in self._stores if store.facts["images"]]
        self._first: list[int] = [store.facts["first"] for store in self._filled]
        self._checked: set[Path] = set()
        self._last: tuple[Path, npt.NDArray[np.int64], npt.NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        return sum(store.facts["images"] for store in self._filled)

    @cached_property
    def sketches(self) -> Sketches:
        """Sketches of all images; :class:`UnreadableError` names a damaged chunk."""
        return Sketches.read(open_checked(self.folder / FINAL, self.info.identity), self.info)

    @property
    def sample(self) -> Sample:
        """The sampled images, with the activations of every site."""
        return self.sketches.sample

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The broken images."""
        return tuple(Skipped(**each) for store in self._stores for each in store.facts["skipped"])

    def site(self, name: str) -> Site:
        """Return a site by name; :class:`InputError` names the nearest ones."""
        for site in self.sites:
            if site.name == name:
                return site
        known = [site.name for site in self.sites]
        close = ", ".join(nearest(name, known) or known[:5])
        raise InputError(f"run has no site {name!r}; nearest: {close}")

    def sketch(self, site: str) -> SiteSketch:
        """Return the sketch of a site."""
        return self.sketches.sites[self.site(site).name]

    @property
    def dim(self) -> int:
        """Length of the embeddings."""
        return self.info.dim

    @property
    def keeps(self) -> str:
        """Which activations of every image it keeps: a key of :data:`KEEPS`."""
        return str(self.info.identity["keep"])

    def rows(self, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the embeddings of some images: ``(keys, dim)`` float32.

        Reading is cheapest where the keys rise.

        Raises:
            InputError: An image is not in the run.
            UnreadableError: A chunk is damaged.
        """
        keys = np.asarray(keys, np.int64)
        result = np.empty((len(keys), self.info.dim), np.float32)
        for store, wanted in self._by_store(keys):
            if self._last is None or self._last[0] != store.folder:
                self._last = store.folder, store.read(KEYS), store.read(EMBEDDINGS)
            _, held, vectors = self._last
            result[wanted] = vectors[self._places(held, keys[wanted])]
        return result

    def ids(self, keys: npt.NDArray[np.int64]) -> list[str]:
        """Return the ids of some images."""
        keys = np.asarray(keys, np.int64)
        result = [""] * len(keys)
        for store, wanted in self._by_store(keys):
            ids = read_ids(store)
            places = self._places(store.read(KEYS), keys[wanted])
            for place, at in zip(places, wanted, strict=True):
                result[at] = ids[place]
        return result

    def labels(self, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
        """Return the classes of some images, -1 where one has none; ``None`` without labels."""
        keys = np.asarray(keys, np.int64)
        result = np.full(len(keys), -1, np.int64)
        found = False
        for store, wanted in self._by_store(keys):
            if LABELS in store.names:
                found = True
                result[wanted] = store.read(LABELS)[self._places(store.read(KEYS), keys[wanted])]
        return result if found else None

    def keys(self) -> npt.NDArray[np.int64]:
        """Return the keys of all images: ``(images,)`` int64, rising."""
        return np.concatenate([self._whole(store).read(KEYS) for store in self._filled])

    def embeddings(self) -> npt.NDArray[np.float32]:
        """Return the embeddings of all images: ``(images, dim)`` float32."""
        return np.concatenate([self._whole(store).read(EMBEDDINGS) for store in self._filled])

    def firing_rate(self, site: str) -> npt.NDArray[np.float64]:
        """Share of images on which each unit's pooled activation is above zero."""
        return np.asarray(self.sketch(site).fired / len(self))

    def win_rate(self, site: str) -> npt.NDArray[np.float64] | None:
        """Share of positions, over all images, that each unit won; ``None`` at a dense site."""
        won = self.sketch(site).won
        return None if won is None else won / (len(self) * self.site(site).positions)

    def active_fraction(self, site: str) -> float:
        """Measured share of active entries over units, images and positions.

        Where units compete, those that the mask let pass; elsewhere those that are not zero.
        """
        sketch = self.sketch(site)
        return sketch.active / sketch.values

    def activations(self, site: str, units: slice = slice(None)) -> npt.NDArray[np.float32]:
        """Return the kept activations of some units: ``(images, units)`` float32.

        Where only winners were kept, the losers of a block are 0.

        Raises:
            InputError: The run keeps no activations.
            UnreadableError: A chunk is damaged.
        """
        found = self.site(site)
        if self.keeps == "none":
            raise InputError(
                f"run {str(self.folder)!r} keeps no activations; record it with keep='all' "
                "(--keep all), or read the sample"
            )
        chosen = slice(*units.indices(found.units))
        parts = [self._activations(store, found, chosen) for store in self._filled]
        return np.concatenate(parts)

    def _activations(self, store: Store, site: Site, chosen: slice) -> npt.NDArray[np.float32]:
        self._whole(store)
        name = f"kept/{site.name}"
        if name in store.names:
            return store.read(name, columns=chosen)
        competitors = self.info.competitors[site.name]
        if competitors is None:
            raise UnreadableError(f"{str(store.folder)!r} keeps no activations of {site.name!r}")
        winner = store.read(f"{name}/winner").astype(np.int64)
        dense = np.zeros((len(winner), site.units), np.float32)
        place = winner + np.arange(winner.shape[1]) * competitors
        np.put_along_axis(dense, place, store.read(f"{name}/value"), axis=1)
        return dense[:, chosen]

    def _open(self, piece: int) -> Store:
        place = self.folder / DATA / segment_name(piece)
        return open_store(place, segment_identity(self.info, piece))

    def _by_store(
        self, keys: npt.NDArray[np.int64]
    ) -> Iterator[tuple[Store, npt.NDArray[np.intp]]]:
        """Yield each segment that some keys are of, and where those keys are in the list."""
        number = np.searchsorted(np.asarray(self._first, np.int64), keys, side="right") - 1
        if len(keys) and number.min() < 0:
            raise InputError(f"run {str(self.folder)!r} has no image {int(keys[number.argmin()])}")
        for segment in np.unique(number):
            yield self._whole(self._filled[segment]), np.flatnonzero(number == segment)

    def _places(
        self, held: npt.NDArray[np.int64], keys: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.intp]:
        """Return where some keys are among the keys of a segment."""
        places = np.minimum(np.searchsorted(held, keys), len(held) - 1)
        if not np.array_equal(held[places], keys):
            lost = int(keys[held[places] != keys][0])
            raise InputError(f"run {str(self.folder)!r} has no image {lost}")
        return places

    def _whole(self, store: Store) -> Store:
        if store.folder not in self._checked:
            store.verify()
            self._checked.add(store.folder)
        return store
