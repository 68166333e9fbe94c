"""Small labelled image sets for the tests of training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuronym.errors import UnreadableError

COLOURS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [200, 200, 60]], dtype=np.float64)


class Blobs:
    """Noisy patches of one of a few colours; the label is the colour."""

    def __init__(
        self, count: int = 96, *, side: int = 16, classes: int = 3, broken: Sequence[int] = ()
    ) -> None:
        rng = np.random.default_rng((count, side, classes))
        self.labels: npt.NDArray[np.int64] | None = rng.integers(0, classes, count)
        noise = rng.normal(0, 45, (count, side, side, 3))
        pixels = COLOURS[self.labels][:, None, None, :] + noise
        self.arrays = np.clip(pixels, 0, 255).astype(np.uint8)
        self.label_names: tuple[str, ...] | None = ("red", "green", "blue", "yellow")[:classes]
        self.name = f"blobs:{count}"
        self.fingerprint = f"blobs-{count}-{side}-{classes}"
        self.broken = set(broken)
        self.reads = 0

    @property
    def ids(self) -> list[str]:
        return [f"blob-{index}" for index in range(len(self.arrays))]

    def __len__(self) -> int:
        return len(self.arrays)

    def image(self, index: int) -> Image.Image:
        self.reads += 1
        if index in self.broken:
            raise UnreadableError(f"image 'blob-{index}' is truncated")
        return Image.fromarray(self.arrays[index])
