"""Features of a frozen backbone over a labelled set of images, kept by content.

They are computed in blocks of images. Each block is a store of its own, keyed by the backbone's
fingerprint, the place where the features are taken and the images, so that a run that was stopped
goes on where it was, and another head finds them ready.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from neuronym.devices import device_of
from neuronym.errors import InputError, UnreadableError
from neuronym.files import cache_folder, caches_allowed, fingerprint
from neuronym.models import HeadedModel, Preprocessing
from neuronym.probes import Batch, ProbeSet, Skipped, batches
from neuronym.store import Store, create, prune, try_open
from neuronym.train.data import Subset, required_labels

__all__ = ["FeatureOptions", "Features", "cached_features", "feature_folder"]

SCHEMA = 1
VALUES, INDICES = "features", "indices"
BLOCK = 2048
_LIMIT_BYTES = 16 << 30

FloatArray = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FeatureOptions:
    """How features are computed and where they are kept.

    Attributes:
        folder: Holds the blocks; ``None`` keeps none.
        batch_size: Images per forward pass.
        workers: Threads that decode; ``None`` takes one per processor, at most 4.
        memory_mb: Features above this size lie in a temporary file instead of in memory.
        progress: Called with ``(images done, images, note)``.
    """

    folder: Path | None = None
    batch_size: int = 64
    workers: int | None = None
    memory_mb: int = 4096
    progress: Callable[[int, int, str], None] | None = None


@dataclass(frozen=True, eq=False)
class Features:
    """Features of the images that could be read.

    Attributes:
        values: ``(images, features)`` float32, in memory or in a temporary file.
        mirrored: The same of the mirrored images, or ``None``.
        labels: ``(images,)`` int64.
        indices: ``(images,)`` int64, place of each in the probe set.
        skipped: The broken images.
    """

    values: FloatArray
    mirrored: FloatArray | None
    labels: Indices
    indices: Indices
    skipped: tuple[Skipped, ...]

    def __len__(self) -> int:
        return len(self.labels)


def feature_folder(folder: str | Path | None, *, keep: bool = True) -> Path | None:
    """Return where features are kept: ``folder``, by default ``features`` in the cache folder.

    ``None`` where ``keep`` is false or caches are switched off.
    """
    if not keep or not caches_allowed():
        return None
    return cache_folder() / "features" if folder is None else Path(folder)


def cached_features(
    model: HeadedModel,
    probe: ProbeSet,
    preprocessing: Preprocessing,
    *,
    backbone: str,
    mirrored: bool = False,
    options: FeatureOptions | None = None,
) -> Features:
    """Return the features of a labelled set, from the cache where they are there already.

    Args:
        model: Its backbone runs, where its parameters are, in evaluation mode.
        probe: Labelled images. Parts of one set share its features.
        preprocessing: What an image goes through.
        backbone: Identifies the backbone with its preprocessing by content.
        mirrored: Whether the features of the images mirrored left to right are wanted too.
        options: Batches, progress and the cache.

    Raises:
        InputError: There are no labels or no readable image, or a feature is not finite.
    """
    options = options or FeatureOptions()
    labels = required_labels(probe)
    work = _Work(model, probe, preprocessing, backbone, options, 1 + mirrored)
    plain, kept, skipped = work.gather(mirrored=False)
    other = work.gather(mirrored=True)[0] if mirrored else None
    if not len(kept):
        raise InputError(
            f"{probe.name!r} has no readable image; the first fails with: {skipped[0].reason}"
        )
    return Features(plain[: len(kept)], _cut(other, len(kept)), labels[kept], kept, skipped)


def _cut(values: FloatArray | None, count: int) -> FloatArray | None:
    return None if values is None else values[:count]


class _Work:
    """Gathers the blocks that hold the wanted images."""

    def __init__(
        self,
        model: HeadedModel,
        probe: ProbeSet,
        preprocessing: Preprocessing,
        backbone: str,
        options: FeatureOptions,
        passes: int,
    ) -> None:
        self.model = model.eval()
        self.preprocessing, self.options = preprocessing, options
        self.whole, self.wanted = _whole(probe)
        head = model.config
        self.base: dict[str, Any] = {
            "kind": "features",
            "schema": SCHEMA,
            "backbone": backbone,
            "probes": self.whole.fingerprint,
            "site": head.site,
            "cut": head.cut,
            "pooling": None if head.cut else head.pooling,
            "features": head.features,
        }
        self.done, self.total = 0, passes * len(self.wanted)
        self.device = device_of(model)

    def gather(self, *, mirrored: bool) -> tuple[FloatArray, Indices, tuple[Skipped, ...]]:
        """Return features, places in the probe set, and broken images, in the probe's order."""
        values = _array((len(self.wanted), self.model.config.features), self.options.memory_mb)
        blocks = self.wanted // BLOCK
        place = np.full(len(self.whole), -1, np.int64)  # of an image's row, while it is known
        skipped: list[Skipped] = []
        readable = np.zeros(len(self.wanted), bool)
        for block in np.unique(blocks).tolist():
            found, indices, broken = self._block(block, mirrored=mirrored)
            place[indices] = np.arange(len(indices))
            asked = np.flatnonzero(blocks == block)
            local = place[self.wanted[asked]]
            good = asked[local >= 0]
            values[good] = found[local[local >= 0]]
            readable[good] = True
            lost = {int(self.wanted[row]): int(row) for row in asked[local < 0]}
            skipped += [
                replace(each, index=lost[each.index]) for each in broken if each.index in lost
            ]
            self._say(len(asked))
        kept = np.flatnonzero(readable)
        if len(kept) < len(values):
            for start in range(0, len(kept), BLOCK):  # rows only move down: in place
                part = slice(start, min(start + BLOCK, len(kept)))
                values[part] = values[kept[part]]
        return values, kept, tuple(skipped)

    def _say(self, count: int) -> None:
        self.done += count
        if self.options.progress is not None:
            self.options.progress(self.done, self.total, "features")

    def _block(
        self, block: int, *, mirrored: bool
    ) -> tuple[FloatArray, Indices, tuple[Skipped, ...]]:
        span = range(block * BLOCK, min((block + 1) * BLOCK, len(self.whole)))
        identity = self.base | {"start": span.start, "stop": span.stop, "mirrored": mirrored}
        folder = self.options.folder
        store = None if folder is None else try_open(folder / fingerprint(identity), identity)
        if store is not None:
            with contextlib.suppress(UnreadableError):
                return _read(store)
        values, indices, broken = self._compute(span, mirrored=mirrored)
        if folder is not None:
            place = folder / fingerprint(identity)
            with create(place, identity) as writer:
                writer.append(VALUES, values)
                writer.append(INDICES, indices)
                writer.note(skipped=[asdict(each) for each in broken])
            prune(folder, limit_bytes=_LIMIT_BYTES, keep=[place])
        return values, indices, broken

    @torch.no_grad()
    def _compute(
        self, span: range, *, mirrored: bool
    ) -> tuple[FloatArray, Indices, tuple[Skipped, ...]]:
        width = self.model.config.features
        values, indices = [np.empty((0, width), np.float32)], [np.empty(0, np.int64)]
        broken: list[Skipped] = []
        for batch in _readable(self.whole, span, self.options, broken):
            pixels = torch.stack([self.preprocessing.pixels(image) for image in batch.images])
            pixels = pixels.flip(3) if mirrored else pixels
            pixels = pixels.to(self.device).contiguous(memory_format=torch.channels_last)
            found = self.model.features(self.preprocessing.normalize(pixels)).float().cpu()
            bad = ~torch.isfinite(found).all(1)
            if bad.any():
                raise InputError(
                    f"the backbone's features at {self.model.config.site!r} of image "
                    f"{batch.ids[int(bad.int().argmax())]!r} are not finite"
                )
            values.append(found.numpy())
            indices.append(batch.indices)
        return np.concatenate(values), np.concatenate(indices), tuple(broken)


def _readable(
    whole: ProbeSet, span: range, options: FeatureOptions, broken: list[Skipped]
) -> Iterator[Batch]:
    """Yield the readable images of a span; the others go to ``broken``, be it all of them."""
    every = batches(
        whole, batch_size=options.batch_size, indices=list(span), workers=options.workers
    )
    try:
        with every:
            yield from every
    except InputError:
        if len(every.skipped) < len(span):
            raise
    broken.extend(every.skipped)


def _read(store: Store) -> tuple[FloatArray, Indices, tuple[Skipped, ...]]:
    skipped = tuple(Skipped(**each) for each in store.facts["skipped"])
    return store.read(VALUES), store.read(INDICES), skipped


def _whole(probe: ProbeSet) -> tuple[ProbeSet, Indices]:
    """Return the set behind a part (of a part …), and which of its images are wanted."""
    indices = np.arange(len(probe), dtype=np.int64)
    while isinstance(probe, Subset):
        probe, own = probe.origin
        indices = own[indices]
    return probe, indices


def _array(shape: tuple[int, int], memory_mb: int) -> FloatArray:
    """Return an array, in a temporary file (which is gone when it is) where it is too large."""
    if 4 * shape[0] * shape[1] <= memory_mb * 2**20:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)
