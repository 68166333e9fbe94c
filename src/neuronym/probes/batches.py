"""A probe set in batches: decoded ahead in threads, in order, without the broken images."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuronym.errors import InputError, UnreadableError
from neuronym.probes.base import ProbeSet

__all__ = ["Batch", "Batches", "Skipped", "batches"]


@dataclass(frozen=True)
class Batch:
    """Decoded images.

    Attributes:
        indices: ``(images,)`` int64, place of each image in the probe set.
        ids: Id of each image.
        images: RGB images.
    """

    indices: npt.NDArray[np.int64]
    ids: tuple[str, ...]
    images: tuple[Image.Image, ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Skipped:
    """An image that could not be decoded: its place, its id, and why."""

    index: int
    id: str
    reason: str


class Batches(Iterator[Batch]):
    """Iterates once over a probe set; made by :func:`batches`.

    Attributes:
        skipped: The broken images met so far; complete when the iteration has ended.
        total: Number of images that are asked for, broken ones included.
    """

    def __init__(
        self, probes: ProbeSet, indices: Sequence[int], *, batch_size: int, workers: int
    ) -> None:
        self.skipped: list[Skipped] = []
        self.total = len(indices)
        self._batches = _iterate(
            probes, indices, batch_size=batch_size, workers=workers, skipped=self.skipped
        )

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

    Raises:
        InputError: There is no image, a number is out of range, or (at the end of the
            iteration) every image was broken.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    if workers is None:
        workers = min(4, os.cpu_count() or 1)
    if workers < 0:
        raise InputError(f"workers must be 0 or more, not {workers}")
    chosen = range(len(probes)) if indices is None else np.asarray(indices).tolist()
    if not len(chosen):
        raise InputError(f"no images to read from {probes.name!r}")
    if min(chosen) < 0 or max(chosen) >= len(probes):
        raise InputError(f"indices must lie in 0 to {len(probes) - 1} of {probes.name!r}")
    return Batches(probes, chosen, batch_size=batch_size, workers=workers)


def _decode(probes: ProbeSet, index: int) -> Image.Image | Skipped:
    try:
        return probes.image(index)
    except UnreadableError as error:
        return Skipped(index, probes.ids[index], str(error))


def _decoded(
    probes: ProbeSet, indices: Sequence[int], *, workers: int, ahead: int
) -> Generator[tuple[int, Image.Image | Skipped], None, None]:
    if workers == 0:
        for index in indices:
            yield index, _decode(probes, index)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="neuronym-decode")
    waiting: deque[tuple[int, Future[Image.Image | Skipped]]] = deque()
    try:
        for index in indices:
            waiting.append((index, pool.submit(_decode, probes, index)))
            if len(waiting) >= ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _iterate(
    probes: ProbeSet,
    indices: Sequence[int],
    *,
    batch_size: int,
    workers: int,
    skipped: list[Skipped],
) -> Generator[Batch, None, None]:
    stream = _decoded(probes, indices, workers=workers, ahead=2 * batch_size)
    held: list[tuple[int, Image.Image]] = []
    good = 0
    try:
        for index, image in stream:
            if isinstance(image, Skipped):
                skipped.append(image)
                continue
            held.append((index, image))
            good += 1
            if len(held) == batch_size:
                yield _batch(probes, held)
                held = []
        if held:
            yield _batch(probes, held)
    finally:
        stream.close()
    if not good:
        raise InputError(
            f"every one of the {len(indices)} images of {probes.name!r} is broken; "
            f"the first: {skipped[0].reason}"
        )


def _batch(probes: ProbeSet, held: list[tuple[int, Image.Image]]) -> Batch:
    indices = [index for index, _ in held]
    return Batch(
        np.array(indices, dtype=np.int64),
        tuple(probes.ids[index] for index in indices),
        tuple(image for _, image in held),
    )
