"""Edits: what is done to which units of a model, as data that can be saved and applied again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronym.errors import InputError, UnreadableError, unknown
from neuronym.files import read_record, write_json
from neuronym.lwta.unit_rules import UnitRules

__all__ = ["ACTIONS", "Change", "Edit", "rules_of"]

KIND = "edit"
SCHEMA = 1
ACTIONS = ("silence", "hand_over", "force", "hold", "scale")
_ALONE = {"to": ("hand_over",), "factor": ("scale",), "value": ("force", "hold")}
"""Field of a change → the actions that have it."""


@dataclass(frozen=True)
class Change:
    """One action on some units of one site.

    Attributes:
        site: Name of the module; ``"relu#1"`` is its second call in a forward pass.
        units: Indices from 0.
        action: ``"silence"``: the output is 0 wherever the unit would pass something; at a
            competitive site its block passes nothing where it wins. ``"hand_over"``: it cannot
            win; the runner-up passes instead. ``"force"``: it wins its block at every position;
            at a dense site its output is ``value``. ``"hold"``: its output is ``value`` at every
            position, whether it wins or not; the competition goes on as before. ``"scale"``: its
            output times ``factor``.
        to: The unit of the same block that passes where these would have won, in place of the
            runner-up (``hand_over`` only).
        factor: For ``scale``; finite.
        value: For ``hold``, and for ``force`` at a dense site; finite.
        channel_dim: The dimension of a dense site's output that holds the units; ``None`` where
            the module tells (a linear layer, a convolution) or the model is asked.
    """

    site: str
    units: tuple[int, ...]
    action: str
    to: int | None = None
    factor: float | None = None
    value: float | None = None
    channel_dim: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", tuple(self.units))
        if self.action not in ACTIONS:
            raise unknown("action", str(self.action), ACTIONS)
        if not isinstance(self.site, str) or not self.site:
            raise InputError(f"a change needs the name of a site, not {self.site!r}")
        if not self.units:
            raise InputError(f"the change at site {self.site!r} names no unit")
        for unit in self.units:
            _check_unit(self.site, unit)
        if len(set(self.units)) < len(self.units):
            twice = next(unit for unit in self.units if self.units.count(unit) > 1)
            raise InputError(f"unit {self.site}/{twice} is named twice in one change")
        for name, actions in _ALONE.items():
            if getattr(self, name) is not None and self.action not in actions:
                raise InputError(f"{self.action!r} at site {self.site!r} takes no {name}")
        self._check_numbers()

    def _check_numbers(self) -> None:
        if self.action == "scale" and self.factor is None:
            raise InputError(f"'scale' at site {self.site!r} needs a factor")
        if self.action == "hold" and self.value is None:
            raise InputError(f"'hold' at site {self.site!r} needs a value")
        for name in ("factor", "value"):
            number = getattr(self, name)
            real = isinstance(number, (int, float)) and not isinstance(number, bool)
            if number is not None and not (real and math.isfinite(number)):
                raise InputError(
                    f"the {name} at site {self.site!r} must be a finite number, not {number!r}"
                )
        if self.to is not None:
            _check_unit(self.site, self.to)
            if self.to in self.units:
                raise InputError(f"unit {self.site}/{self.to} cannot hand over to itself")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, without what is not set."""
        given = {"site": self.site, "units": list(self.units), "action": self.action}
        rest = {name: getattr(self, name) for name in (*_ALONE, "channel_dim")}
        return given | {name: value for name, value in rest.items() if value is not None}

    def __str__(self) -> str:
        listed = ",".join(str(unit) for unit in self.units)
        extra = [f"{name}={getattr(self, name):g}" for name in _ALONE if self._has(name)]
        return f"{self.action} {self.site}/{listed}{' ' if extra else ''}{' '.join(extra)}"

    def _has(self, name: str) -> bool:
        return getattr(self, name) is not None


def _check_unit(site: str, unit: object) -> None:
    if isinstance(unit, bool) or not isinstance(unit, int) or unit < 0:
        raise InputError(f"a unit of site {site!r} is a whole number from 0, not {unit!r}")


