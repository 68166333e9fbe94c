"""The atlas: the saved result of a dissection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neuronym.errors import InputError, MissingError, UnreadableError, nearest
from neuronym.files import MANIFEST, atomic_path, existing, read_manifest, write_manifest
from neuronym.results.evidence import FOLDER, Evidence

__all__ = ["UNNAMED", "Atlas", "Formula", "LinearFit", "ProbeImage", "SiteInfo", "Unit"]

KIND = "atlas"
SCHEMA = 2
NEURONS = "neurons.parquet"
IMAGES = "images.parquet"
CONCEPTS = "concepts.parquet"
THUMBNAILS = "thumbnails"

UNNAMED = ("constant", "never above zero", "not significant")
"""Why a unit has no name: its activation is the same on every image; it competes and is never
above zero; or its best concept is no better than chance (``Unit.q_value`` above the level)."""

_LINEAR = pa.struct(
    [
        ("concepts", pa.list_(pa.string())),
        ("weights", pa.list_(pa.float64())),
        ("correlation", pa.float64()),
        ("r_squared", pa.float64()),
        ("single", pa.string()),
        ("single_correlation", pa.float64()),
    ]
)
_FORMULA = pa.struct(
    [
        ("text", pa.string()),
        ("auroc", pa.float64()),
        ("share", pa.float64()),
        ("single", pa.string()),
        ("single_auroc", pa.float64()),
    ]
)
_UNIT_SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("unit", pa.int32()),
        ("block", pa.int32()),
        ("name", pa.string()),
        ("score", pa.float64()),
        ("p_value", pa.float64()),
        ("runner_up_names", pa.list_(pa.string())),
        ("runner_up_scores", pa.list_(pa.float64())),
        ("firing_rate", pa.float64()),
        ("win_rate", pa.float64()),
        ("top_images", pa.list_(pa.string())),
        ("top_activations", pa.list_(pa.float64())),
        ("q_value", pa.float64()),
        ("unnamed", pa.string()),
        ("linear", _LINEAR),
        ("formula", _FORMULA),
    ]
)
_IMAGE_SCHEMA = pa.schema([("id", pa.string()), ("label", pa.string()), ("thumbnail", pa.string())])


@dataclass(frozen=True)
class SiteInfo:
    """Where units were recorded.

    Attributes:
        name: Name of the module in the model, as in ``named_modules()``.
        units: Number of units K.
        channel_dim: The dimension of the module's output that holds the units.
        competitors: U of a competitive site, else ``None``.
        pooling: How positions became one number per image, e.g. ``"mean"``.
        positions: Positions per image (1 for a linear layer).
        active_fraction: Measured share of active units over images and positions (winners where
            units compete, elsewhere those that are not zero), else ``None``.
    """

    name: str
    units: int
    channel_dim: int
    competitors: int | None
    pooling: str
    positions: int
    active_fraction: float | None = None


@dataclass(frozen=True)
class LinearFit:
    """A linear explanation: concepts whose weighted scores predict the unit's activation.

    Attributes:
        concepts, weights: The concepts and their weights above 0 (on standardised scores, for the
            standardised activation), largest weight first.
        correlation: Of prediction and activation on images that were not fitted, -1 to 1.
        r_squared: Share of the activation's variance there that is predicted; below 0 where the
            mean would predict better.
        single, single_correlation: The best single concept and its correlation there.
    """

    concepts: tuple[str, ...]
    weights: tuple[float, ...]
    correlation: float
    r_squared: float
    single: str
    single_correlation: float


@dataclass(frozen=True)
class Formula:
    """A compositional name: concepts joined by AND, OR and NOT.

    Attributes:
        text: Such as ``"water AND NOT boat"``.
        auroc: How well the activation separates its images, on images that were not searched.
        share: Share of the images that it holds for, 0 to 1.
        single, single_auroc: The best single concept and its AUROC there.
    """

    text: str
    auroc: float
    share: float
    single: str
    single_auroc: float


@dataclass(frozen=True)
class Unit:
    """One row of ``neurons.parquet``.

    Attributes:
        site: Name of its site.
        unit: Channel index from 0.
        block: Index of its block of competitors; ``None`` for a dense site.
        name: The concept that fits best; ``None`` for a unit without a name (see ``unnamed``).
        score: Similarity of unit and name (its unit is the similarity's).
        p_value: Share of the null distribution of the best score that reaches ``score``; ``None``
            where it was not computed.
        runner_up_names, runner_up_scores: The next best concepts, best first; for a unit that is
            unnamed because its name is not significant, the candidates from the best one on.
        firing_rate: Share of images on which the pooled activation is above zero, 0 to 1.
        win_rate: For a competitive site the share of positions that it won, 0 to 1.
        top_images, top_activations: Ids of the images with the largest pooled activation.
        q_value: Smallest false-discovery rate, over all units of the atlas, at which the name is
            significant; ``None`` where it was not tested.
        unnamed: Why it has no name, one of :data:`UNNAMED`; ``None`` where it has one, and in
            atlases that were written before this was kept.
        linear: Its linear explanation, where one was asked for and found.
        formula: Its compositional name, where one was asked for and found.
    """

    site: str
    unit: int
    block: int | None
    name: str | None
    score: float | None
    p_value: float | None
    runner_up_names: tuple[str, ...]
    runner_up_scores: tuple[float, ...]
    firing_rate: float
    win_rate: float | None
    top_images: tuple[str, ...]
    top_activations: tuple[float, ...]
    q_value: float | None = None
    unnamed: str | None = None
    linear: LinearFit | None = None
    formula: Formula | None = None

    @property
    def key(self) -> str:
        """``"site/unit"``, unique in an atlas."""
        return f"{self.site}/{self.unit}"

    @property
    def live(self) -> bool:
        """Whether it won (at a dense site: fired) at least once on the probe set."""
        return (self.firing_rate if self.win_rate is None else self.win_rate) > 0


@dataclass(frozen=True)
class ProbeImage:
    """An image of the probe set that the atlas shows: its id, label and thumbnail file."""

    id: str
    label: str | None
    thumbnail: str | None


@dataclass(frozen=True)
class Atlas:
    """The saved result of a dissection.

    Attributes:
        sites: Where units were recorded.
        units: Every unit, ordered by site and index.
        images: The images that some unit has among its top images, by id.
        provenance: Fingerprints, SPECs, seeds, versions, similarity and its keywords, counts of
            images seen and skipped: all that a reader needs to repeat the run.
        folder: Where it was loaded from or saved to; thumbnails are paths inside it.
        held: The evidence of an atlas in memory; one that was loaded reads its files when
            :attr:`evidence` is asked for.
    """

    sites: tuple[SiteInfo, ...]
    units: tuple[Unit, ...]
    images: Mapping[str, ProbeImage]
    provenance: Mapping[str, Any]
    folder: Path | None = field(default=None, compare=False)
    held: Evidence | None = field(default=None, compare=False, repr=False)

    @cached_property
    def evidence(self) -> Evidence | None:
        """What any text is compared with later; ``None`` in atlases that were made without it.

        Raises:
            MissingError: One of its files is gone.
            UnreadableError: One of its files is damaged; the text names it.
        """
        if self.held is not None or self.folder is None:
            return self.held
        listed = read_manifest(self.folder, kind=KIND, schema=SCHEMA).get("evidence")
        return None if listed is None else Evidence.load(self.folder / FOLDER, listed)

    @property
    def model_spec(self) -> str:
        """SPEC of the model that it was made from.

        Where that was a folder, it is looked for where it lay relative to the atlas first, so
        that both may move together, and then where it was named.

        Raises:
            InputError: The atlas does not say.
        """
        made_from = self.provenance.get("model", {})
        relative = made_from.get("relative")
        if relative is not None and self.folder is not None and (self.folder / relative).is_dir():
            return str(self.folder / relative)
        if not made_from.get("spec"):
            raise InputError("the atlas does not say which model it was made from")
        return str(made_from["spec"])

    def __len__(self) -> int:
        return len(self.units)

    def __iter__(self) -> Iterator[Unit]:
        return iter(self.units)

    def site(self, name: str) -> SiteInfo:
        """Return a site by name; :class:`InputError` names the nearest ones."""
        for site in self.sites:
            if site.name == name:
                return site
        known = [site.name for site in self.sites]
        close = ", ".join(nearest(name, known) or known[:5])
        raise InputError(f"atlas has no site {name!r}; nearest: {close}")

    def of_site(self, name: str) -> tuple[Unit, ...]:
        """Return the units of one site, ordered by index."""
        self.site(name)
        return tuple(unit for unit in self.units if unit.site == name)

    def unit(self, site: str, index: int) -> Unit:
        """Return one unit; :class:`InputError` says which indices exist."""
        units = self.of_site(site)
        if not 0 <= index < len(units):
            raise InputError(f"site {site!r} has units 0 to {len(units) - 1}, not {index}")
        return units[index]

    def save(self, folder: str | Path) -> Atlas:
        """Write tables and evidence, then the manifest last.

        Thumbnails are written by ``dissect`` before.

        Returns:
            The same atlas with ``folder`` set.

        Raises:
            InputError: A number of a unit is not finite, or a reason for having no name is not
                known or stands beside a name; nothing is written then.
        """
        for unit in self.units:
            _require_finite(unit.key, asdict(unit))
            _require_reason(unit)
        folder = Path(folder)
        evidence = self.evidence  # read before anything is written: it may lie in this folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)  # new tables never stand under an old manifest
        _write_table(folder / NEURONS, [asdict(unit) for unit in self.units], _UNIT_SCHEMA)
        _write_table(
            folder / IMAGES, [asdict(image) for image in self.images.values()], _IMAGE_SCHEMA
        )
        write_manifest(
            folder,
            kind=KIND,
            schema=SCHEMA,
            sites=[asdict(site) for site in self.sites],
            provenance=dict(self.provenance),
            evidence=None if evidence is None else evidence.save(folder / FOLDER),
        )
        return replace(self, folder=folder, held=evidence)

    @classmethod
    def load(cls, folder: str | Path) -> Atlas:
        """Read a finished atlas.

        Raises:
            MissingError: The folder, or one of its tables, does not exist.
            UnreadableError: It is not a finished atlas, or a table is broken.
        """
        folder = Path(folder)
        manifest = read_manifest(folder, kind=KIND, schema=SCHEMA)
        units = _read_table(folder / NEURONS)
        images = _read_table(folder / IMAGES)
        try:
            return cls(
                sites=tuple(SiteInfo(**site) for site in manifest["sites"]),
                units=tuple(_unit(row) for row in units),
                images={row["id"]: ProbeImage(**row) for row in images},
                provenance=manifest["provenance"],
                folder=folder,
            )
        except (KeyError, TypeError) as error:
            raise UnreadableError(f"{str(folder)!r} is not a whole atlas: {error}") from error


def _require_finite(key: str, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if isinstance(value, dict):
            _require_finite(key, value)
            continue
        numbers = value if isinstance(value, tuple) else (value,)
        for number in numbers:
            if isinstance(number, (float, np.floating)) and not np.isfinite(number):
                raise InputError(f"unit {key!r} has the {name} {number}; it must be finite")


def _require_reason(unit: Unit) -> None:
    if unit.unnamed is not None and (unit.unnamed not in UNNAMED or unit.name is not None):
        raise InputError(
            f"unit {unit.key!r} has unnamed={unit.unnamed!r} and the name {unit.name!r}; a unit "
            f"without a name gives one of the reasons {', '.join(UNNAMED)}"
        )


def _unit(row: dict[str, Any]) -> Unit:
    lists = ("runner_up_names", "runner_up_scores", "top_images", "top_activations")
    made = {**row, **{key: tuple(row[key] or ()) for key in lists}}
    if (linear := row.get("linear")) is not None:
        parts = {key: tuple(linear[key]) for key in ("concepts", "weights")}
        made["linear"] = LinearFit(**{**linear, **parts})
    if (formula := row.get("formula")) is not None:
        made["formula"] = Formula(**formula)
    return Unit(**made)


def _write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    columns = {name: [_plain(row[name]) for row in rows] for name in schema.names}
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns, schema=schema), temporary, compression="zstd")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _read_table(path: Path) -> list[dict[str, Any]]:
    try:
        return list(pq.read_table(existing(path)).to_pylist())
    except MissingError:
        raise
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise UnreadableError(f"{str(path)!r} is not a readable table: {reason}") from error
