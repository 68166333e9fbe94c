"""A probe set in batches: decoded ahead in threads, in order, without the broken images."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuronym.errors import InputError, UnavailableError, UnreadableError
from neuronym.probes.ahead import Ahead, Decoded, Item, Prepare, Reading, Skipped
from neuronym.probes.base import ProbeSet, read_image

__all__ = ["Batch", "Batches", "Skipped", "batches", "items_of"]


@dataclass(frozen=True)
class Batch:
    """Decoded images.

    Attributes:
        indices: ``(images,)`` int64, the key of each image: its place in the probe set, or
            piece × 2³² + position in a stream.
        ids: Id of each image.
        images: RGB images.
        labels: ``(images,)`` int64, the class of each image or -1; ``None`` where the source has
            no labels.
        end: Position after the last image read for this batch, among those that are asked for
            (broken ones count): where a reading that is interrupted here goes on.
        prepared: Name → what that function of ``prepare`` made of each image.
    """

    indices: npt.NDArray[np.int64]
    ids: tuple[str, ...]
    images: tuple[Image.Image, ...]
    labels: npt.NDArray[np.int64] | None = None
    end: int = 0
    prepared: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)


@dataclass
class _State:
    """What an iteration has met so far; apart from :class:`Batches`, so that no cycle keeps it."""

    skipped: list[Skipped]
    end: int
    labelled: bool
    whole: str | None
    good: int = 0


class Batches(Iterator[Batch]):
    """Iterates once over images; made by :func:`batches` and by ``Pieces.open``.

    Attributes:
        skipped: The broken images met so far; complete when the iteration has ended.
        total: Number of images that are asked for, broken ones included; ``None`` where it is
            not known before they are read.
    """

    def __init__(
        self,
        items: Generator[Item, None, None],
        reading: Reading,
        *,
        total: int | None,
        labelled: bool,
        start: int = 0,
        whole: str | None = None,
    ) -> None:
        """Use :func:`batches` or ``Pieces.open``.

        Args:
            items: The images in order; an error that it raises comes after the images before it.
            reading: How they are read.
            total: Number of images, where it is known.
            labelled: Whether the items have labels.
            start: Position of the first item.
            whole: Name of the source, where it is an error that none of its images is good.
        """
        self.total = total
        self._state = _State([], start, labelled, whole)
        self._batches = _iterate(Ahead(items, reading), reading, self._state)

    @property
    def skipped(self) -> list[Skipped]:
        """The broken images met so far."""
        return self._state.skipped

    @property
    def end(self) -> int:
        """Position after the last image met so far, broken ones included."""
        return self._state.end

    def __next__(self) -> Batch:
        return next(self._batches)

    def close(self) -> None:
        """Stop the threads; leaving a ``for`` loop over a temporary does so by itself."""
        self._batches.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def batches(
    probes: ProbeSet,
    *,
    batch_size: int = 64,
    indices: Sequence[int] | npt.NDArray[np.integer] | None = None,
    workers: int | None = None,
    at_least: int | None = None,
    prepare: Prepare | None = None,
) -> Batches:
    """Iterate over a probe set in batches of decoded images, in order.

    Images are decoded ahead in threads, at most two batches. A broken image is left out and
    listed in ``skipped``; batches are filled up with the next images, so only the last one may be
    smaller.

    Args:
        probes: The images.
        batch_size: Images per batch, at least 1.
        indices: Which images, in which order; all of them where ``None``.
        workers: Threads; 0 decodes in the caller's thread; ``None`` takes one per processor, at
            most 4.
        at_least: Decode JPEG files at reduced size, see :func:`neuronym.probes.decode`; ignored
            by a probe set that has no files.
        prepare: Name → function of an image, such as a model's transform. It runs in the thread
            that decoded the image, so it must be safe to call from several; the results are in
            ``Batch.prepared``.

    Raises:
        InputError: There is no image, a number is out of range, or (in the iteration) a function
            of ``prepare`` failed or (at its end) every image was broken.
    """
    reading = Reading(batch_size, workers, at_least, prepare or {})
    chosen = range(len(probes)) if indices is None else np.asarray(indices).tolist()
    if not len(chosen):
        raise InputError(f"no images to read from {probes.name!r}")
    if min(chosen) < 0 or max(chosen) >= len(probes):
        raise InputError(f"indices must lie in 0 to {len(probes) - 1} of {probes.name!r}")
    return Batches(
        items_of(probes, chosen),
        reading,
        total=len(chosen),
        labelled=probes.labels is not None,
        whole=probes.name,
    )


def items_of(
    probes: ProbeSet, indices: Sequence[int], *, start: int = 0
) -> Generator[Item, None, None]:
    """Yield images of a probe set as items; ``start`` is the position of the first one."""
    labels = probes.labels
    for end, index in enumerate(indices, start=start + 1):
        read = partial(read_image, probes, index)
        label = -1 if labels is None else int(labels[index])
        yield Item(index, probes.ids[index], end, read, label)


def _iterate(ahead: Ahead, reading: Reading, state: _State) -> Generator[Batch, None, None]:
    held: list[tuple[Item, Decoded]] = []
    steps = iter(ahead)
    failure: UnreadableError | UnavailableError | None = None
    try:
        while True:
            try:
                item, result = next(steps)
            except StopIteration:
                break
            except (UnreadableError, UnavailableError) as error:
                failure = error  # what was read before it comes first
                break
            state.end = item.end
            if isinstance(result, Skipped):
                state.skipped.append(result)
                ahead.release(1)
                continue
            held.append((item, result))
            if len(held) == reading.batch_size:
                ahead.release(len(held))
                yield _taken(held, reading, state)
        if held:
            yield _taken(held, reading, state)
    finally:
        ahead.close()
    if failure is not None:
        raise failure
    if state.whole is not None and not state.good:
        raise InputError(
            f"every one of the {state.end} images of {state.whole!r} is broken; "
            f"the first: {state.skipped[0].reason}"
        )


def _taken(held: list[tuple[Item, Decoded]], reading: Reading, state: _State) -> Batch:
    """Make a batch of what is held, and empty it: the consumer then owns the images alone."""
    items = [item for item, _ in held]
    rows = [decoded.prepared for _, decoded in held]
    labels = np.array([item.label for item in items], dtype=np.int64)
    batch = Batch(
        indices=np.array([item.key for item in items], dtype=np.int64),
        ids=tuple(item.id for item in items),
        images=tuple(decoded.image for _, decoded in held),
        labels=labels if state.labelled else None,
        end=state.end,
        prepared={name: tuple(row[at] for row in rows) for at, name in enumerate(reading.prepare)},
    )
    state.good += len(held)
    held.clear()
    return batch
