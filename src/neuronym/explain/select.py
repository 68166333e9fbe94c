"""What is asked: sites of the atlas by name or pattern, classes by name or index."""

from __future__ import annotations

from neuronym.errors import InputError, nearest
from neuronym.results import Atlas, SiteInfo
from neuronym.results.selection import (
    ALL,
    SiteChoice,
    asks_for_several,
    default_site,
    matching_sites,
)

__all__ = [
    "ALL",
    "SiteChoice",
    "asks_for_several",
    "class_index",
    "default_site",
    "select_sites",
]


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
    return matching_sites(atlas, wanted)


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
