"""Small networks whose contributions are known, and pictures for them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from neuronym import probes
from neuronym.lwta import LWTA
from neuronym.models import LoadedModel
from neuronym.models.preprocessing import Preprocessing
from neuronym.probes import ProbeSet
from neuronym.results import Atlas, SiteInfo, Unit

SIZE = 8


def seeded(seed: int, *layers: nn.Module) -> nn.Sequential:
    """Give the layers weights of their own, without touching the global random state."""
    model = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def linear_net(competitors: int = 4) -> nn.Sequential:
    """One competitive layer of 24 units (site ``"2"``) and a linear head."""
    return seeded(
        1,
        nn.Flatten(),
        nn.Linear(3 * SIZE * SIZE, 24),
        LWTA(competitors, channel_dim=1),
        nn.Linear(24, 3),
    )


class Tokens(nn.Module):
    """Patches as tokens, a class token, a competitive layer (``mid.1``), norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = seeded(4, nn.Conv2d(3, 12, 4, 4))
        self.mid = seeded(5, nn.Linear(12, 20), LWTA(5, channel_dim=-1), nn.Linear(20, 12))
        self.head = nn.Sequential(nn.LayerNorm(12), *seeded(6, nn.Linear(12, 3)))
        self.cls_token = nn.Parameter(torch.full((1, 1, 12), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], 1)
        return self.head((tokens + self.mid(tokens)).mean(1))


def conv_net(*, later: bool = True) -> nn.Sequential:
    """A competitive convolution (``"1"``), another one after it or a ReLU in place (``"4"``)."""
    return seeded(
        2,
        nn.Conv2d(3, 16, 3, padding=1),
        LWTA(8, channel_dim=1),
        nn.Conv2d(16, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        LWTA(4, channel_dim=1) if later else nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


def loaded(module: nn.Module) -> LoadedModel:
    transform = Preprocessing(input_size=(3, SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    return LoadedModel(module, transform, ("cat", "dog", "ship"), "toy", (3, SIZE, SIZE))


def pictures(count: int, seed: int = 0) -> ProbeSet:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    return probes.from_images([Image.fromarray(each) for each in pixels])


def site(name: str, units: int, channel_dim: int = 1, competitors: int | None = 4) -> SiteInfo:
    return SiteInfo(name, units, channel_dim, competitors, "mean", 1)


def atlas_of(model: LoadedModel, *sites: SiteInfo, images: str = "scenes:30") -> Atlas:
    units = tuple(
        Unit(
            site=each.name,
            unit=index,
            block=None if each.competitors is None else index // each.competitors,
            name="red",
            score=0.5,
            p_value=None,
            runner_up_names=(),
            runner_up_scores=(),
            firing_rate=0.5,
            win_rate=None,
            top_images=(),
            top_activations=(),
        )
        for each in sites
        for index in range(each.units)
    )
    provenance = {
        "model": {"spec": "toy", "fingerprint": model.fingerprint},
        "images": {"spec": images},
    }
    return Atlas(sites, units, {}, provenance)
