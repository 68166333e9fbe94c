"""Sites of an atlas by name or pattern, as every command that takes sites reads them."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from neuronym.errors import InputError, nearest
from neuronym.results.atlas import Atlas, SiteInfo

__all__ = ["ALL", "SiteChoice", "asks_for_several", "default_site", "matching_sites"]

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


def matching_sites(atlas: Atlas, wanted: str | Sequence[str]) -> tuple[SiteInfo, ...]:
    """Return the sites that are asked for, in the atlas's order.

    Args:
        atlas: Whose sites.
        wanted: Names, with ``*``, ``?`` and ``[...]``, several in a list or separated by commas;
            or ``"all"``.

    Raises:
        InputError: A name or pattern matches no site; the nearest are shown.
    """
    patterns = _patterns(wanted)
    names = [site.name for site in atlas.sites]
    if not names:
        raise InputError("the atlas has no site")
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


def _patterns(wanted: SiteChoice) -> list[str]:
    given = [] if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    return [part.strip() for text in given for part in text.split(",") if part.strip()]
