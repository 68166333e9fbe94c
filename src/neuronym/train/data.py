"""Images for training: decoded once into memory where they fit, else streamed by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from neuronym.errors import InputError, UnreadableError
from neuronym.files import fingerprint
from neuronym.models.preprocessing import Preprocessing
from neuronym.probes.base import ProbeSet
from neuronym.probes.scenes import SceneSet, render_many

__all__ = [
    "ImageSource",
    "Subset",
    "class_names_of",
    "epoch_order",
    "open_source",
    "parts_of",
    "split",
]

Indices = npt.NDArray[np.int64]
ImageView = Callable[[Image.Image, int], Tensor]
_AHEAD = 2


class Subset:
    """Some images of a probe set, in a given order; itself a probe set."""

    def __init__(self, probe: ProbeSet, indices: Indices, *, name: str) -> None:
        """Select ``indices`` of ``probe``; ``name``, e.g. ``"/holdout"``, is put after its own."""
        self._probe = probe
        self._indices = np.asarray(indices, dtype=np.int64)
        self.name = f"{probe.name}{name}"

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def ids(self) -> Sequence[str]:
        every = self._probe.ids
        return [every[index] for index in self._indices.tolist()]

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        every = self._probe.labels
        return None if every is None else np.asarray(every)[self._indices]

    @property
    def label_names(self) -> tuple[str, ...] | None:
        return self._probe.label_names

    @property
    def fingerprint(self) -> str:
        return fingerprint("subset", self._probe.fingerprint, self._indices.tobytes())

    @property
    def origin(self) -> tuple[ProbeSet, Indices]:
        """The whole set, and which of its images these are."""
        return self._probe, self._indices

    def image(self, index: int) -> Image.Image:
        return self._probe.image(int(self._indices[index]))


def parts_of(
    data: ProbeSet, validation: ProbeSet | None, *, holdout: float, seed: int
) -> tuple[ProbeSet, ProbeSet]:
    """Return what is trained on and what validates: a share of ``data`` where nothing is given.

    Raises:
        InputError: Nothing validates, or the two sets have different classes.
    """
    if validation is None:
        if holdout == 0:
            raise InputError("holdout=0 keeps no image apart; give a validation set")
        return split(data, holdout, seed=seed)
    names, other = class_names_of(data), class_names_of(validation)
    if other != names:
        raise InputError(
            f"{validation.name!r} and {data.name!r} have different classes: "
            f"{', '.join(other[:4])} … and {', '.join(names[:4])} …"
        )
    return data, validation


def split(probe: ProbeSet, holdout: float, *, seed: int) -> tuple[Subset, Subset]:
    """Split a labelled set into training and validation parts, each class in proportion.

    Args:
        probe: With labels.
        holdout: Share that validates, in (0, 1).
        seed: The same seed gives the same parts.

    Returns:
        Training and validation part, each in the order of the set.

    Raises:
        InputError: There are no labels, ``holdout`` is out of range, or a part would be empty.
    """
    if not 0 < holdout < 1:
        raise InputError(f"holdout must be in (0, 1), not {holdout!r}")
    labels = required_labels(probe)
    rng = np.random.default_rng((seed, 0x5EED))
    chosen = np.zeros(len(labels), dtype=bool)
    left_over: list[int] = []
    for value in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == value))
        count = int(len(members) * holdout)
        chosen[members[:count]] = True
        left_over.extend(members[count:].tolist())
    missing = round(len(labels) * holdout) - int(chosen.sum())
    if missing > 0:
        chosen[rng.permutation(left_over)[:missing]] = True
    if not chosen.any() or chosen.all():
        raise InputError(
            f"holdout={holdout} of {len(labels)} images leaves an empty part; give a validation set"
        )
    return (
        Subset(probe, np.flatnonzero(~chosen), name="/train"),
        Subset(probe, np.flatnonzero(chosen), name="/holdout"),
    )


def required_labels(probe: ProbeSet) -> npt.NDArray[np.int64]:
    """Return the labels of ``probe``.

    Raises:
        InputError: It has none, or no images.
    """
    if len(probe) == 0:
        raise InputError(f"{probe.name!r} has no images")
    labels = probe.labels
    if labels is None:
        raise InputError(f"{probe.name!r} has no labels; training and validation need them")
    return np.asarray(labels, dtype=np.int64)


def class_names_of(probe: ProbeSet) -> tuple[str, ...]:
    """Return the class names of a labelled set; classes without names are numbered.

    Raises:
        InputError: There are fewer than two classes, or a label has no name.
    """
    labels = required_labels(probe)
    names = probe.label_names
    if names is None:
        names = tuple(str(index) for index in range(int(labels.max()) + 1))
    if labels.min() < 0 or labels.max() >= len(names):
        raise InputError(
            f"{probe.name!r} has labels from {labels.min()} to {labels.max()} "
            f"for {len(names)} class names"
        )
    if len(names) < 2:
        raise InputError(f"{probe.name!r} has one class ({names[0]!r}); a classifier needs two")
    return names


class ImageSource:
    """Batches of (pixels, labels) of a probe set, by index.

    Attributes:
        labels: (images,) int64.
        skipped: Id and reason of every image that could not be read so far.
        in_memory: Whether all pixels are held decoded.
    """

    def __init__(
        self, probe: ProbeSet, preprocessing: Preprocessing, *, workers: int, memory_mb: int
    ) -> None:
        """Open a labelled probe set; decodes it at once where it fits into ``memory_mb``."""
        self.probe = probe
        self.preprocessing = preprocessing
        self.labels = torch.from_numpy(required_labels(probe).copy())
        self.skipped: dict[str, str] = {}
        self.workers = workers
        self._ids = probe.ids
        channels, height, width = preprocessing.input_size
        self.in_memory = len(probe) * channels * height * width <= memory_mb * 2**20
        self._store: Tensor | None = None
        self._good = np.ones(len(probe), dtype=bool)
        if self.in_memory:
            self._store = self._decode_all()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def good(self) -> Indices:
        """Indices of the images that are not known to be broken."""
        return np.flatnonzero(self._good)

    def batches(self, order: Sequence[int] | Indices, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (N, C, H, W) uint8 pixels and (N,) labels of ``size`` indices each, in order.

        A streamed image that turns out broken is left out of its batch and listed in ``skipped``.
        At most three batches are decoded at a time.
        """
        order = np.asarray(order, dtype=np.int64)
        return self.groups([order[start : start + size] for start in range(0, len(order), size)])

    def groups(
        self, groups: Sequence[Indices], *, view: ImageView | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one batch per group of indices, as :meth:`batches` does.

        Args:
            groups: Indices of each batch.
            view: Turns an image and its index into pixels, instead of the preprocessing; called
                by several threads. Of images that are held in memory it gets the fitted ones.
        """
        if self._store is not None and view is None:
            for group in groups:
                index = torch.from_numpy(group)
                yield self._store[index], self.labels[index]
            return
        with ThreadPoolExecutor(self.workers) as pool:
            waiting: deque[tuple[Indices, list[Future[Tensor | None]]]] = deque()
            for group in groups:
                waiting.append(
                    (group, [pool.submit(self._seen, each, view) for each in group.tolist()])
                )
                if len(waiting) > _AHEAD:
                    yield self._gathered(*waiting.popleft())
            while waiting:
                yield self._gathered(*waiting.popleft())

    def _seen(self, index: int, view: ImageView | None) -> Tensor | None:
        if view is None:
            return self._decode(index)
        if self._store is not None:
            return view(_as_image(self._store[index]), index)
        try:
            return view(self.probe.image(index), index)
        except UnreadableError as error:
            self._skip(index, error)
            return None

    def _skip(self, index: int, error: UnreadableError) -> None:
        self._good[index] = False
        self.skipped[self._ids[index]] = str(error)

    def _gathered(
        self, group: Indices, futures: list[Future[Tensor | None]]
    ) -> tuple[Tensor, Tensor]:
        decoded = [future.result() for future in futures]
        kept = [index for index, pixels in zip(group, decoded, strict=True) if pixels is not None]
        found = [pixels for pixels in decoded if pixels is not None]
        if not found:
            shape = (0, *self.preprocessing.input_size)
            return torch.empty(shape, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
        return torch.stack(found), self.labels[torch.tensor(kept)]

    def _decode(self, index: int) -> Tensor | None:
        try:
            return self.preprocessing.pixels(self.probe.image(index))
        except UnreadableError as error:
            self._skip(index, error)
            return None

    def _decode_all(self) -> Tensor:
        store = torch.empty((len(self.probe), *self.preprocessing.input_size), dtype=torch.uint8)
        if (scenes := _scenes_of(self.probe)) is not None:
            return self._render_all(store, *scenes)
        with ThreadPoolExecutor(self.workers) as pool:
            for index, pixels in enumerate(pool.map(self._decode, range(len(self.probe)))):
                if pixels is None:
                    store[index] = 0
                else:
                    store[index] = pixels
        return store

    def _render_all(self, store: Tensor, scenes: SceneSet, indices: Indices) -> Tensor:
        wanted = [scenes.scenes[index] for index in indices.tolist()]
        place = 0
        for chunk in render_many(wanted, size=scenes.size, workers=self.workers):
            for array in chunk:
                store[place] = self.preprocessing.pixels(Image.fromarray(array))
                place += 1
        return store


def _as_image(pixels: Tensor) -> Image.Image:
    """Return (C, H, W) uint8 pixels as an image."""
    array = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else np.ascontiguousarray(array))


def _scenes_of(probe: ProbeSet) -> tuple[SceneSet, Indices] | None:
    """Return the scenes behind ``probe`` where it is such a set, or a part, still to be drawn."""
    whole, indices = probe, np.arange(len(probe), dtype=np.int64)
    if isinstance(probe, Subset):
        whole, indices = probe.origin
    if isinstance(whole, SceneSet) and not whole.is_rendered:
        return whole, indices
    return None


def open_source(
    probe: ProbeSet, preprocessing: Preprocessing, *, workers: int = 2, memory_mb: int = 1024
) -> ImageSource:
    """Open a labelled probe set for training or evaluation.

    Raises:
        InputError: It has no labels, or no readable image.
    """
    source = ImageSource(probe, preprocessing, workers=workers, memory_mb=memory_mb)
    if not len(source.good):
        reason = next(iter(source.skipped.values()))
        raise InputError(f"{probe.name!r} has no readable image; the first fails with: {reason}")
    return source


def epoch_order(good: Indices, *, seed: int, epoch: int) -> Indices:
    """Return the indices in the order of one epoch; it depends on nothing but the arguments."""
    return np.random.default_rng((seed, epoch)).permutation(good)
