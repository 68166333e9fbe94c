"""What a measurement of faithfulness gives: curves, a row per image, metrics, files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from neuronym.errors import InputError, nearest
from neuronym.evaluate.intervals import Wanted, metrics_of
from neuronym.evaluate.plot import Line, Panel, svg
from neuronym.files import atomic_path, write_json
from neuronym.results import Metric

__all__ = ["CURVES", "IMAGES", "PICTURE", "Faithfulness", "SiteFaithfulness"]

CURVES, IMAGES, PICTURE = "faithfulness.json", "faithfulness.parquet", "faithfulness.svg"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SiteFaithfulness:
    """Faithfulness at one site.

    Attributes:
        site: Its name.
        competitive: Whether winners come from a mask; at a dense site they are units that fired.
        units: K.
        without_winners: Images that are left out because no unit passed anything.
        ids: ``(images,)``, id of each image that was measured.
        shares: ``(steps + 1,)``, share of the winners that are removed or added, 0 to 1.
        curves: ``deletion_``, ``insertion_`` and ``random_``, each with ``probability`` and
            ``logit``: ``(steps + 1,)`` means over images.
        table: Column → ``(images,)``. ``winners``, ``probability`` and ``logit`` of the predicted
            class with all and (``_without``) with none of the winners; areas ``deletion_``,
            ``insertion_`` and ``random_`` (mean over the random orders) of ``probability`` and of
            ``logit`` less ``logit_without``; for fraction number i of those kept alone
            ``probability_kept_i``, ``stays_kept_i`` (1 where the prediction is the same) and the
            same of random winners, ``probability_random_kept_i``, ``stays_random_kept_i``.
    """

    site: str
    competitive: bool
    units: int
    without_winners: int
    ids: tuple[str, ...]
    shares: Floats
    curves: Mapping[str, Floats]
    table: Mapping[str, Floats]

    def normalised(self, name: str) -> Floats:
        """``(steps + 1,)`` mean logit curve, 1 for the whole site and 0 for the site at zero.

        ``(mean l(s) − mean l(0)) / (mean l(K) − mean l(0))`` with l(0) the logit with the site at
        zero and l(K) the intact one. It leaves this range where winners oppose the class.

        Args:
            name: ``"deletion"``, ``"insertion"`` or ``"random"``.

        Raises:
            InputError: The site does not raise the mean logit, so that there is no scale.
        """
        low, high = self.table["logit_without"].mean(), self.table["logit"].mean()
        if high <= low:
            raise InputError(
                f"site {self.site!r} does not raise the mean logit ({low:.3g} without it, "
                f"{high:.3g} with it): its curve cannot be normalised"
            )
        return np.asarray((self.curves[f"{name}_logit"] - low) / (high - low))

    def wanted(self, fractions: tuple[float, ...]) -> list[Wanted]:
        """Return the metrics of this site; see :meth:`Faithfulness.metrics`."""
        pairs = {
            "deletion_ratio": ("deletion_probability", "random_probability"),
            "insertion_ratio": ("insertion_probability", "random_probability"),
            "deletion_area": ("deletion_probability", None),
            "insertion_area": ("insertion_probability", None),
            "random_area": ("random_probability", None),
            "deletion_logit_ratio": ("deletion_logit", "random_logit"),
            "insertion_logit_ratio": ("insertion_logit", "random_logit"),
            "deletion_logit_area": ("deletion_logit", "logit_drop"),
            "insertion_logit_area": ("insertion_logit", "logit_drop"),
            "random_logit_area": ("random_logit", "logit_drop"),
            "winners": ("winners", None),
            "same_prediction/none": ("stays_without", None),
            "probability_left/none": ("probability_without", "probability"),
        }
        for index, fraction in enumerate(fractions):
            share = f"{100 * fraction:g}%"
            for chosen, label in (("kept", "top"), ("random_kept", "random")):
                same, left = f"stays_{chosen}_{index}", f"probability_{chosen}_{index}"
                pairs[f"same_prediction/{label}_{share}"] = (same, None)
                pairs[f"probability_left/{label}_{share}"] = (left, "probability")
        return [
            Wanted(f"faithfulness.{name}/{self.site}", column, over)
            for name, (column, over) in pairs.items()
        ]


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Faithfulness at one or more sites of a model.

    Attributes:
        sites: In the order in which they were asked for.
        options: What determines the result.
        images: How many were read.
        skipped: Ids of broken images.
    """

    sites: tuple[SiteFaithfulness, ...]
    options: Mapping[str, Any]
    images: int
    skipped: tuple[str, ...]

    def __getitem__(self, site: str) -> SiteFaithfulness:
        for each in self.sites:
            if each.site == site:
                return each
        known = [each.site for each in self.sites]
        close = ", ".join(nearest(site, known) or known[:5])
        raise InputError(f"faithfulness was not measured at site {site!r}; nearest: {close}")

    def metrics(self) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
        """Return scorecard rows, and notes on what has no value or no interval, and why.

        Every name ends with ``/SITE``. Areas are means over images. ``faithfulness.deletion_ratio``
        is the mean area of the deletion curve of the probability over the mean area of random
        orders (lower is better, 1 is chance), ``insertion_ratio`` likewise (higher is better);
        ``deletion_logit_ratio`` and ``…_logit_area`` are of the logit less that with the site at
        zero, the latter in units of the whole site's effect. ``same_prediction`` and
        ``probability_left`` say what the strongest (``top``) or randomly chosen (``random``) share
        of the winners keeps, beside what is left with ``none`` of them.
        """
        rows: list[Metric] = []
        notes: list[str] = []
        for site in self.sites:
            found, said = metrics_of(
                site.table,
                site.wanted(tuple(self.options["fractions"])),
                draws=self.options["draws"],
                seed=self.options["seed"],
            )
            rows += found
            notes += said
            if site.without_winners:
                notes.append(
                    f"{site.without_winners} images without a winner at {site.site} are left out"
                )
        return tuple(rows), tuple(dict.fromkeys(notes))

    def save(self, folder: str | Path) -> None:
        """Write mean curves (JSON), a row per image and site (parquet) and a picture (SVG)."""
        folder = Path(folder)
        write_json(folder / CURVES, {"options": dict(self.options), "sites": self._curves()})
        with atomic_path(folder / IMAGES) as temporary:
            tables = [_table(site) for site in self.sites]
            pq.write_table(pa.concat_tables(tables), temporary, compression="zstd")
        with atomic_path(folder / PICTURE) as temporary:
            temporary.write_text(self.picture(), encoding="utf-8")

    def picture(self) -> str:
        """Return the mean probability curves of every site as an SVG."""
        panels = []
        for site in self.sites:
            lines = [
                Line(name, site.curves[f"{name}_probability"].tolist())
                for name in ("random", "insertion", "deletion")
            ]
            panels.append(Panel(f"{site.site}, {len(site.ids)} images", lines))
        return svg(
            panels, across="share of winners removed or added", up="probability of the prediction"
        )

    def _curves(self) -> list[dict[str, Any]]:
        return [
            {
                "site": site.site,
                "competitive": site.competitive,
                "units": site.units,
                "images": len(site.ids),
                "without_winners": site.without_winners,
                "shares": site.shares.tolist(),
                "curves": {name: curve.tolist() for name, curve in site.curves.items()},
            }
            for site in self.sites
        ]


def _table(site: SiteFaithfulness) -> pa.Table:
    columns: dict[str, Any] = {"site": [site.site] * len(site.ids), "image": list(site.ids)}
    columns.update({name: values.tolist() for name, values in site.table.items()})
    return pa.table(columns)
