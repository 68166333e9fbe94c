"""The audit: which concerns a model's decisions rest on, and what it does without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronym.errors import InputError, UnreadableError, nearest
from neuronym.files import read_record, write_json

__all__ = ["Audit", "ConcernUnits", "Estimate", "Finding", "GroupEffect", "Removal", "Shown"]

KIND = "audit"
SCHEMA = 1


@dataclass(frozen=True)
class Estimate:
    """A mean over images with its 95 % interval.

    The interval holds the percentiles of the bootstrap; that of a change of accuracy is Agresti
    and Min's (:mod:`neuronym.intervene.paired`).
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ConcernUnits:
    """A concern, and the units that match it.

    Attributes:
        name: What results call it.
        text: The text that stands for it, or ``None`` where example images do.
        note: Why it is on the list, e.g. where it was seen before.
        units: The units that match, as ``"SITE/UNIT"``, best first. Empty where none matches,
            which proves nothing: the vision-text model may not see the concern.
        correlations: Of each unit's activation with the concern's score, over the atlas's images.
        images_with, images_without: How many audited images count as showing it, and as not.
        groups: How these were told apart: ``"score"`` or ``"given"``.
    """

    name: str
    text: str | None
    note: str
    units: tuple[str, ...]
    correlations: tuple[float, ...]
    images_with: int
    images_without: int
    groups: str

    @property
    def matched(self) -> bool:
        """Whether any unit matches."""
        return bool(self.units)


@dataclass(frozen=True)
class Shown:
    """An image on which much flows through a concern's units.

    Attributes:
        id: Of the image in the probe set.
        logits: Signed contribution of the units to the target's logit.
        share: Their part of the sum of positive contributions, 0 to 1.
    """

    id: str
    logits: float
    share: float


@dataclass(frozen=True)
class Finding:
    """How much of one class's evidence flows through one concern's units at one site.

    Attributes:
        concern, site: What, and where.
        index, class_name: The class.
        units: How many units match at this site.
        images: Images of the class.
        share: Mean over images of the part of all positive contributions that comes from the
            units, 0 to 1.
        expected: Mean share of as many units drawn at random among units that fire about as
            often.
        excess: ``share - expected``, per image and then averaged.
        logits: Mean signed contribution of the units to the class's logit.
        contrast: Mean share on images that show the concern minus on those that do not, or
            ``None`` where one of the groups has too few images.
        images_with, images_without: Of the class.
        p_value: Of the share against random sets of units; ``q_value`` after control of the false
            discoveries among all findings.
        shown: The images with the largest contribution through the units.
        rank: From 1; ``None`` where the class has too few images to say.
    """

    concern: str
    site: str
    index: int
    class_name: str
    units: int
    images: int
    share: Estimate
    expected: float
    excess: Estimate
    logits: Estimate
    contrast: Estimate | None
    images_with: int
    images_without: int
    p_value: float | None
    q_value: float | None
    shown: tuple[Shown, ...]
    rank: int | None = None


@dataclass(frozen=True)
class GroupEffect:
    """What a removal does to one group of images.

    Attributes:
        group: ``"all"``, ``"with"`` or ``"without"`` the concern.
        class_name: True class of the images, or ``None`` for all classes.
        images: How many.
        changed: Share whose predicted class is another one afterwards, 0 to 1.
        before, after: Accuracy, 0 to 1; ``None`` without labels.
        change: ``after - before`` on the same images, with its interval.
    """

    group: str
    class_name: str | None
    images: int
    changed: float
    before: float | None
    after: float | None
    change: Estimate | None


