"""Units that see what another unit sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError
from neuronym.results import Atlas, Evidence
from neuronym.search.chosen import chosen_sites, evidence_of, listens

__all__ = ["SimilarUnit", "similar_units", "whitening"]

_RIDGE = 0.01


@dataclass(frozen=True)
class SimilarUnit:
    """A unit and how alike it is to the one that was asked about.

    Attributes:
        site, unit, name: The unit.
        similarity: Cosine of the directions of their evidence, -1 to 1.
    """

    site: str
    unit: int
    name: str | None
    similarity: float

    @property
    def key(self) -> str:
        """``"site/unit"``."""
        return f"{self.site}/{self.unit}"


def similar_units(
    atlas: Atlas,
    site: str,
    unit: int,
    *,
    sites: str | Sequence[str] | None = None,
    most: int = 20,
) -> tuple[SimilarUnit, ...]:
    """Return the units whose evidence lies in the direction of another unit's.

    The direction of a unit is ``C (S + λ I)^(−½)``: its centred cross moments with the images'
    embeddings, whitened by their covariance S, with λ a hundredth of the mean variance. The cosine
    of two directions is the correlation of what the embeddings explain of the two activations.

    Args:
        atlas: With evidence.
        site, unit: The unit that others are compared with.
        sites: Names of sites with wildcards; all by default.
        most: How many units to return.

    Returns:
        Other units that vary, most alike first.

    Raises:
        InputError: There is no such unit, it is constant or never fires, the atlas has no
            evidence, a pattern matches no site, or ``most`` is below 1.
    """
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InputError(f"most must be a whole number of at least 1, not {most!r}")
    asked = atlas.unit(site, unit)
    chosen = chosen_sites(atlas, sites)
    evidence = evidence_of(atlas)
    if not listens(asked) or evidence.deviation(site)[unit] == 0:
        raise InputError(f"unit {asked.key!r} is {asked.unnamed or 'constant'}: nothing is like it")
    white = whitening(evidence)
    direction = _directions(evidence, site, white)[unit]
    found = []
    for info in chosen:
        values = _directions(evidence, info.name, white) @ direction
        varies = evidence.deviation(info.name) > 0
        for other in atlas.of_site(info.name):
            if other.key != asked.key and varies[other.unit] and listens(other):
                value = float(np.clip(values[other.unit], -1, 1))
                found.append(SimilarUnit(other.site, other.unit, other.name, value))
    return tuple(sorted(found, key=lambda each: -each.similarity)[:most])


def whitening(evidence: Evidence, ridge: float = _RIDGE) -> npt.NDArray[np.float64]:
    """Return ``(S + λ I)^(−½)``, λ the share ``ridge`` of the mean variance: ``(dim, dim)``."""
    values, vectors = np.linalg.eigh(evidence.covariance())
    values = np.maximum(values, 0.0)
    floor = ridge * values.mean() + np.finfo(np.float64).tiny
    return np.asarray((vectors / np.sqrt(values + floor)) @ vectors.T)


def _directions(
    evidence: Evidence, site: str, white: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    rows = evidence.site(site).cross @ white
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300))
