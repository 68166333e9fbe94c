"""What a probe set is: images with stable ids, and labels where the source has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["ProbeSet"]


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
