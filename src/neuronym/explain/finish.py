"""From parts to whole tables: what is written when every image was explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from neuronym.errors import InputError, UnreadableError
from neuronym.explain.class_sums import ClassSums
from neuronym.explain.parts import Parts
from neuronym.explain.tables import Names, Rows, class_table
from neuronym.files import atomic_path, fingerprint_file, write_manifest
from neuronym.results import SiteInfo
from neuronym.results.explanations import CLASS_ROWS, CLASSES, IMAGE_ROWS, IMAGES, KIND, SCHEMA

__all__ = ["finish"]

SKIPPED = "skipped.parquet"
_SKIPPED_ROWS = pa.schema([("image", pa.string()), ("key", pa.int64()), ("reason", pa.string())])


@dataclass
class _Summary:
    """Counts that grow row by row.

    Attributes:
        images, skipped: Explained and broken images.
        seen: Every class that is a label, a prediction or a target.
        labelled, right: Class → images with that label, and those that were predicted so.
        errors: Site → the largest completeness error by size, and its image.
    """

    images: int = 0
    skipped: int = 0
    seen: set[int] = field(default_factory=set)
    labelled: dict[int, int] = field(default_factory=dict)
    right: dict[int, int] = field(default_factory=dict)
    errors: dict[str, tuple[float, str]] = field(default_factory=dict)

    def add(self, rows: Any, *, counted: str) -> None:
        """Add rows of images; those of the site ``counted`` count the images."""
        once = rows.filter(pc.equal(rows["site"], counted))
        self.images += len(once)
        for name in ("label_index", "predicted_index", "target_index"):
            self.seen |= set(once[name].drop_null().unique().to_pylist())
        known = once.filter(pc.is_valid(once["right"]))
        labels = known["label_index"].to_numpy()
        right = known["right"].to_numpy(zero_copy_only=False).astype(bool)
        for kept, chosen in ((self.labelled, labels), (self.right, labels[right])):
            for label, count in zip(*np.unique(chosen, return_counts=True), strict=True):
                kept[int(label)] = kept.get(int(label), 0) + int(count)
        for site in rows["site"].unique().to_pylist():
            of_site = rows.filter(pc.equal(rows["site"], site))
            errors = of_site["completeness_error"].to_numpy()
            at = int(np.abs(errors).argmax())
            if site not in self.errors or abs(errors[at]) > abs(self.errors[site][0]):
                self.errors[site] = float(errors[at]), of_site["image"][at].as_py()

    def to_dict(self, names: Names, explained: Sequence[int]) -> dict[str, Any]:
        """Return plain JSON types."""
        labelled = sum(self.labelled.values())
        return {
            "images": self.images,
            "skipped": self.skipped,
            "labelled": labelled,
            "accuracy": sum(self.right.values()) / labelled if labelled else None,
            "accuracy_per_class": [
                {
                    "class_index": label,
                    "class": names.of_class(label),
                    "images": count,
                    "accuracy": self.right.get(label, 0) / count,
                }
                for label, count in sorted(self.labelled.items())
            ],
            "explained_classes": list(explained),
            "completeness_error": {
                site: {"largest": error, "image": image}
                for site, (error, image) in self.errors.items()
            },
        }


def finish(
    folder: Path,
    sites: Sequence[SiteInfo],
    names: Names,
    *,
    count: int,
    parts: Parts,
    sums: ClassSums,
    provenance: Mapping[str, Any],
) -> None:
    """Join the parts' rows of images, write the classes, and the manifest last.

    Args:
        folder: Of the explanations.
        sites: What was explained.
        names: Of classes and units.
        count: Number of parts; all of them are whole.
        parts: The parts.
        sums: Over all parts.
        provenance: For the manifest.

    Raises:
        InputError: Not one image could be read.
        UnreadableError: A part was lost since it was written.
    """
    summary = _Summary()
    files = _join(folder, parts, count, summary, counted=sites[0].name)
    if not summary.images:
        raise InputError(f"every one of the {summary.skipped} images is broken")
    by_name = {site.name: site for site in sites}
    with atomic_path(folder / CLASSES) as path, Rows(path, CLASS_ROWS) as rows:
        for row in sums.rows():
            rows.add(class_table(row, by_name[row.site], names))
    for name in (IMAGES, CLASSES, SKIPPED):
        files[name] = fingerprint_file(folder / name)
    write_manifest(
        folder,
        kind=KIND,
        schema=SCHEMA,
        sites=[asdict(site) for site in sites],
        class_names={str(index): names.of_class(index) for index in sorted(summary.seen)},
        summary=summary.to_dict(names, sorted(sums.images)),
        provenance=dict(provenance),
        files=files,
    )


def _join(
    folder: Path, parts: Parts, count: int, summary: _Summary, *, counted: str
) -> dict[str, str]:
    """Write the tables of images and of skipped images; return the files of winners."""
    files = {}
    with (
        atomic_path(folder / IMAGES) as first,
        atomic_path(folder / SKIPPED) as second,
        Rows(first, IMAGE_ROWS) as rows,
        Rows(second, _SKIPPED_ROWS) as broken,
    ):
        for number in range(count):
            part = parts.whole(number)
            if part is None:
                raise UnreadableError(
                    f"part {number} of {str(folder)!r} was lost or damaged; repeat the command"
                )
            files[parts.winners(number)] = part.files[parts.winners(number)]
            summary.skipped += len(part.skipped)
            found = [
                {"image": each.id, "key": each.index, "reason": each.reason}
                for each in part.skipped
            ]
            broken.add(pa.Table.from_pylist(found, schema=_SKIPPED_ROWS))
            source = pq.ParquetFile(folder / parts.images(number))
            for batch in source.iter_batches(batch_size=1 << 14):
                table = pa.Table.from_batches([batch])
                rows.add(table)
                summary.add(table, counted=counted)
    return files
