"""What a probe set is: images with stable ids, and labels where the source has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["ProbeSet", "Reducible", "read_image"]


@runtime_checkable
class ProbeSet(Protocol):
    """Images that units are shown.

    Attributes:
        name: The SPEC that loads it.
        ids: One stable, unique id per image (a path inside the source, or ``"scene-17"``).
        labels: ``(images,)`` int64 class index, or ``None`` where the source has no labels.
        label_names: Name of each class index, or ``None``.
        fingerprint: Identifies the images by content (or by what determines it), for caches.
    """

    @property
    def name(self) -> str: ...

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def labels(self) -> npt.NDArray[np.int64] | None: ...

    @property
    def label_names(self) -> tuple[str, ...] | None: ...

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """Decode one image as RGB.

        Raises:
            neuronym.errors.UnreadableError: The image is broken; the text names it and says why.
        """
        ...


@runtime_checkable
class Reducible(Protocol):
    """A probe set whose images lie in files, so that they can be decoded at reduced size.

    This is apart from :class:`ProbeSet`, because most other sources have nothing to reduce.
    """

    def reduced(self, index: int, at_least: int) -> Image.Image:
        """Decode one image as RGB; see :func:`neuronym.probes.decode` for ``at_least``.

        Raises:
            neuronym.errors.UnreadableError: The image is broken.
        """
        ...


def read_image(probes: ProbeSet, index: int, at_least: int | None) -> Image.Image:
    """Decode one image, at reduced size where that is asked for and the probe set can."""
    if at_least is None or not isinstance(probes, Reducible):
        return probes.image(index)
    return probes.reduced(index, at_least)
