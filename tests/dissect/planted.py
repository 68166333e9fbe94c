"""A planted world: images whose attributes are known, a model that detects them, and words.

An image is a grid of 4 × 4 cells; cell j is bright where attribute j is present, and a little
brighter where there is more of it. The vision-text model reads the cells exactly and embeds the
word of attribute j as the j-th unit vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from neuronym.concepts import ConceptSet, from_words
from neuronym.errors import UnreadableError
from neuronym.probes import from_images

GRID, CELL = 4, 2
ATTRIBUTES = GRID * GRID
WORDS = (
    *("apple", "brick", "cloud", "drum", "engine", "forest", "guitar", "harbor"),
    *("island", "jacket", "kettle", "ladder", "mirror", "needle", "orange", "pepper"),
)


def strengths(count: int, seed: int = 0) -> np.ndarray:
    """``(images, attributes)``: 0 where an attribute is absent, else 0.6 to 1."""
    generator = np.random.default_rng(seed)
    present = generator.random((count, ATTRIBUTES)) < 0.15
    return present * (0.6 + 0.4 * generator.random((count, ATTRIBUTES)))


def image_of(values: np.ndarray) -> Image.Image:
    cells = np.round(values.reshape(GRID, GRID) * 255).astype(np.uint8)
    pixels = cells.repeat(CELL, 0).repeat(CELL, 1)
    return Image.fromarray(np.stack([pixels] * 3, -1))


def probe_set(count: int = 240, seed: int = 0, labels: bool = False):
    values = strengths(count, seed)
    first = values.argmax(1)
    return from_images(
        [image_of(row) for row in values],
        ids=[f"planted-{i}" for i in range(count)],
        labels=first.tolist() if labels else None,
        label_names=WORDS if labels else None,
        name="planted",
    )


class WithBroken:
    """A probe set in which some images cannot be read."""

    def __init__(self, base, broken: Sequence[int]) -> None:
        self.base, self.broken = base, set(broken)
        self.name, self.ids = "planted with broken images", base.ids
        self.labels, self.label_names = base.labels, base.label_names
        self.fingerprint = base.fingerprint[:-1] + "x"

    def __len__(self) -> int:
        return len(self.base)

    def image(self, index: int) -> Image.Image:
        if index in self.broken:
            raise UnreadableError(f"image {self.ids[index]!r} is broken: truncated")
        return self.base.image(index)


def concepts(templates: str | tuple[str, ...] = "word") -> ConceptSet:
    return from_words(WORDS, name="planted words").with_templates(templates)


class PlantedVisionText:
    """Reads the cells of an image; the word of attribute j is the j-th unit vector."""

    name = "planted"
    dim = ATTRIBUTES
    logit_scale = 100.0

    def __init__(self, fingerprint: str = "planted-1") -> None:
        self.fingerprint = fingerprint
        self.images = self.texts = 0

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        self.images += len(images)
        cells = [np.asarray(image)[::CELL, ::CELL, 0].reshape(-1) / 255 for image in images]
        return np.stack(cells).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += len(texts)
        found = [next(j for j, word in enumerate(WORDS) if word in text) for text in texts]
        return np.eye(ATTRIBUTES, dtype=np.float32)[found]


def transform(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 255


class Detectors(nn.Module):
    """Unit k responds to attribute ``order[k]`` exactly; one unit never fires.

    Attributes:
        order: Attribute of each unit; -1 for the unit that never fires.
    """

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = tuple(order)
        self.cells = nn.AvgPool2d(CELL)
        self.flat = nn.Flatten()
        self.detect = nn.Linear(3 * ATTRIBUTES, len(order), bias=False)
        self.act = nn.ReLU()
        self.head = nn.Linear(len(order), 5)
        with torch.no_grad():
            self.detect.weight.zero_()
            for unit, attribute in enumerate(order):
                if attribute >= 0:
                    self.detect.weight[unit, attribute] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.detect(self.flat(self.cells(x)))))


def detectors(seed: int = 0) -> Detectors:
    """One unit per attribute in a shuffled order, two more, and one that never fires."""
    order = np.random.default_rng(seed).permutation(ATTRIBUTES).tolist()
    torch.manual_seed(seed)
    return Detectors([*order, 3, 3, -1])
