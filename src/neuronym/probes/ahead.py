"""Images decoded ahead of their consumer: read in order by one thread, decoded by several."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from PIL import Image

from neuronym.errors import InputError, UnreadableError

__all__ = ["Ahead", "Decoded", "Item", "Prepare", "Reading", "Skipped"]

Prepare = Mapping[str, Callable[[Image.Image], Any]]
_BATCHES_AHEAD = 2
_MOST_WORKERS = 4


@dataclass(frozen=True)
class Item:
    """One image that is to be decoded.

    Attributes:
        key: Its number in the whole source.
        id: Its unique name in the whole source.
        end: The position after it in what is being read.
        read: Decodes it; takes ``at_least`` of :func:`neuronym.probes.decode`.
        label: Its class, or -1.
    """

    key: int
    id: str
    end: int
    read: Callable[[int | None], Image.Image]
    label: int = -1


@dataclass(frozen=True)
class Skipped:
    """An image that could not be decoded: its place (its key), its id, and why."""

    index: int
    id: str
    reason: str


@dataclass(frozen=True)
class Decoded:
    """An image, and what each function of ``prepare`` made of it."""

    image: Image.Image
    prepared: tuple[Any, ...]


@dataclass(frozen=True)
class Reading:
    """How images are read.

    Attributes:
        batch_size: Images per batch, at least 1.
        workers: Threads; 0 reads in the caller's thread; ``None`` takes one per processor, at
            most 4.
        at_least: See :func:`neuronym.probes.decode`.
        prepare: Name → function of an image, run where the image was decoded.

    Raises:
        InputError: A number is out of range.
    """

    batch_size: int = 64
    workers: int | None = None
    at_least: int | None = None
    prepare: Prepare = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {self.batch_size}")
        if self.workers is not None and self.workers < 0:
            raise InputError(f"workers must be 0 or more, not {self.workers}")
        if self.at_least is not None and self.at_least < 1:
            raise InputError(f"at_least must be 1 pixel or more, not {self.at_least}")

    @property
    def threads(self) -> int:
        """Number of threads that decode."""
        return min(_MOST_WORKERS, os.cpu_count() or 1) if self.workers is None else self.workers

    def decoded(self, item: Item) -> Decoded | Skipped:
        """Decode one image and prepare it.

        Raises:
            InputError: A function of ``prepare`` failed.
        """
        try:
            image = item.read(self.at_least)
        except UnreadableError as error:
            return Skipped(item.key, item.id, str(error))
        made = (
            _prepared(name, function, image, item.id) for name, function in self.prepare.items()
        )
        return Decoded(image, tuple(made))


def _prepared(
    name: str, function: Callable[[Image.Image], Any], image: Image.Image, image_id: str
) -> Any:
    try:
        return function(image)
    except Exception as error:  # a transform of the caller's may raise anything
        why = " ".join(str(error).split()) or "no text"
        raise InputError(
            f"preparing {name!r} failed on image {image_id!r}: {type(error).__name__}: {why}"
        ) from error


_Step = tuple[Item, "Future[Decoded | Skipped]"] | BaseException | None  # None is the end


class Ahead:
    """Iterates over items and what became of them, in order.

    One thread takes the items from their source (so that a slow disk or network is waited for
    there), and hands each to a pool that decodes. It stops while two batches wait; whoever
    consumes them calls :meth:`release` for every item that has left.

    Args:
        items: The source; it is closed at the end.
        reading: Batch size and number of threads.
    """

    def __init__(self, items: Generator[Item, None, None], reading: Reading) -> None:
        self._items, self._reading = items, reading
        self._slots = threading.Semaphore(_BATCHES_AHEAD * reading.batch_size)
        self._stop = threading.Event()
        self._pool: ThreadPoolExecutor | None = None
        self._reader: threading.Thread | None = None

    def __iter__(self) -> Iterator[tuple[Item, Decoded | Skipped]]:
        if self._reading.threads == 0:
            for item in self._items:
                yield item, self._reading.decoded(item)
            return
        self._pool = ThreadPoolExecutor(self._reading.threads, thread_name_prefix="neuronym-decode")
        waiting: SimpleQueue[_Step] = SimpleQueue()
        self._reader = threading.Thread(
            target=self._fill, args=(self._pool, waiting), name="neuronym-read", daemon=True
        )
        self._reader.start()
        while (step := waiting.get()) is not None:
            if isinstance(step, BaseException):
                raise step
            yield step[0], step[1].result()

    def release(self, count: int) -> None:
        """Make room for ``count`` more items."""
        self._slots.release(count)

    def close(self) -> None:
        """Stop the threads and close the source."""
        self._stop.set()
        self._slots.release()
        if self._reader is not None:
            self._reader.join()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._items.close()

    def _fill(self, pool: ThreadPoolExecutor, waiting: SimpleQueue[_Step]) -> None:
        while True:
            self._slots.acquire()
            if self._stop.is_set():
                return
            try:
                item = next(self._items, None)
                if item is None:
                    waiting.put(None)
                    return
                waiting.put((item, pool.submit(self._reading.decoded, item)))
            except BaseException as error:  # it belongs to the consumer
                waiting.put(error)
                return
