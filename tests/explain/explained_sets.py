"""A small competitive network with a dense site, its atlas, and pictures to explain."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from neuronym.errors import UnreadableError
from neuronym.lwta import LWTA
from neuronym.models import LoadedModel
from neuronym.models.preprocessing import Preprocessing
from neuronym.probes import ProbeSet, from_images
from neuronym.results import Atlas, SiteInfo, Unit

SIZE = 8
CLASSES = ("cat", "dog", "ship")
SITES = (
    SiteInfo("act", 16, 1, 4, "winner", SIZE * SIZE),
    SiteInfo("relu", 12, 1, None, "mean", SIZE * SIZE),
)


class Net(nn.Module):
    """A competitive convolution, a dense one, and a linear head; two sites."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.act = LWTA(4, channel_dim=1)
        self.second = nn.Conv2d(16, 12, 3, padding=1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(12, len(CLASSES))
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.second(self.act(self.first(x)))).mean((2, 3)))


def net() -> Net:
    return Net().eval()


def loaded(module: nn.Module, *, names: tuple[str, ...] | None = CLASSES) -> LoadedModel:
    transform = Preprocessing(input_size=(3, SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    return LoadedModel(module, transform, names, "toy", (3, SIZE, SIZE))


def atlas_of(model: LoadedModel, sites: Sequence[SiteInfo] = SITES) -> Atlas:
    units = [
        Unit(
            site=site.name,
            unit=index,
            block=None if site.competitors is None else index // site.competitors,
            name=f"name {index}" if index % 5 else None,
            score=0.5,
            p_value=None,
            runner_up_names=(),
            runner_up_scores=(),
            firing_rate=0.5,
            win_rate=None if site.competitors is None else 1 / site.competitors,
            top_images=(),
            top_activations=(),
        )
        for site in sites
        for index in range(site.units)
    ]
    provenance = {"model": {"spec": model.spec, "fingerprint": model.fingerprint}}
    return Atlas(sites=tuple(sites), units=tuple(units), images={}, provenance=provenance)


def pictures(count: int, *, labelled: bool = False) -> ProbeSet:
    """Return smooth random pictures, so that they differ in colour and in place.

    With this seed no dense unit is within rounding of zero, where its gradient jumps.
    """
    rng = np.random.default_rng(8)
    images = []
    for _ in range(count):
        corners = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        images.append(Image.fromarray(corners).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    labels = np.arange(count) % len(CLASSES) if labelled else None
    return from_images(images, labels=labels, label_names=CLASSES if labelled else None)


class Broken:
    """A probe set some of whose images cannot be read."""

    def __init__(self, inner: ProbeSet, broken: Collection[int]) -> None:
        self._inner, self._broken = inner, set(broken)
        self.name, self.ids = inner.name, inner.ids
        self.labels: npt.NDArray[np.int64] | None = inner.labels
        self.label_names = inner.label_names
        self.fingerprint = inner.fingerprint

    def __len__(self) -> int:
        return len(self._inner)

    def image(self, index: int) -> Image.Image:
        if index in self._broken:
            raise UnreadableError(f"image {self.ids[index]!r} is truncated")
        return self._inner.image(index)
