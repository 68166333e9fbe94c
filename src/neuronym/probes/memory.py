"""Probe sets from what a program already holds: images, a dataset, or part of a probe set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuronym.errors import InputError, UnreadableError
from neuronym.files import fingerprint
from neuronym.probes.base import ProbeSet, read_image
from neuronym.probes.decode import to_rgb

__all__ = [
    "HeldProbes",
    "Subset",
    "check_labels",
    "from_dataset",
    "from_images",
    "sampled",
    "subset",
]

Labels = npt.NDArray[np.int64]
_SAMPLED = 64
_LABEL_FIELDS = ("targets", "labels", "_labels", "y")
_PAIR_FIELDS = ("samples", "_samples", "imgs")


class HeldProbes:
    """A probe set over a function from index and ``at_least`` (see ``decode``) to image.

    Made by the functions of this module.
    """

    def __init__(
        self,
        read: Callable[[int, int | None], Image.Image],
        ids: Sequence[str],
        *,
        name: str,
        fingerprint: Callable[[], str],
        labels: Labels | None = None,
        label_names: tuple[str, ...] | None = None,
    ) -> None:
        self._read = read
        self._fingerprint = fingerprint
        self.name = name
        self.ids = tuple(ids)
        self.labels = labels
        self.label_names = label_names

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the images; computed at the first use."""
        return self._fingerprint()

    def image(self, index: int) -> Image.Image:
        """Return one image as RGB; :class:`UnreadableError` names a broken one and says why."""
        return self._read(range(len(self))[index], None)

    def reduced(self, index: int, at_least: int) -> Image.Image:
        """Return one image as RGB, at reduced size where its source can; see ``decode``."""
        return self._read(range(len(self))[index], at_least)


class Subset(HeldProbes):
    """Some images of another probe set, in a given order.

    Attributes:
        base: The probe set that it is a part of.
        indices: ``(images,)`` int64, the place of each image in ``base``.
    """

    def __init__(self, base: ProbeSet, indices: Labels) -> None:
        positions = indices.tolist()
        super().__init__(
            lambda index, at_least: read_image(base, positions[index], at_least),
            [base.ids[position] for position in positions],
            name=f"{base.name}[{len(positions)} of {len(base)}]",
            fingerprint=lambda: fingerprint("subset", base.fingerprint, indices.tobytes()),
            labels=None if base.labels is None else base.labels[indices],
            label_names=base.label_names,
        )
        self.base = base
        self.indices = indices


def subset(probes: ProbeSet, indices: Sequence[int] | npt.NDArray[np.integer]) -> Subset:
    """Return the images at ``indices``, in that order; a subset of a subset is taken of its base.

    Raises:
        InputError: There is no index, one occurs twice, or one is out of range.
    """
    chosen = np.asarray(indices)
    if chosen.ndim != 1 or not len(chosen) or chosen.dtype.kind not in "iu":
        raise InputError("subset needs a non-empty list of whole numbers")
    chosen = chosen.astype(np.int64)
    if chosen.min() < 0 or chosen.max() >= len(probes):
        raise InputError(
            f"subset index {int(chosen.min() if chosen.min() < 0 else chosen.max())} is outside "
            f"0 to {len(probes) - 1}"
        )
    if len(np.unique(chosen)) != len(chosen):
        raise InputError("subset indices occur twice; ids of a probe set are unique")
    if isinstance(probes, Subset):
        return Subset(probes.base, probes.indices[chosen])
    return Subset(probes, chosen)


def sampled(probes: ProbeSet, count: int | None, *, seed: int) -> ProbeSet:
    """Return so many images, drawn with the seed and in their order; all where there are no more.

    Args:
        probes: Images.
        count: At most so many, at least 1; ``None`` takes all.
        seed: At least 0.

    Raises:
        InputError: A number is out of range.
    """
    if count is not None and count < 1:
        raise InputError(f"the number of images must be at least 1, not {count}")
    if seed < 0:
        raise InputError(f"seed must be at least 0, not {seed}")
    if count is None or count >= len(probes):
        return probes
    drawn = np.random.default_rng(seed).choice(len(probes), count, replace=False)
    return subset(probes, np.sort(drawn))


def from_images(
    images: Sequence[Image.Image],
    *,
    ids: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    label_names: Sequence[str] | None = None,
    name: str = "images",
) -> HeldProbes:
    """Make a probe set of PIL images.

    Args:
        images: Images of any size and mode.
        ids: One unique id per image; ``"image-0"`` and so on where ``None``.
        labels: One class index per image.
        label_names: Name of each class index.
        name: Says where the images come from.

    Raises:
        InputError: There is no image, one is not a PIL image, or the lengths differ.
    """
    held = list(images)
    for index, image in enumerate(held):
        if not isinstance(image, Image.Image):
            raise InputError(f"image {index} is a {type(image).__name__}, not a PIL image")
    ids = _check_ids(ids, count=len(held), prefix="image")

    def digest() -> str:
        return fingerprint("images", [[i.mode, list(i.size), i.tobytes()] for i in held])

    return HeldProbes(
        lambda index, _: _converted(held[index], ids[index]),
        ids,
        name=name,
        fingerprint=digest,
        labels=check_labels(labels, count=len(held), names=label_names),
        label_names=None if label_names is None else tuple(label_names),
    )


