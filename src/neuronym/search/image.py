"""Units by example images: what fires unusually strongly on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from neuronym.devices import device_of
from neuronym.errors import InputError
from neuronym.files import existing
from neuronym.lwta.masks import mask_reader
from neuronym.models import LoadedModel
from neuronym.models.base import check_made_from
from neuronym.probes import ImageLike, picture_of
from neuronym.record import Capture, Sites, find_sites
from neuronym.record.pooling import mark_winners
from neuronym.results import Atlas, SiteInfo
from neuronym.search.chosen import chosen_sites, evidence_of, listens

__all__ = ["ImageMatch", "UnitFiring", "match_image"]

_BATCH = 32
UNUSUAL = 2.0
"""Standard deviations above its mean from which a unit counts as firing unusually strongly."""


@dataclass(frozen=True)
class UnitFiring:
    """How a unit fires on the example images.

    Attributes:
        site, unit, name: The unit.
        z: Mean over the examples of (pooled activation minus the unit's mean over the atlas's
            images) divided by the standard deviation there.
        activation: Mean pooled activation on the examples.
        agree: How many examples are at least 2 standard deviations above the mean.
        won: On how many examples it was the winner of its block; ``None`` at a dense site.
    """

    site: str
    unit: int
    name: str | None
    z: float
    activation: float
    agree: int
    won: int | None

    @property
    def key(self) -> str:
        """``"site/unit"``."""
        return f"{self.site}/{self.unit}"


@dataclass(frozen=True)
class ImageMatch:
    """All units that vary, for some example images.

    Attributes:
        units: The largest mean z first.
        images: How many examples there were.
    """

    units: tuple[UnitFiring, ...]
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {"images": self.images, "units": [asdict(unit) for unit in self.units]}


def match_image(
    model: LoadedModel,
    atlas: Atlas,
    images: ImageLike | Sequence[ImageLike],
    *,
    sites: str | Sequence[str] | None = None,
) -> ImageMatch:
    """Find the units that fire unusually strongly on one or more example images.

    Args:
        model: The model that the atlas was made from.
        atlas: With evidence.
        images: PIL images or paths of image files.
        sites: Names of sites with wildcards; all by default.

    Returns:
        Every unit that varies over the atlas's images; where several examples are given, those
        that fire on most of them have the largest mean z. A unit that competes and won on no
        example comes after all that did not lose everywhere.

    Raises:
        InputError: The atlas is of another model or has no evidence, its pooling was a function
            of one's own, a pattern matches no site, or there is no image.
        MissingError: An image file does not exist.
        UnreadableError: An image file is broken.
    """
    given = [images] if isinstance(images, (str, os.PathLike, Image.Image)) else list(images)
    if not given:
        raise InputError("no example image to search by")
    for each in given:
        if not isinstance(each, Image.Image):
            existing(Path(each), what="image")
    check_made_from(model, atlas.provenance, what="the atlas")
    chosen = chosen_sites(atlas, sites)
    evidence = evidence_of(atlas)
    pooled, won = _recorded(model, given, chosen)
    found = []
    for site in chosen:
        deviation, mean = evidence.deviation(site.name), evidence.mean(site.name)
        z = (pooled[site.name] - mean) / np.where(deviation > 0, deviation, np.inf)
        wins = None if won[site.name] is None else won[site.name].sum(0)
        for unit in atlas.of_site(site.name):
            at = unit.unit
            if deviation[at] > 0 and listens(unit):
                found.append(
                    UnitFiring(
                        site=site.name,
                        unit=at,
                        name=unit.name,
                        z=float(z[:, at].mean()),
                        activation=float(pooled[site.name][:, at].mean()),
                        agree=int((z[:, at] >= UNUSUAL).sum()),
                        won=None if wins is None else int(wins[at]),
                    )
                )
    found.sort(key=lambda each: (each.won == 0, -each.z))
    return ImageMatch(tuple(found), len(given))


def _recorded(
    model: LoadedModel, given: Sequence[ImageLike], chosen: Sequence[SiteInfo]
) -> tuple[dict[str, npt.NDArray[np.float64]], dict[str, Any]]:
    """Return per site the pooled activations and who won, ``(images, units)``."""
    device = device_of(model.module)
    first = model.transform(picture_of(given[0])[1])[None].to(device)
    sites = _found(model, chosen, torch.cat([first, first]))
    capture = Capture(
        model.module,
        sites,
        pooling={site.name: site.pooling for site in chosen},
        masks=mask_reader(model.module),
    )
    pooled: dict[str, list[Any]] = {site.name: [] for site in chosen}
    won: dict[str, list[Any]] = {site.name: [] for site in chosen}
    with capture:
        for start in range(0, len(given), _BATCH):
            pictures = [picture_of(each)[1] for each in given[start : start + _BATCH]]
            inputs = torch.stack([model.transform(picture) for picture in pictures])
            for name, captured in capture.run(inputs).items():
                pooled[name].append(captured.pooled.astype(np.float64))
                won[name].append(captured.candidates)
    joined = {name: np.concatenate(parts) for name, parts in pooled.items()}
    winners = {
        site.name: mark_winners(
            torch.from_numpy(joined[site.name]),
            torch.from_numpy(np.concatenate(won[site.name])),
            site.competitors,
        ).numpy()
        if site.competitors is not None
        else None
        for site in chosen
    }
    return joined, winners


def _found(model: LoadedModel, chosen: Sequence[SiteInfo], sample: torch.Tensor) -> Sites:
    masks = mask_reader(model.module)
    found = find_sites(
        model.module,
        [site.name for site in chosen],
        sample,
        channel_dims={site.name: site.channel_dim for site in chosen},
        competitive=tuple(masks.competitors) if masks else (),
    )
    units = {site.name: site.units for site in found}
    for site in chosen:
        if units.get(site.name) != site.units:
            raise InputError(
                f"site {site.name!r} has {units.get(site.name, 'no')} units in this model and "
                f"{site.units} in the atlas"
            )
    return found