@dataclass(frozen=True)
class Removal:
    """The effect of editing out the units of one concern.

    Attributes:
        concern: Its name.
        action: What was done to the units.
        edit: The edit, as :meth:`neuronym.models.edits.Edit.to_dict` gives it.
        effects: Per group of images.
        file: Name of the edit's file beside the audit, where it was saved.
    """

    concern: str
    action: str
    edit: Mapping[str, Any]
    effects: tuple[GroupEffect, ...]
    file: str | None = None

    def effect(self, group: str, class_name: str | None = None) -> GroupEffect:
        """Return the effect on one group; :class:`InputError` says which there are."""
        for row in self.effects:
            if (row.group, row.class_name) == (group, class_name):
                return row
        known = [f"{row.group}/{row.class_name or 'every class'}" for row in self.effects]
        wanted = f"{group}/{class_name or 'every class'}"
        close = ", ".join(nearest(wanted, known) or known[:5])
        raise InputError(f"the removal has no group {wanted!r}; nearest: {close}")


@dataclass(frozen=True)
class Audit:
    """Does a model rely on what it should not? See ``docs/auditing.md``.

    Attributes:
        concerns: What was asked, with the matching units.
        findings: Class × concern × site, the ranked ones first in their order.
        removals: Of the concerns that carry most.
        level: False-discovery rate at which a finding counts as significant.
        notes: What was left out, and why.
        provenance: Fingerprints, SPECs, seeds, options, versions.
    """

    concerns: tuple[ConcernUnits, ...]
    findings: tuple[Finding, ...]
    removals: tuple[Removal, ...]
    level: float
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]

    def significant(self) -> tuple[Finding, ...]:
        """Return the findings whose q-value is not above the level, best rank first."""
        return tuple(
            row for row in self.findings if row.q_value is not None and row.q_value <= self.level
        )

    def concern(self, name: str) -> ConcernUnits:
        """Return one concern; :class:`InputError` names the nearest ones."""
        for row in self.concerns:
            if row.name == name:
                return row
        raise _none("concern", name, [row.name for row in self.concerns])

    def removal(self, concern: str) -> Removal:
        """Return the removal of one concern; :class:`InputError` names those that were made."""
        for row in self.removals:
            if row.concern == concern:
                return row
        raise _none("removal of", concern, [row.concern for row in self.removals])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"kind": KIND, "schema": SCHEMA, **asdict(self)}

    def save(self, path: str | Path) -> None:
        """Write it as one JSON file."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Audit:
        """Read it back.

        Raises:
            MissingError: The file does not exist.
            UnreadableError: It is not an audit, or of a newer schema.
        """
        data = read_record(path, kind=KIND, schema=SCHEMA)
        try:
            return cls(
                concerns=tuple(_concern(row) for row in data["concerns"]),
                findings=tuple(_finding(row) for row in data["findings"]),
                removals=tuple(_removal(row) for row in data["removals"]),
                level=data["level"],
                notes=tuple(data["notes"]),
                provenance=data["provenance"],
            )
        except (KeyError, TypeError) as error:
            raise UnreadableError(f"{str(path)!r} is not a whole audit: {error}") from error


def _none(kind: str, name: str, known: Sequence[str]) -> InputError:
    close = ", ".join(nearest(name, known) or known[:5]) or "none"
    return InputError(f"the audit has no {kind} {name!r}; nearest: {close}")


def _concern(row: Mapping[str, Any]) -> ConcernUnits:
    lists = {key: tuple(row[key]) for key in ("units", "correlations")}
    return ConcernUnits(**{**row, **lists})


def _finding(row: Mapping[str, Any]) -> Finding:
    made = {key: Estimate(**row[key]) for key in ("share", "excess", "logits")}
    contrast = None if row["contrast"] is None else Estimate(**row["contrast"])
    shown = tuple(Shown(**each) for each in row["shown"])
    return Finding(**{**row, **made, "contrast": contrast, "shown": shown})


def _removal(row: Mapping[str, Any]) -> Removal:
    effects = []
    for each in row["effects"]:
        change = None if each["change"] is None else Estimate(**each["change"])
        effects.append(GroupEffect(**{**each, "change": change}))
    return Removal(**{**row, "effects": tuple(effects)})
