"""Means and ratios of means over images, with intervals by bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.results import Metric

__all__ = ["MIN_IMAGES", "Wanted", "metrics_of"]

MIN_IMAGES = 20
"""With fewer images no interval is given: a bootstrap of so few says too little of the spread."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Wanted:
    """A metric: the mean of one column, or its ratio to the mean of another.

    Attributes:
        name: Of the metric.
        column: Name of the column.
        over: Name of the column below the line, or ``None``.
    """

    name: str
    column: str
    over: str | None = None


def metrics_of(
    table: Mapping[str, Floats], wanted: Sequence[Wanted], *, draws: int, seed: int
) -> tuple[list[Metric], list[str]]:
    """Compute metrics over images, each with the 95 % percentile interval of a bootstrap.

    Images are drawn with replacement, and the columns of an image stay together, so that the
    interval of a ratio knows that both come from the same images.

    Args:
        table: Column → ``(images,)``.
        wanted: What is computed.
        draws: Bootstrap samples.
        seed: Of the draws.

    Returns:
        The metrics, and one line for each that has no value or no interval, which says why. A
        ratio to a mean that is not above zero has no value and is left out.
    """
    names = list(table)
    values = np.stack([table[name] for name in names], axis=1)
    images = len(values)
    means = dict(zip(names, values.mean(0), strict=True))
    drawn: dict[str, Floats] = {}
    notes = []
    if images >= MIN_IMAGES:
        drawn = dict(zip(names, _bootstrap(values, draws, seed).T, strict=True))
    else:
        notes.append(f"{images} images are too few for intervals; at least {MIN_IMAGES}")
    metrics = []
    for each in wanted:
        below = 1.0 if each.over is None else float(means[each.over])
        if below <= 0:
            notes.append(f"{each.name} has no value: the mean of {each.over} is {below:.3g}")
            continue
        interval = None
        if drawn:
            others = np.ones(draws) if each.over is None else drawn[each.over]
            if others.min() > 0:
                low, high = np.quantile(drawn[each.column] / others, [0.025, 0.975])
                interval = (float(low), float(high))
            else:
                notes.append(f"{each.name} has no interval: the mean of {each.over} may be zero")
        metrics.append(Metric(each.name, float(means[each.column]) / below, images, interval, seed))
    return metrics, notes


def _bootstrap(values: Floats, draws: int, seed: int) -> Floats:
    """Return ``(draws, columns)`` means of the rows drawn with replacement."""
    generator = np.random.default_rng(seed)
    rows = len(values)
    means = np.empty((draws, values.shape[1]))
    for draw in range(draws):
        counts = np.bincount(generator.integers(0, rows, rows), minlength=rows)
        means[draw] = counts @ values / rows
    return means
