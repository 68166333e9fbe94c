"""``record``: a probe set through a model, into a store that is keyed by content."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from neuronym.errors import InputError, UnreadableError, nearest
from neuronym.files import fingerprint
from neuronym.masks import MaskReader
from neuronym.probes import Batch, Batches, ProbeSet, Skipped, batches
from neuronym.record.pooling import PoolingChoice, pooling_for
from neuronym.record.recorder import (
    INDICES,
    Recorder,
    SiteStats,
    Transform,
    array_name,
    counts_name,
)
from neuronym.record.sites import Site
from neuronym.store import Store, create, try_open

__all__ = ["Plan", "RecordOptions", "Recording", "feed", "record"]

SCHEMA = 1
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class RecordOptions:
    """How a probe set is recorded.

    Attributes:
        pooling: A name of :data:`neuronym.record.POOLINGS`, ``"token:INDEX"``, a function, a
            mapping from site patterns to either, or ``None`` for the default of each site.
        batch_size: Images per forward pass.
        workers: Threads that decode; ``None`` takes one per processor, at most 4.
        folder: Holds recordings, each under its own key; a temporary folder by default.
        model_fingerprint: Identifies the model and its transform. With it, a recording that is
            in the folder already is used as it is; without it, never. Nor is one that a pooling
            function of one's own made: a function has no content to compare.
        progress: Called with ``(images done, images, note)``.
    """

    pooling: PoolingChoice = None
    batch_size: int = 64
    workers: int | None = None
    folder: str | Path | None = None
    model_fingerprint: str | None = None
    progress: Progress | None = None


@dataclass(frozen=True, eq=False)
class Recording:
    """Pooled activations of a probe set, on disk.

    Attributes:
        sites: Where units were recorded.
        store: One array ``(images, units)`` float32 per site.
        indices: ``(images,)`` int64, place in the probe set of each image that was seen.
        skipped: The broken images.
        poolings: Site → name of its pooling.
        stats: Site → counts.
        competitors: Site → U, ``None`` for a dense site.
    """

    sites: tuple[Site, ...]
    store: Store
    indices: npt.NDArray[np.int64]
    skipped: tuple[Skipped, ...]
    poolings: dict[str, str]
    stats: dict[str, SiteStats]
    competitors: dict[str, int | None]

    def __len__(self) -> int:
        return len(self.indices)

    def site(self, name: str) -> Site:
        """Return a site by name; :class:`InputError` names the nearest ones."""
        for site in self.sites:
            if site.name == name:
                return site
        known = [site.name for site in self.sites]
        close = ", ".join(nearest(name, known) or known[:5])
        raise InputError(f"recording has no site {name!r}; nearest: {close}")

    def activations(self, site: str) -> npt.NDArray[np.float32]:
        """Return the pooled activations of a site: ``(images, units)`` float32."""
        return self.store.read(array_name(self.site(site).name))

    def firing_rate(self, site: str) -> npt.NDArray[np.float64]:
        """Share of images on which each unit's pooled activation is above zero."""
        return self.stats[self.site(site).name].fired / len(self)

    def win_rate(self, site: str) -> npt.NDArray[np.float64] | None:
        """Share of positions, over all images, that each unit won; ``None`` at a dense site."""
        won = self.stats[self.site(site).name].won
        return None if won is None else won / (len(self) * self.site(site).positions)

    def active_fraction(self, site: str) -> float:
        """Measured share of active entries over units, images and positions.

        Where units compete, those that the mask let pass; elsewhere those that are not zero.
        """
        stats = self.stats[self.site(site).name]
        return stats.active / stats.values


