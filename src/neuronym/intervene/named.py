"""Units of an atlas by their names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from neuronym.errors import InputError, nearest
from neuronym.models import Change
from neuronym.results import Atlas, Unit

__all__ = ["changes_to", "units_named"]


def units_named(
    atlas: Atlas, pattern: str, *, sites: Sequence[str] | None = None
) -> tuple[Unit, ...]:
    """Return the units whose name matches a pattern such as ``"*water*"`` (case does not count).

    Args:
        atlas: The names.
        pattern: ``*`` stands for any text, ``?`` for one character, ``[ab]`` for one of a few.
        sites: Names of the sites to look at; all where ``None``.

    Raises:
        InputError: A site is unknown, or no unit has such a name; the text shows the nearest.
    """
    units = list(atlas) if sites is None else [u for site in sites for u in atlas.of_site(site)]
    found = [u for u in units if u.name and fnmatchcase(u.name.lower(), pattern.lower())]
    if not found:
        names = sorted({unit.name for unit in units if unit.name})
        close = ", ".join(nearest(pattern.strip("*?"), names)) or ", ".join(names[:5]) or "none"
        raise InputError(f"no unit has a name that matches {pattern!r}; nearest: {close}")
    return tuple(found)


def changes_to(
    atlas: Atlas, units: Sequence[Unit], action: str, *, factor: float | None = None
) -> tuple[Change, ...]:
    """Return the changes that do one thing to units of an atlas, one change per site.

    Args:
        atlas: The atlas; its sites tell the dimension of the units.
        units: Of this atlas.
        action: One of :data:`neuronym.models.ACTIONS`.
        factor: For ``"scale"``.

    Raises:
        InputError: There is no unit, or an argument does not fit the action.
        UnknownNameError: There is no such action.
    """
    if not units:
        raise InputError(f"no unit to {action}")
    by_site: dict[str, list[int]] = {}
    for unit in units:
        by_site.setdefault(unit.site, []).append(unit.unit)
    made = []
    for name, indices in by_site.items():
        site = atlas.site(name)
        dim = None if site.competitors is not None else site.channel_dim
        chosen = tuple(sorted(set(indices)))
        made.append(Change(name, chosen, action, factor=factor, channel_dim=dim))
    return tuple(made)
