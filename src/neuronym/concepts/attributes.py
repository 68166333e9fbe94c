"""Words for visible attributes, and which attribute a word stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources

__all__ = ["attribute_words", "canonical"]

_GENERIC = frozenset(
    {"background", "backdrop", "color", "colored", "colour", "coloured", "coloration", "figure"}
    | {"figures", "form", "item", "items", "material", "object", "objects", "pattern"}
    | {"patterned", "patterns", "shape", "shaped", "shapes", "size", "sized", "surface"}
    | {"texture", "textured", "thing", "things", "tone"}
)
_ARTICLES = frozenset({"a", "an", "the", "some"})


@cache
def attribute_words() -> Mapping[str, tuple[str, ...]]:
    """Return the words of every attribute, e.g. ``"colour:red" -> ("red", "crimson", …)``.

    The first word is the attribute's own. Groups: colour, pattern, texture, shape, count, size,
    background, material. Every attribute of the rendered scenes is among them.
    """
    file = resources.files("neuronym.concepts") / "data" / "attributes.json"
    groups: dict[str, dict[str, list[str]]] = json.loads(file.read_text(encoding="utf-8"))
    return {
        f"{group}:{value}": (*((value,) if value not in synonyms else ()), *synonyms)
        for group, values in groups.items()
        for value, synonyms in values.items()
    }


@cache
def _index() -> Mapping[str, str]:
    return {
        word.casefold(): attribute
        for attribute, words in attribute_words().items()
        for word in words
    }


def canonical(word: str) -> str | None:
    """Return the attribute that a word or phrase stands for, e.g. ``"crimson" -> "colour:red"``.

    Case, articles, a plural, hyphens and a generic noun ("red colour", "striped pattern") make no
    difference. A phrase that says more than one thing ("red star") stands for no single one.

    Returns:
        ``"group:value"``, or ``None`` where the word stands for no known attribute.
    """
    index = _index()
    text = " ".join(word.casefold().replace("-", " ").replace("_", " ").split())
    parts = text.split()
    if parts and parts[0] in _ARTICLES and len(parts) > 1:
        parts = parts[1:]
    while parts:
        for form in _singulars(" ".join(parts)):
            if form in index:
                return index[form]
        if len(parts) == 1 or parts[-1] not in _GENERIC:
            return None
        parts = parts[:-1]
    return None


def _singulars(text: str) -> list[str]:
    forms = [text]
    if text.endswith("ies"):
        forms.append(text[:-3] + "y")
    if text.endswith("es"):
        forms.append(text[:-2])
    if text.endswith("s"):
        forms.append(text[:-1])
    return forms
