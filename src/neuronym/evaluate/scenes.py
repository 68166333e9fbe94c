"""Truth on rendered scenes: names against the attributes that were drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from neuronym.concepts import canonical
from neuronym.errors import InputError
from neuronym.evaluate.truth import UnitTruth, attribute_truth
from neuronym.probes import ProbeSet
from neuronym.probes.memory import Subset
from neuronym.probes.scenes import SceneSet
from neuronym.probes.scenes.attributes import AttributeTable
from neuronym.results import Atlas

__all__ = ["TRUTH_GROUPS", "scene_truth", "scenes_of"]

TRUTH_GROUPS = ("colour", "pattern", "shape", "background", "count")
"""What a unit may be selective for."""


def scenes_of(images: ProbeSet) -> tuple[SceneSet, npt.NDArray[np.int64]]:
    """Return the scenes behind a probe set, and the place of each image among them.

    Raises:
        InputError: The images are not scenes, so that nobody knows their attributes.
    """
    if isinstance(images, SceneSet):
        return images, np.arange(len(images), dtype=np.int64)
    if isinstance(images, Subset) and isinstance(images.base, SceneSet):
        return images.base, images.indices
    raise InputError(
        f"truth needs images whose attributes are known, scenes:N:SEED, not {images.name!r}"
    )


def scene_truth(
    atlas: Atlas,
    recorded: Mapping[str, npt.NDArray[np.floating]],
    attributes: AttributeTable,
    indices: npt.NDArray[np.int64] | None = None,
) -> list[UnitTruth]:
    """Compare the names of units with the attributes of scenes that were not used for naming.

    Args:
        atlas: The names.
        recorded: Site → ``(images, units)`` pooled activations.
        attributes: Of the scenes.
        indices: Which scenes were recorded; all where ``None``.
    """
    columns = [index for index, group in enumerate(attributes.groups) if group in TRUTH_GROUPS]
    rows = slice(None) if indices is None else indices
    values = np.asarray(attributes.values)[rows][:, columns]
    found: list[UnitTruth] = []
    for site, activations in recorded.items():
        units = atlas.of_site(site)
        found += attribute_truth(
            [(site, unit.unit, unit.name) for unit in units],
            activations,
            values,
            [attributes.names[index] for index in columns],
            canonical=canonical,
            live=[unit.live for unit in units],
        )
    return found
