"""What every search begins with: the atlas's evidence, and the sites that are searched."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from neuronym.errors import InputError, unknown
from neuronym.results import Atlas, Evidence, SiteInfo, Unit

__all__ = ["chosen_sites", "evidence_of", "listens"]


def evidence_of(atlas: Atlas) -> Evidence:
    """Return the evidence of an atlas.

    Raises:
        InputError: It was made without; the text says how to get it.
    """
    evidence = atlas.evidence
    if evidence is None:
        where = "the atlas" if atlas.folder is None else f"atlas {str(atlas.folder)!r}"
        raise InputError(
            f"{where} was made without the evidence that a search reads; dissect its model again "
            "(neuronym dissect, which reads a run that is still in the cache or in a folder "
            "without running the model)"
        )
    return evidence


def chosen_sites(atlas: Atlas, sites: str | Sequence[str] | None) -> tuple[SiteInfo, ...]:
    """Return the sites whose names match, in the order of the atlas.

    Args:
        atlas: The atlas.
        sites: Names with wildcards, a list of them or joined by commas; ``None`` takes all.

    Raises:
        InputError: The atlas has no site.
        UnknownNameError: A pattern matches nothing.
    """
    if not atlas.sites:
        raise InputError("the atlas has no site")
    if sites is None:
        return atlas.sites
    patterns = sites.split(",") if isinstance(sites, str) else list(sites)
    patterns = [pattern.strip() for pattern in patterns if pattern.strip()]
    names = [site.name for site in atlas.sites]
    for pattern in patterns or [str(sites)]:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise unknown("site", pattern, names)
    return tuple(
        site for site in atlas.sites if any(fnmatchcase(site.name, each) for each in patterns)
    )


def listens(unit: Unit) -> bool:
    """Whether a unit can be said to see something: it varies and, where it competes, it fires."""
    return unit.unnamed not in ("constant", "never above zero")
