"""What every search begins with: the atlas's evidence, and the sites that are searched."""

from __future__ import annotations

from collections.abc import Sequence

from neuronym.errors import InputError
from neuronym.results import Atlas, Evidence, SiteInfo, Unit
from neuronym.results.selection import ALL, matching_sites

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
        sites: See :func:`neuronym.results.selection.matching_sites`; ``None`` takes all.

    Raises:
        InputError: The atlas has no site, or a name or pattern matches none.
    """
    if sites is None and atlas.sites:
        return atlas.sites
    return matching_sites(atlas, ALL if sites is None else sites)


def listens(unit: Unit) -> bool:
    """Whether a unit can be said to see something: it varies and, where it competes, it fires."""
    return unit.unnamed not in ("constant", "never above zero")