@dataclass(frozen=True)
class Edit:
    """Changes to one model.

    Attributes:
        changes: What is done; at most one thing to each unit.
        model_spec, model_fingerprint: The model that it is for; ``None`` for any.
    """

    changes: tuple[Change, ...]
    model_spec: str | None = None
    model_fingerprint: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "changes", tuple(self.changes))
        if not self.changes:
            raise InputError("an edit needs at least one change")
        by_site: dict[str, list[Change]] = {}
        for change in self.changes:
            by_site.setdefault(change.site, []).append(change)
        for site, changes in by_site.items():
            _check_each_once(site, changes)

    @property
    def provenance(self) -> dict[str, Any]:
        """SPEC and fingerprint of the model, as results hold them."""
        return {"model": {"spec": self.model_spec, "fingerprint": self.model_fingerprint}}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "kind": KIND,
            "schema": SCHEMA,
            **self.provenance,
            "changes": [change.to_dict() for change in self.changes],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str) -> Edit:
        """Build from what :meth:`to_dict` gave; ``where`` names it in messages.

        Raises:
            UnreadableError: A field is missing, or is not what it should be.
        """
        try:
            made_from = data["model"]
            return cls(
                tuple(Change(**change) for change in data["changes"]),
                made_from["spec"],
                made_from["fingerprint"],
            )
        except (KeyError, TypeError) as error:
            raise UnreadableError(f"{where!r} is not a whole edit: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write it as one JSON file."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Edit:
        """Read it back.

        Raises:
            MissingError: The file does not exist.
            UnreadableError: It is not an edit, or of a newer schema.
            InputError: It holds changes that contradict each other.
        """
        return cls.from_dict(read_record(path, kind=KIND, schema=SCHEMA), where=str(path))


def _what(change: Change) -> tuple[object, ...]:
    return (change.action, change.to, change.factor, change.value)


def _check_each_once(site: str, changes: Sequence[Change]) -> None:
    """Refuse a unit to which two different things are done, and an heir that hands over itself."""
    done: dict[int, Change] = {}
    for change in changes:
        for unit in change.units:
            other = done.setdefault(unit, change)
            if _what(other) != _what(change):
                raise InputError(
                    f"unit {site}/{unit} is in two changes that contradict each other: "
                    f"{other.action} and {change.action}"
                )
    for change in changes:
        if change.to is not None and change.to in done and done[change.to].action == "hand_over":
            raise InputError(
                f"unit {site}/{change.to} is to take over, and hands over itself: name another"
            )


def rules_of(
    changes: Sequence[Change], *, competitors: int | None, silent: bool = False
) -> UnitRules:
    """Return the rules of changes to one site.

    Args:
        changes: All to this site.
        competitors: U, or ``None`` where it does not compete.
        silent: Whether a block may be left that passes nothing.

    Raises:
        InputError: An action does not fit the site, two units of a block are forced, or a block
            would be left with no unit that can win and pass something.
    """
    site = changes[0].site
    if competitors is None:
        return _dense_rules(changes)
    excluded: set[int] = set()
    heirs: dict[int, int] = {}
    factors: dict[int, float] = {}
    forced: dict[int, int] = {}
    for change in changes:
        if change.value is not None and change.action == "force":
            raise InputError(
                f"'force' at site {site!r} takes no value: its units compete, and the forced one "
                "passes its own response; use it without"
            )
        for unit in change.units:
            if change.action == "scale":
                factors[unit] = float(change.factor or 0.0)
            elif change.action == "force":
                _force(site, unit, competitors, forced)
            elif change.action == "hand_over" and change.to is None:
                excluded.add(unit)
            elif change.to is not None:
                heirs[unit] = _heir(site, unit, change.to, competitors)
    for block, unit in forced.items():
        rivals = range(block * competitors, (block + 1) * competitors)
        excluded |= {rival for rival in rivals if rival != unit}
    fixing = [change for change in changes if change.action in ("silence", "hold")]
    values = {unit: float(change.value or 0.0) for change in fixing for unit in change.units}
    rules = UnitRules().then(UnitRules(frozenset(excluded), heirs, values, factors))
    rules.check_blocks(competitors, where=f"site {site!r}", silent=silent)
    return rules


def _force(site: str, unit: int, competitors: int, forced: dict[int, int]) -> None:
    other = forced.setdefault(unit // competitors, unit)
    if other != unit:
        raise InputError(
            f"units {site}/{other} and {site}/{unit} are of one block ({unit // competitors}), "
            "of which one wins: only one of them can be forced"
        )


def _heir(site: str, unit: int, to: int, competitors: int) -> int:
    block = unit // competitors
    first, last = block * competitors, (block + 1) * competitors - 1
    if not first <= to <= last:
        raise InputError(
            f"unit {site}/{unit} can hand over to another unit of its block {block} "
            f"({first} to {last}), not to {to}"
        )
    return to


def _dense_rules(changes: Sequence[Change]) -> UnitRules:
    values: dict[int, float] = {}
    factors: dict[int, float] = {}
    for change in changes:
        if change.action == "hand_over" or (change.action == "force" and change.value is None):
            use = "give force a value, or use" if change.action == "force" else "use"
            raise InputError(
                f"site {change.site!r} does not compete, so that no unit can {change.action}: "
                f"{use} silence or scale"
            )
        if change.action == "scale":
            factors |= dict.fromkeys(change.units, float(change.factor or 0.0))
        else:
            values |= dict.fromkeys(change.units, float(change.value or 0.0))
    return UnitRules(values=values, factors=factors)
