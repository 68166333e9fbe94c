"""Names against known attributes: is a unit selective for something, and is that its name?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from neuronym.errors import InputError
from neuronym.results import Metric, Scorecard

__all__ = ["TruthRules", "UnitTruth", "attribute_aurocs", "attribute_truth", "truth_scorecard"]


@dataclass(frozen=True)
class TruthRules:
    """When a unit counts as selective, and when its name counts as right.

    Attributes:
        selective: Smallest AUROC of the best attribute, 0.5 to 1.
        tolerance: How far below the best AUROC the named attribute's may lie.
        min_images: Attributes present (or absent) on fewer images are left out.
    """

    selective: float = 0.9
    tolerance: float = 0.01
    min_images: int = 10


@dataclass(frozen=True)
class UnitTruth:
    """What one unit detects, by exact labels, and whether its name says so.

    Attributes:
        site, unit, name: As in the atlas.
        live: Whether it won (or, at a dense site, fired) at least once on the probe.
        attribute, auroc: The attribute that its activation separates best, on images that were
            not used for naming, and how well (0.5 is chance).
        named_attribute, named_auroc: The attribute that the name stands for, ``None`` if it
            stands for none of them.
        selective: Live, and ``auroc`` reaches the threshold.
        right: Selective, and the named attribute is the best one or within the tolerance of it.
    """

    site: str
    unit: int
    name: str | None
    live: bool
    attribute: str
    auroc: float
    named_attribute: str | None
    named_auroc: float | None
    selective: bool
    right: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def attribute_aurocs(
    activations: npt.NDArray[np.floating], attributes: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """AUROC of every unit for every attribute, by the rank sum with ties at their mean rank.

    Args:
        activations: ``(images, units)``.
        attributes: ``(images, attributes)``, true where the attribute is present.

    Returns:
        ``(units, attributes)`` in 0 to 1; NaN where an attribute is always or never present.
    """
    if activations.ndim != 2 or attributes.ndim != 2 or len(activations) != len(attributes):
        raise InputError(
            f"activations {activations.shape} and attributes {attributes.shape} must be "
            "(images, units) and (images, attributes) of the same images"
        )
    if not np.isfinite(activations).all():
        raise InputError("activations hold NaN or infinity")
    ranks = rankdata(activations, axis=0)
    present = attributes.astype(np.float64)
    positives = present.sum(0)
    negatives = len(present) - positives
    with np.errstate(divide="ignore", invalid="ignore"):
        wins = ranks.T @ present - positives * (positives + 1) / 2
        return np.asarray(
            np.where(positives * negatives > 0, wins / (positives * negatives), np.nan)
        )


def attribute_truth(
    names: Sequence[tuple[str, int, str | None]],
    activations: npt.NDArray[np.floating],
    attributes: npt.NDArray[np.bool_],
    attribute_names: Sequence[str],
    *,
    canonical: Callable[[str], str | None],
    live: Sequence[bool],
    rules: TruthRules | None = None,
) -> list[UnitTruth]:
    """Compare each unit's name with the attribute that its activation separates best.

    Args:
        names: ``(site, unit, name)`` of each unit, in the order of the columns of ``activations``.
        activations: ``(images, units)`` pooled activations on images not used for naming.
        attributes: ``(images, attributes)`` exact labels of the same images.
        attribute_names: One name per attribute, e.g. ``"colour:red"``.
        canonical: Maps a name to the attribute that it stands for, or ``None``.
        live: Whether each unit won at least once on the probe.
        rules: Thresholds.

    Returns:
        One row per unit, in the same order.
    """
    rules = rules or TruthRules()
    if not len(names) == activations.shape[1] == len(live):
        raise InputError(
            f"{len(names)} names, {activations.shape[1]} columns of activations and "
            f"{len(live)} live flags must be as many"
        )
    counts = attributes.sum(0)
    usable = (counts >= rules.min_images) & (len(attributes) - counts >= rules.min_images)
    if not usable.any():
        raise InputError(
            f"no attribute is present and absent on at least {rules.min_images} of the "
            f"{len(attributes)} images"
        )
    aurocs = np.where(usable, attribute_aurocs(activations, attributes), -np.inf)
    column = {name: index for index, name in enumerate(attribute_names)}
    rows = []
    for index, (site, unit, name) in enumerate(names):
        best = int(aurocs[index].argmax())
        top = float(aurocs[index, best])
        attribute = canonical(name) if name is not None else None
        named = None
        if attribute in column and usable[column[attribute]]:
            named = float(aurocs[index, column[attribute]])
        selective = bool(live[index]) and top >= rules.selective
        right = selective and named is not None and named >= top - rules.tolerance
        rows.append(
            UnitTruth(
                site=site,
                unit=unit,
                name=name,
                live=bool(live[index]),
                attribute=attribute_names[best],
                auroc=top,
                named_attribute=attribute,
                named_auroc=named,
                selective=selective,
                right=right,
            )
        )
    return rows


def truth_scorecard(rows: Sequence[UnitTruth], *, seed: int = 0, draws: int = 1000) -> Scorecard:
    """Count live, selective and right units, with 95 % bootstrap intervals over units.

    Metrics: ``units.live`` (share of all), ``units.selective`` (share of the live ones) and
    ``units.right`` (share of the selective ones); a share of nothing is left out.
    """
    live = [row for row in rows if row.live]
    selective = [row for row in live if row.selective]
    shares = {
        "units.live": [row.live for row in rows],
        "units.selective": [row.selective for row in live],
        "units.right": [row.right for row in selective],
    }
    generator = np.random.default_rng(seed)
    metrics = []
    for name, flags in shares.items():
        if not flags:
            continue
        values = np.asarray(flags, dtype=np.float64)
        picks = generator.integers(0, len(values), size=(draws, len(values)))
        low, high = np.quantile(values[picks].mean(1), [0.025, 0.975])
        metrics.append(
            Metric(name, float(values.mean()), len(values), (float(low), float(high)), seed)
        )
    return Scorecard(tuple(metrics), {"attributes": sorted({row.attribute for row in live})})
