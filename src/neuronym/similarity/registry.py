"""The similarities by name, and which keywords each takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from neuronym.errors import InputError, nearest, unknown
from neuronym.similarity.auroc import auroc
from neuronym.similarity.cosine import cosine, cosine_cubed
from neuronym.similarity.jensen_shannon import jensen_shannon
from neuronym.similarity.rank_reorder import rank_reorder
from neuronym.similarity.wpmi import soft_wpmi, wpmi

__all__ = ["SIMILARITIES", "Similarity", "checked_keywords", "keywords_of", "resolve"]

Similarity = Callable[..., Tensor]
"""``(activations (images, units), concept_scores (images, concepts), **keywords) → (units,
concepts)``; higher fits better."""

SIMILARITIES: dict[str, Similarity] = {
    "cosine": cosine,
    "cosine_cubed": cosine_cubed,
    "rank_reorder": rank_reorder,
    "wpmi": wpmi,
    "soft_wpmi": soft_wpmi,
    "jensen_shannon": jensen_shannon,
    "auroc": auroc,
}
"""Name → ``(activations N×K, concept_scores N×M, **keywords) → K×M``; higher fits better."""


def resolve(name: str) -> Similarity:
    """Return a similarity by name; :class:`UnknownNameError` lists the known ones."""
    if name not in SIMILARITIES:
        raise unknown("similarity", name, list(SIMILARITIES))
    return SIMILARITIES[name]


def keywords_of(name: str) -> dict[str, Any]:
    """Return the keywords that a similarity takes, with their defaults."""
    parameters = inspect.signature(resolve(name)).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def checked_keywords(name: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``keywords`` as a dict if the similarity takes each of them.

    Raises:
        UnknownNameError: The similarity is not known.
        InputError: It does not take one of the keywords; the text lists those it takes.
    """
    taken = [key for key in keywords_of(name) if key != "labels"]
    for key in keywords:
        if key not in taken:
            allowed = f"it takes {', '.join(taken)}" if taken else "it takes none"
            close = nearest(key, taken, count=1)
            hint = f". Did you mean {close[0]!r}?" if close else ""
            raise InputError(f"similarity {name!r} takes no keyword {key!r}; {allowed}{hint}")
    return dict(keywords)
