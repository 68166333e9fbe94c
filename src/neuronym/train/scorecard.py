"""What a run measured on validation, as a scorecard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from neuronym._version import __version__
from neuronym.lwta import LayerDiagnosis
from neuronym.results import Metric, Scorecard
from neuronym.train.measure import Evaluation

__all__ = ["SCORECARD", "scorecard_of", "wilson"]

SCORECARD = "scorecard.json"
_Z = 1.959963984540054


def wilson(successes: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's formula (1927)."""
    share = successes / count
    centre = share + _Z**2 / (2 * count)
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    scale = 1 + _Z**2 / count
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def scorecard_of(measured: Evaluation, *, seed: int | None, run: Mapping[str, Any]) -> Scorecard:
    """Return accuracy, likelihood and, per LWTA site, how the units compete.

    Args:
        measured: From :func:`neuronym.train.evaluate` with ``kl=True``.
        seed: Of the run.
        run: What identifies it; kept as provenance.
    """
    count = measured.images
    rows = [
        Metric(
            "accuracy",
            measured.accuracy,
            count,
            wilson(measured.accuracy * count, count),
            seed,
        ),
        Metric("nll", measured.nll, count, None, seed),
    ]
    if measured.active_fraction is not None:
        rows.append(Metric("active_fraction", measured.active_fraction, count, None, seed))
    found = measured.diagnosis
    if found is not None:
        rows += [
            Metric("units.dead", float(found.dead_units), found.units, None, seed),
            Metric("kl", found.kl, count, None, seed),
        ]
        for layer in found.layers:
            rows += _rows(layer, count, seed)
    return Scorecard(tuple(rows), {"neuronym": __version__, **run})


def _rows(layer: LayerDiagnosis, images: int, seed: int | None) -> list[Metric]:
    blocks, name = len(layer.entropy), layer.name or "(model)"
    rows = [
        Metric(f"units.dead/{name}", float(layer.dead_units), layer.units, None, seed),
        Metric(f"win_entropy/{name}", layer.mean_entropy, blocks, None, seed),
        Metric(f"active_fraction/{name}", layer.active_fraction, images, None, seed),
        Metric(f"kl/{name}", layer.kl, images, None, seed),
    ]
    rows += [
        Metric(f"win_entropy/{name}/{block}", value, layer.decisions, None, seed)
        for block, value in enumerate(layer.entropy)
    ]
    return rows