def from_dataset(
    dataset: Any,
    *,
    name: str | None = None,
    ids: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    label_names: Sequence[str] | None = None,
) -> HeldProbes:
    """Make a probe set of a map-style dataset of PIL images, as torchvision's are.

    An item is an image, or a tuple whose first part is one. Give the dataset without a transform
    that makes tensors. Labels and class names are taken from the fields that torchvision's
    datasets have (``targets``, ``classes`` and the like), also through ``torch.utils.data.Subset``.

    The fingerprint covers the number of images, the labels, and the pixels of 64 images spread
    over the dataset.

    Raises:
        InputError: The dataset is empty or has no length, or the lengths differ.
    """
    try:
        count = len(dataset)
    except TypeError as error:
        raise InputError(
            f"dataset {type(dataset).__name__} has no length; only map-style datasets are read"
        ) from error
    ids = _check_ids(ids, count=count, prefix="item")
    found = labels if labels is not None else dataset_labels(dataset)
    names = label_names if label_names is not None else dataset_classes(dataset)
    array = check_labels(found, count=count, names=names)

    def read(index: int, _: int | None = None) -> Image.Image:
        return _item(dataset, index, ids[index])

    def digest() -> str:
        picks = np.unique(np.linspace(0, count - 1, min(count, _SAMPLED)).astype(np.int64))
        pixels: list[object] = []
        for pick in picks.tolist():
            with contextlib.suppress(UnreadableError):
                image = read(pick)
                pixels.append([pick, list(image.size), image.tobytes()])
        known = b"" if array is None else array.tobytes()
        return fingerprint("dataset", type(dataset).__name__, count, known, pixels)

    return HeldProbes(
        read,
        ids,
        name=name or type(dataset).__name__,
        fingerprint=digest,
        labels=array,
        label_names=None if names is None else tuple(str(part) for part in names),
    )


def dataset_labels(dataset: Any) -> Sequence[int] | None:
    """Return the class of every item from a torchvision-like dataset's fields, else ``None``."""
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        whole = dataset_labels(dataset.dataset)
        return None if whole is None else [whole[index] for index in dataset.indices]
    for field in _LABEL_FIELDS:
        values = getattr(dataset, field, None)
        if values is not None and np.ndim(values) == 1 and len(values) == len(dataset):
            array = np.asarray(values)
            return array.astype(np.int64).tolist() if array.dtype.kind in "iu" else None
    for field in _PAIR_FIELDS:
        pairs = getattr(dataset, field, None)
        if isinstance(pairs, list) and len(pairs) == len(dataset):
            second = [pair[1] for pair in pairs if isinstance(pair, tuple) and len(pair) == 2]
            if len(second) == len(pairs) and all(isinstance(value, int) for value in second):
                return second
    return None


def dataset_classes(dataset: Any) -> Sequence[str] | None:
    """Return the class names of a torchvision-like dataset, else ``None``."""
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        return dataset_classes(dataset.dataset)
    classes = getattr(dataset, "classes", None)
    if not isinstance(classes, (list, tuple)) or not classes:
        return None
    # ImageNet's classes are tuples of synonyms: the first one names the class.
    return [str(name[0] if isinstance(name, tuple) else name) for name in classes]


def _item(dataset: Any, index: int, name: str) -> Image.Image:
    try:
        item = dataset[index]
    except Exception as error:  # a dataset may raise anything on a broken file
        why = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"image {name!r} is broken: {why}") from error
    image = item[0] if isinstance(item, (tuple, list)) else item
    if not isinstance(image, Image.Image):
        raise InputError(
            f"dataset item {index} holds a {type(image).__name__}, not a PIL image; "
            "give the dataset without its transform"
        )
    return _converted(image, name)


def _converted(image: Image.Image, name: str) -> Image.Image:
    try:
        return to_rgb(image)
    except Exception as error:  # a lazily opened image fails only here
        why = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"image {name!r} is broken: {why}") from error


def _check_ids(ids: Sequence[str] | None, *, count: int, prefix: str) -> tuple[str, ...]:
    if count < 1:
        raise InputError("a probe set needs at least one image")
    if ids is None:
        return tuple(f"{prefix}-{index}" for index in range(count))
    if len(ids) != count:
        raise InputError(f"{len(ids)} ids for {count} images")
    if len(set(ids)) != count:
        raise InputError("ids must be unique")
    return tuple(ids)


def check_labels(
    labels: Sequence[int] | None, *, count: int, names: Sequence[str] | None
) -> Labels | None:
    """Return labels as ``(images,)`` int64; -1 stands for an image without one.

    Raises:
        InputError: The number of labels is wrong, or a label has no name.
    """
    if labels is None:
        return None
    array = np.asarray(labels)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise InputError(f"labels must be {count} whole numbers, one per image")
    array = array.astype(np.int64)
    top = int(array.max(initial=-1))
    if int(array.min(initial=0)) < -1 or (names is not None and top >= len(names)):
        raise InputError(
            f"labels run from {int(array.min())} to {top}; "
            + (f"{len(names)} class names are given" if names is not None else "-1 or more allowed")
        )
    return array