class Plan:
    """A recording that may exist already: find it, or write it in a pass of one's own.

    Made of what :func:`record` takes. ``embed`` uses it to decode each image once for two models.

    Attributes:
        identity: What determines the numbers.
        reusable: Whether an earlier recording with this identity may stand in.
    """

    def __init__(
        self,
        module: nn.Module,
        probes: ProbeSet,
        sites: Sequence[Site],
        *,
        transform: Transform,
        options: RecordOptions | None = None,
        masks: MaskReader | None = None,
    ) -> None:
        if not sites:
            raise InputError("no site to record")
        self._module, self._transform, self._masks = module, transform, masks
        self._sites = tuple(sites)
        self._options = options or RecordOptions()
        competitors = masks.competitors if masks else {}
        chosen = [
            pooling_for(self._options.pooling, site, competes=site.module in competitors)
            for site in sites
        ]
        self.identity: dict[str, Any] = {
            "kind": "recording",
            "schema": SCHEMA,
            "model": self._options.model_fingerprint,
            "probes": probes.fingerprint,
            "sites": [
                {
                    **{key: value for key, value in asdict(site).items() if key != "aliases"},
                    "pooling": pooling.name,
                    "competitors": competitors.get(site.module),
                }
                for site, pooling in zip(sites, chosen, strict=True)
            ],
        }
        self.reusable = self._options.model_fingerprint is not None and all(
            pooling.known for pooling in chosen
        )
        folder = self._options.folder
        self._temporary = folder is None
        stays = self.reusable and not self._temporary
        key = fingerprint(self.identity) if stays else uuid.uuid4().hex
        self._base = Path(tempfile.gettempdir() if folder is None else folder)
        self._place = self._base / (f"neuronym-recording-{key}" if folder is None else key)

    def find(self) -> Recording | None:
        """Return the recording if it exists and may be used."""
        if not self.reusable or self._temporary:
            return None
        with contextlib.suppress(UnreadableError):
            return self._load()
        return None

    @contextlib.contextmanager
    def write(self, skipped: Sequence[Skipped]) -> Iterator[Recorder]:
        """Yield a recorder to which batches are added; the recording exists after the block.

        Args:
            skipped: The list that the batches fill with broken images.
        """
        with create(self._place, self.identity) as writer:
            recorder = Recorder(
                self._module,
                self._sites,
                transform=self._transform,
                writer=writer,
                pooling=self._options.pooling,
                masks=self._masks,
            )
            with recorder:
                yield recorder
            for name, stats in recorder.stats().items():
                counts = [stats.fired] if stats.won is None else [stats.fired, stats.won]
                writer.append(counts_name(name), np.stack(counts))
            writer.note(
                active={n: [s.active, s.values] for n, s in recorder.stats().items()},
                skipped=[asdict(each) for each in skipped],
            )

    def load(self) -> Recording:
        """Return the recording that :meth:`write` made."""
        recording = self._load()
        if recording is None:
            raise UnreadableError(f"recording {str(self._place)!r} is gone")
        return recording

    def _load(self) -> Recording | None:
        store = try_open(self._place, self.identity)
        if store is None:
            return None
        rows = {row["name"]: row for row in self.identity["sites"]}
        stats = {}
        for name, (active, values) in store.facts["active"].items():
            counts = store.read(counts_name(name))
            stats[name] = SiteStats(
                counts[0], counts[1] if len(counts) > 1 else None, active, values
            )
        recording = Recording(
            sites=self._sites,
            store=store,
            indices=store.read(INDICES),
            skipped=tuple(Skipped(**each) for each in store.facts["skipped"]),
            poolings={name: row["pooling"] for name, row in rows.items()},
            stats=stats,
            competitors={name: row["competitors"] for name, row in rows.items()},
        )
        if self._temporary:
            weakref.finalize(recording, shutil.rmtree, self._place, ignore_errors=True)
        return recording


def record(
    module: nn.Module,
    probes: ProbeSet,
    sites: Sequence[Site],
    *,
    transform: Transform,
    options: RecordOptions | None = None,
    masks: MaskReader | None = None,
) -> Recording:
    """Record the pooled activations of ``sites`` over a probe set, in one pass.

    Args:
        module: The model; it runs in evaluation mode where its parameters are.
        probes: The images; broken ones are skipped and listed.
        sites: From :func:`find_sites`.
        transform: One PIL image → one input tensor.
        options: Pooling, batch size, where the store lies and whether one may be reused.
        masks: Who won, for the sites that compete.

    Raises:
        InputError: Every image is broken, a pooling does not fit a site, or a site does not give
            what it gave for the sample.
    """
    options = options or RecordOptions()
    plan = Plan(module, probes, sites, transform=transform, options=options, masks=masks)
    if found := plan.find():
        return found
    stream = batches(probes, batch_size=options.batch_size, workers=options.workers)
    with plan.write(stream.skipped) as recorder:
        feed(stream, [recorder.add], progress=options.progress)
    return plan.load()


def feed(
    stream: Batches, consumers: Sequence[Callable[[Batch], None]], *, progress: Progress | None
) -> None:
    """Give every batch to every consumer, so that each image is decoded once."""
    done = 0
    with stream:
        for batch in stream:
            for consume in consumers:
                consume(batch)
            done += len(batch)
            if progress is not None:
                progress(done + len(stream.skipped), stream.total or 0, "")
