"""Units by their names: the same word, a pattern, or a name that means nearly the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError, UnavailableError
from neuronym.results import Atlas
from neuronym.search.chosen import chosen_sites
from neuronym.vision_text import VisionTextModel

__all__ = ["LEAST", "NameHit", "match_name", "text_encoder"]

TextEncoder = Callable[[Sequence[str]], npt.NDArray[np.float32]]

LEAST = 0.45
"""Smallest cosine of MiniLM sentence embeddings at which two names count as alike: "sea" and "water
surface" have 0.47, 1 % of random pairs of common nouns above 0.40 and 0.1 % above 0.56."""


@dataclass(frozen=True)
class NameHit:
    """A unit whose name answers a query.

    Attributes:
        site, unit, name: The unit.
        kind: ``"same"``, ``"pattern"`` or ``"alike"``.
        similarity: Cosine of the embeddings of query and name; 1 for the same name and a pattern.
    """

    site: str
    unit: int
    name: str
    kind: str
    similarity: float

    @property
    def key(self) -> str:
        """``"site/unit"``."""
        return f"{self.site}/{self.unit}"


def text_encoder(vision_text: VisionTextModel | None = None) -> TextEncoder:
    """Return what tells how alike two names are: MiniLM, else a vision-text model's text side.

    Raises:
        UnavailableError: MiniLM is not installed, and there is no other model.
    """
    from neuronym.vision_text.pocket.minilm import MiniLM

    try:
        return MiniLM().embed
    except UnavailableError:
        if vision_text is None:
            raise
        return vision_text.embed_texts


def match_name(
    atlas: Atlas,
    text: str,
    *,
    sites: str | Sequence[str] | None = None,
    encoder: TextEncoder | None = None,
    least: float = LEAST,
) -> tuple[NameHit, ...]:
    """Find the units whose name is a text, fits a pattern, or means nearly the same.

    What a unit is called says less than what it fires on: see
    :func:`neuronym.search.match_text`.

    Args:
        atlas: The atlas.
        text: A word or phrase; with ``*``, ``?`` or ``[…]`` it is a pattern, without regard to
            case.
        sites: Names of sites with wildcards; all by default.
        encoder: ``texts → (texts, dim)``; ``None`` compares letters only.
        least: Smallest cosine of alike names, above -1 and at most 1.

    Returns:
        The most similar first, in the order of the atlas among equals.

    Raises:
        InputError: The text is empty, a pattern matches no site, or ``least`` is out of range.
    """
    if not text.strip():
        raise InputError(f"a text to search for must be a word or phrase, not {text!r}")
    if not -1 < least <= 1:
        raise InputError(f"least must be above -1 and at most 1, not {least!r}")
    wanted = " ".join(text.split()).casefold()
    pattern = any(sign in wanted for sign in "*?[")
    wanted_sites = {site.name for site in chosen_sites(atlas, sites)}
    units = [unit for unit in atlas if unit.site in wanted_sites and unit.name]
    names = list(dict.fromkeys(str(unit.name) for unit in units))
    alike = dict.fromkeys(names, 0.0)
    if encoder is not None and names and not pattern:
        rows = np.asarray(encoder([text, *names]), np.float64)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
        alike = dict(zip(names, (rows[1:] @ rows[0]).tolist(), strict=True))
    hits = []
    for unit in units:
        name = str(unit.name)
        if fnmatchcase(name.casefold(), wanted) if pattern else name.casefold() == wanted:
            kind, similarity = ("pattern" if pattern else "same"), 1.0
        elif alike[name] >= least:
            kind, similarity = "alike", alike[name]
        else:
            continue
        hits.append(NameHit(unit.site, unit.unit, name, kind, float(similarity)))
    return tuple(sorted(hits, key=lambda hit: -hit.similarity))
