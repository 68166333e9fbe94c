"""The explanations of a data set: tables of images, of their winners, and of classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from neuronym.errors import InputError, MissingError, UnreadableError, nearest
from neuronym.files import read_manifest
from neuronym.results.atlas import SiteInfo

__all__ = ["ClassUnit", "ExplanationSet"]

KIND = "explanations"
SCHEMA = 2
IMAGES = "images.parquet"
WINNERS = "winners"
CLASSES = "classes.parquet"

IMAGE_ROWS = pa.schema(
    [
        ("image", pa.string()),
        ("key", pa.int64()),
        ("site", pa.string()),
        ("label", pa.string()),
        ("label_index", pa.int32()),
        ("predicted", pa.string()),
        ("predicted_index", pa.int32()),
        ("right", pa.bool_()),
        ("target", pa.string()),
        ("target_index", pa.int32()),
        ("logit", pa.float64()),
        ("probability", pa.float64()),
        ("baseline", pa.float64()),
        ("completeness_error", pa.float64()),
        ("winners", pa.int32()),
        ("rest", pa.float64()),
        ("decided_by", pa.int32()),
    ]
)
"""One row per image and site.

``label`` and ``right`` are null where there is no label, ``decided_by`` where no unit supports.
"""
WINNER_ROWS = pa.schema(
    [
        ("image", pa.string()),
        ("site", pa.string()),
        ("unit", pa.int32()),
        ("block", pa.int32()),
        ("name", pa.string()),
        ("activation", pa.float64()),
        ("contribution", pa.float64()),
        ("win_rate", pa.float64()),
        ("image_winner", pa.bool_()),
        ("rank", pa.int32()),
    ]
)
"""One row per image, site and listed winner, in the order of the rank."""
CLASS_ROWS = pa.schema(
    [
        ("site", pa.string()),
        ("class", pa.string()),
        ("class_index", pa.int32()),
        ("unit", pa.int32()),
        ("block", pa.int32()),
        ("name", pa.string()),
        ("images", pa.int64()),
        ("mean", pa.float64()),
        ("spread", pa.float64()),
        ("share", pa.float64()),
        ("wins", pa.float64()),
    ]
)
"""One row per site, class and unit: every unit, listed among the winners or not."""


@dataclass(frozen=True)
class ClassUnit:
    """What one unit adds to one class over the images that the class was explained on.

    Attributes:
        site: Name of the site.
        class_name, class_index: The class.
        unit, block: The unit, and its block of competitors (``None`` at a dense site).
        name: The unit's name, or ``None``.
        images: Number of images.
        mean: Mean contribution to the class's logit, in logits; an image on which the unit lost
            counts with zero.
        spread: Standard deviation of the contribution over the images; ``None`` for one image.
        share: Its part of the sum of all positive contributions, 0 to 1; ``None`` where there
            are none.
        wins: Share of the images in which it won somewhere (at a dense site: fired), 0 to 1.
    """

    site: str
    class_name: str
    class_index: int
    unit: int
    block: int | None
    name: str | None
    images: int
    mean: float
    spread: float | None
    share: float | None
    wins: float


@dataclass(frozen=True)
class ExplanationSet:
    """The saved explanations of a data set; the tables stay on disk until they are asked for.

    Attributes:
        folder: Where the tables are: ``images.parquet``, ``winners/part-*.parquet`` and
            ``classes.parquet``.
        sites: The sites, each of which explains the logits on its own.
        class_names: Class index → name, of every class that is a label, a prediction or a target.
        summary: ``images``, ``skipped``, ``labelled``, ``accuracy`` (``None`` without labels),
            ``accuracy_per_class``, ``explained_classes`` (their indices) and, per site, the largest
            ``completeness_error`` with its image.
        provenance: Fingerprints and SPECs of the model, the atlas and the images, the settings,
            and versions.
    """

    folder: Path
    sites: tuple[SiteInfo, ...]
    class_names: Mapping[int, str]
    summary: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> ExplanationSet:
        """Open a finished folder of ``neuronym explain --images``.

        Raises:
            MissingError: The folder, or one of its tables, does not exist.
            UnreadableError: It is not finished, or not of this kind.
        """
        folder = Path(folder)
        manifest = read_manifest(folder, kind=KIND, schema=SCHEMA)
        for name in (IMAGES, WINNERS, CLASSES):
            if not (folder / name).exists():
                raise MissingError(f"explanations {str(folder)!r} have no {name}")
        try:
            return cls(
                folder=folder,
                sites=tuple(SiteInfo(**site) for site in manifest["sites"]),
                class_names={int(index): name for index, name in manifest["class_names"].items()},
                summary=manifest["summary"],
                provenance=manifest["provenance"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnreadableError(
                f"{str(folder)!r} is not a whole folder of explanations: {error}"
            ) from error

    def __len__(self) -> int:
        """Return the number of images that were explained."""
        return int(self.summary["images"])

    @cached_property
    def images(self) -> Any:
        """One row per image and site, as a ``pyarrow.Table``.

        Columns: ``image`` (its id), ``key``, ``site``, ``label``, ``predicted`` and ``target``
        (names, and indices as ``label_index`` …), ``right`` (null without a label), ``logit``
        and ``probability`` of the target, ``baseline`` (the logit with the site at zero),
        ``completeness_error``, ``winners`` (how many), ``rest`` (the sum of the contributions
        of the winners that are not listed): logit = baseline + listed + rest + error; and
        ``decided_by``, the unit that supports the target most: that of the largest positive
        contribution, listed or not; null where no contribution is positive.

        Raises:
            UnreadableError: The table is damaged.
        """
        return self._table(IMAGES)

    def winners(
        self, *, columns: Sequence[str] | None = None, site: str | None = None
    ) -> Iterator[Any]:
        """Yield the listed winners as ``pyarrow.RecordBatch``, in bounded memory.

        Columns: ``image``, ``site``, ``unit``, ``block``, ``name``, ``activation``,
        ``contribution``, ``win_rate``, ``image_winner``, ``rank`` (1 is the largest absolute
        contribution of that image at that site, for or against the target).

        Args:
            columns: Which columns; all where ``None``.
            site: Only those of one site.

        Raises:
            InputError: There is no such column or site.
            UnreadableError: A file is damaged.
        """
        for column in columns or ():
            if column not in WINNER_ROWS.names:
                close = ", ".join(nearest(column, WINNER_ROWS.names) or WINNER_ROWS.names)
                raise InputError(f"winners have no column {column!r}; nearest: {close}")
        chosen = None if site is None else self._site(site)
        return self._scan(WINNERS, columns, (("site", chosen),) if chosen is not None else ())

    def carriers(
        self, class_name: str | int, site: str | None = None, *, most: int | None = 20
    ) -> tuple[ClassUnit, ...]:
        """Return the units that carry a class: largest mean contribution first.

        Args:
            class_name: Name or index of a class that was explained.
            site: By default the set's last site.
            most: How many; all units where ``None``.

        Raises:
            InputError: There is no such class or site; the text shows the nearest ones.
        """
        _check_most(most)
        index = self._class(class_name)
        rows = self._class_units([("site", "=", self._site(site)), ("class_index", "=", index)])
        if not rows:
            raise InputError(
                f"no image was explained for the class {self.class_names[index]!r}; "
                f"classes that were: {', '.join(self._explained()[:12])}"
            )
        return tuple(rows[:most])

    def drives(self, site: str, unit: int, *, most: int | None = None) -> tuple[ClassUnit, ...]:
        """Return the classes that a unit drives: largest mean contribution first.

        Raises:
            InputError: There is no such site or unit.
        """
        _check_most(most)
        self._check_unit(site, unit)
        return tuple(self._class_units([("site", "=", site), ("unit", "=", unit)])[:most])

    def decided_by(self, site: str, unit: int) -> tuple[str, ...]:
        """Return the ids of the images that a unit decided.

        It is the unit that supports the explained class most: its contribution is positive, and
        no unit of the site contributed more. (Rank 1 says something else: the largest
        contribution by size may speak against the class.)

        Raises:
            InputError: There is no such site or unit.
            UnreadableError: The table is damaged.
        """
        self._check_unit(site, unit)
        found: list[str] = []
        for batch in self._scan(IMAGES, ["image"], (("site", site), ("decided_by", unit))):
            found += batch.column("image").to_pylist()
        return tuple(found)

    def _scan(
        self, table: str, columns: Sequence[str] | None, equal: Sequence[tuple[str, str | int]]
    ) -> Iterator[Any]:
        import pyarrow.dataset as ds

        condition = None
        for name, value in equal:
            term = ds.field(name) == value
            condition = term if condition is None else condition & term
        try:
            schema = WINNER_ROWS if table == WINNERS else IMAGE_ROWS
            data = ds.dataset(self.folder / table, schema=schema, format="parquet")
            wanted = None if columns is None else list(columns)
            # Few files and batches are read ahead: the reader decides how fast they are taken.
            scan = data.scanner(
                columns=wanted, filter=condition, batch_readahead=2, fragment_readahead=1
            )
            for batch in scan.to_batches():
                if len(batch):
                    yield batch
        except (OSError, pa.ArrowException) as error:
            raise UnreadableError(f"{table} in {str(self.folder)!r} is damaged: {error}") from error

    def _table(self, name: str, filters: Sequence[tuple[str, str, Any]] | None = None) -> Any:
        try:
            return pq.read_table(self.folder / name, filters=filters and list(filters))
        except (OSError, pa.ArrowException) as error:
            raise UnreadableError(
                f"{str(self.folder / name)!r} is not a whole table: {error}"
            ) from error

    def _class_units(self, filters: Sequence[tuple[str, str, Any]]) -> list[ClassUnit]:
        found = []
        for row in self._table(CLASSES, filters).to_pylist():
            row["class_name"] = row.pop("class")
            found.append(ClassUnit(**row))
        return sorted(found, key=lambda each: (-each.mean, each.class_index, each.unit))

    def _site(self, name: str | None) -> str:
        known = [site.name for site in self.sites]
        if name is None:
            return known[-1]
        if name not in known:
            close = ", ".join(nearest(name, known) or known[:5])
            raise InputError(f"the explanations have no site {name!r}; nearest: {close}")
        return name

    def _check_unit(self, site: str, unit: int) -> None:
        name = self._site(site)
        units = next(each.units for each in self.sites if each.name == name)
        if not 0 <= unit < units:
            raise InputError(f"site {site!r} has units 0 to {units - 1}, not {unit}")

    def _class(self, name: str | int) -> int:
        if isinstance(name, int):
            if name not in self.class_names:
                known = ", ".join(str(index) for index in list(self.class_names)[:12])
                raise InputError(f"the explanations have no class {name}; known: {known}")
            return name
        matching = [
            index for index, each in self.class_names.items() if each.lower() == name.lower()
        ]
        if len(matching) > 1:
            raise InputError(f"several classes are called {name!r}; give an index of {matching}")
        if not matching:
            close = ", ".join(nearest(name, self.class_names.values()) or self._explained()[:5])
            raise InputError(f"the explanations have no class {name!r}; nearest: {close}")
        return matching[0]

    def _explained(self) -> list[str]:
        return [self.class_names[int(index)] for index in self.summary.get("explained_classes", [])]


def _check_most(most: int | None) -> None:
    if most is not None and most < 1:
        raise InputError(f"most must be at least 1 or None, not {most}")
