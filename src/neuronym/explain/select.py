"""What is asked: sites of the atlas by name or pattern, classes by name or index."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from neuronym.errors import InputError, nearest
from neuronym.results import Atlas, SiteInfo

__all__ = ["ALL", "asks_for_several", "class_index", "default_site", "select_sites"]

ALL = "all"
"""In place of a site: every site of the atlas."""

SiteChoice = str | Sequence[str] | None


def default_site(atlas: Atlas) -> SiteInfo:
    """Return the last competitive site of an atlas, else its last site.

    Raises:
        InputError: It has none.
    """
    if not atlas.sites:
        raise InputError("the atlas has no site")
    competitive = [site for site in atlas.sites if site.competitors is not None]
    return (competitive or list(atlas.sites))[-1]


def asks_for_several(wanted: SiteChoice) -> bool:
    """Whether a choice of sites is more than one plain name, whatever it then finds."""
    patterns = _patterns(wanted)
    return len(patterns) > 1 or any(
        pattern == ALL or any(sign in pattern for sign in "*?[") for pattern in patterns
    )


def select_sites(atlas: Atlas, wanted: SiteChoice) -> tuple[SiteInfo, ...]:
    """Return the sites that are asked for, in the atlas's order.

    Args:
        atlas: Whose sites.
        wanted: Names, with ``*``, ``?`` and ``[...]``, several in a list or separated by commas;
            ``"all"``; ``None`` for the default site.

    Raises:
        InputError: A name or pattern matches no site; the nearest are shown.
    """
    if wanted is None:
        return (default_site(atlas),)
    patterns = _patterns(wanted)
    names = [site.name for site in atlas.sites]
    if not patterns:
        raise InputError(f"no site in {wanted!r}; the atlas has {', '.join(names[:5])}")
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if name == pattern or fnmatchcase(name, pattern)}
        if pattern == ALL and not found:
            found = set(names)
        if not found:
            close = ", ".join(nearest(pattern.rstrip("*?."), names, count=5) or names[:5])
            raise InputError(f"atlas has no site {pattern!r}; nearest: {close}")
        chosen |= found
    return tuple(site for site in atlas.sites if site.name in chosen)


def class_index(wanted: int | str, names: tuple[str, ...] | None) -> int:
    """Return the index of a class given by name (in any case) or index.

    Raises:
        InputError: There is no such class, with the nearest names; or several have that name, with
            their indices.
    """
    if isinstance(wanted, int):
        if isinstance(wanted, bool) or wanted < 0 or (names is not None and wanted >= len(names)):
            limit = len(names) - 1 if names else "the number of classes minus 1"
            raise InputError(f"target class must be 0 to {limit}, not {wanted}")
        return wanted
    if names is None:
        raise InputError(f"the model has no class names; give the index instead of {wanted!r}")
    exact = [index for index, name in enumerate(names) if name == wanted]
    matches = exact or [i for i, name in enumerate(names) if name.lower() == wanted.lower()]
    if not matches:
        close = ", ".join(nearest(wanted, names)) or ", ".join(names[:5])
        raise InputError(f"the model has no class {wanted!r}; nearest: {close}")
    if len(matches) > 1:
        raise InputError(f"several classes are called {wanted!r}; give an index of {matches}")
    return matches[0]


def _patterns(wanted: SiteChoice) -> list[str]:
    given = [] if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    return [part.strip() for text in given for part in text.split(",") if part.strip()]
