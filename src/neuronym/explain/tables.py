"""Rows of the tables that explain a data set, built a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from neuronym.explain.class_sums import UnitsOfClass
from neuronym.explain.stream import ContributionBatch, SiteBatch
from neuronym.results import SiteInfo
from neuronym.results.explanations import CLASS_ROWS, IMAGE_ROWS, WINNER_ROWS

__all__ = ["Names", "Ranked", "Rows", "class_table", "image_table", "ranked", "winner_table"]

_ROWS = 1 << 16


@dataclass(frozen=True)
class Names:
    """What numbers are called: classes, and per site its units (``None`` without a name)."""

    classes: Sequence[str] | None
    units: Mapping[str, tuple[str | None, ...]]

    def of_class(self, index: int) -> str:
        """Return the name of a class."""
        return self.classes[index] if self.classes is not None else f"class {index}"

    def of_classes(self, indices: npt.NDArray[np.int64]) -> list[str | None]:
        """Return the names of classes, ``None`` for -1."""
        return [None if index < 0 else self.of_class(index) for index in indices.tolist()]


class Rows:
    """A parquet file that grows by tables and is written in groups of rows.

    Use it as a context; the most that it holds is one group and one table.
    """

    def __init__(self, path: Path, schema: Any) -> None:
        """Write to ``path``, in which rows of ``schema`` take their place."""
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self._held: list[Any] = []
        self._waiting = 0
        self.count = 0

    def add(self, table: Any) -> None:
        """Append the rows of a table."""
        self._held.append(table)
        self._waiting += len(table)
        self.count += len(table)
        if self._waiting >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.concat_tables(self._held))
        self._held, self._waiting = [], 0

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._writer.close()


@dataclass(frozen=True, eq=False)
class Ranked:
    """The winners of a batch that are listed, image by image, largest contribution first.

    Attributes:
        images: ``(rows,)`` place in the batch.
        units: ``(rows,)`` the unit.
        ranks: ``(rows,)`` from 0: place in the order of the size of the contribution.
        counts: ``(images,)`` winners of each image, listed or not.
        rest: ``(images,)`` sum of the contributions of those that are not listed.
    """

    images: npt.NDArray[np.int64]
    units: npt.NDArray[np.int64]
    ranks: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    rest: npt.NDArray[np.float64]


def ranked(site: SiteBatch, most: int | None) -> Ranked:
    """Rank the winners of each image by the size of their contribution; the first of equals wins.

    Args:
        site: What the units did.
        most: How many are listed of each image; all where ``None``.
    """
    size = np.where(site.won, np.abs(site.contributions), -1.0)
    counts = site.won.sum(1)
    width = int(counts.max(initial=0))
    width = width if most is None else min(width, most)
    units = np.argsort(-size, axis=1, kind="stable")[:, :width]
    images, ranks = np.nonzero(np.arange(width) < counts[:, None])
    chosen = units[images, ranks]
    left = np.where(site.won, site.contributions, 0.0)
    left[images, chosen] = 0.0
    return Ranked(images, chosen, ranks, counts, left.sum(1))


def winner_table(batch: ContributionBatch, site: SiteInfo, listed: Ranked, names: Names) -> Any:
    """Return the rows of :data:`neuronym.results.explanations.WINNER_ROWS`."""
    found = batch.sites[site.name]
    at = listed.images, listed.units
    rows = len(listed.images)
    columns = {
        "image": pa.array(batch.ids, pa.string()).take(pa.array(listed.images)),
        "site": _repeated(site.name, rows),
        "unit": listed.units.astype(np.int32),
        "block": _blocks(listed.units, site),
        "name": pa.array(names.units[site.name], pa.string()).take(pa.array(listed.units)),
        "activation": found.activations[at],
        "contribution": found.contributions[at],
        "win_rate": pa.nulls(rows, pa.float64()) if found.win_rate is None else found.win_rate[at],
        "image_winner": found.image_winner[at],
        "rank": (listed.ranks + 1).astype(np.int32),
    }
    return pa.table(columns, schema=WINNER_ROWS)


def image_table(batch: ContributionBatch, site: SiteInfo, listed: Ranked, names: Names) -> Any:
    """Return the rows of :data:`neuronym.results.explanations.IMAGE_ROWS`."""
    found = batch.sites[site.name]
    unlabelled = batch.labels < 0
    columns = {
        "image": pa.array(batch.ids, pa.string()),
        "key": batch.keys,
        "site": _repeated(site.name, len(batch)),
        "label": pa.array(names.of_classes(batch.labels), pa.string()),
        "label_index": pa.array(batch.labels.astype(np.int32), mask=unlabelled),
        "predicted": pa.array(names.of_classes(batch.predicted), pa.string()),
        "predicted_index": batch.predicted.astype(np.int32),
        "right": pa.array(batch.predicted == batch.labels, mask=unlabelled),
        "target": pa.array(names.of_classes(batch.targets), pa.string()),
        "target_index": batch.targets.astype(np.int32),
        "logit": batch.target_logits,
        "probability": batch.probabilities,
        "baseline": found.baselines,
        "completeness_error": found.completeness_error,
        "winners": listed.counts.astype(np.int32),
        "rest": listed.rest,
        "decided_by": _supporters(found),
    }
    return pa.table(columns, schema=IMAGE_ROWS)


def _supporters(found: SiteBatch) -> Any:
    """Return the unit of each image's largest positive contribution, the first of equals."""
    support = np.where(found.won, found.contributions, 0.0)
    return pa.array(support.argmax(1).astype(np.int32), mask=support.max(1) <= 0)


def class_table(row: UnitsOfClass, site: SiteInfo, names: Names) -> Any:
    """Return the rows of :data:`neuronym.results.explanations.CLASS_ROWS`: one per unit."""
    nothing = pa.nulls(site.units, pa.float64())
    columns = {
        "site": _repeated(site.name, site.units),
        "class": _repeated(names.of_class(row.target), site.units),
        "class_index": np.full(site.units, row.target, np.int32),
        "unit": np.arange(site.units, dtype=np.int32),
        "block": _blocks(np.arange(site.units), site),
        "name": pa.array(names.units[site.name], pa.string()),
        "images": np.full(site.units, row.images, np.int64),
        "mean": row.mean,
        "spread": nothing if row.spread is None else row.spread,
        "share": nothing if row.share is None else row.share,
        "wins": row.wins,
    }
    return pa.table(columns, schema=CLASS_ROWS)


def _repeated(text: str, count: int) -> Any:
    return pa.repeat(pa.scalar(text, pa.string()), count)


def _blocks(units: npt.NDArray[np.int64], site: SiteInfo) -> Any:
    if site.competitors is None:
        return pa.nulls(len(units), pa.int32())
    return pa.array((units // site.competitors).astype(np.int32))
