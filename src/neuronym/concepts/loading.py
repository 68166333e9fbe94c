"""Concept sets by SPEC."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from neuronym.concepts.attributes import attribute_words
from neuronym.concepts.base import TEMPLATES, ConceptSet, check_templates
from neuronym.concepts.imagenet import imagenet
from neuronym.concepts.parse import distinct, parse, read
from neuronym.errors import InputError, MissingError, unknown

__all__ = ["BUILT_IN", "from_words", "load"]


def _common(name: str) -> ConceptSet:
    file = resources.files("neuronym.concepts") / "data" / "common.txt"
    parsed = parse(file.read_bytes(), name=name)
    return ConceptSet(name, parsed.words, duplicates=parsed.duplicates)


def _attributes(name: str) -> ConceptSet:
    words = [word for words in attribute_words().values() for word in words]
    parsed = distinct(words)
    return ConceptSet(name, parsed.words, duplicates=parsed.duplicates)


BUILT_IN: Mapping[str, Callable[[str], ConceptSet]] = {
    "common": _common,
    "imagenet-1k": imagenet,
    "imagenet-21k": imagenet,
    "attributes": _attributes,
}


def load(
    spec: str | os.PathLike[str], *, templates: str | Sequence[str] = TEMPLATES["word"]
) -> ConceptSet:
    """Load a concept set.

    Args:
        spec: ``common`` (20,000 English words and short phrases for what can be seen),
            ``imagenet-1k`` or ``imagenet-21k`` (class names with definitions), ``attributes``
            (colours, patterns, textures, shapes, counts, sizes, materials, backgrounds), or a
            UTF-8 text file with one concept per line. A file that is named like a built-in set
            is given as ``./common``.
        templates: A name of :data:`~neuronym.concepts.base.TEMPLATES`, one template, or several.

    Raises:
        UnknownNameError: There is no such set and no such file.
        MissingError: The text file does not exist.
        UnreadableError: The file is not UTF-8; the text says in which line.
        InputError: The file holds no concept, or a template lacks ``{}``.
    """
    text = os.fspath(spec)
    checked = check_templates(templates)
    if text in BUILT_IN:
        return BUILT_IN[text](text).with_templates(checked)
    path = Path(text)
    if not path.exists():
        if path.suffix or len(path.parts) > 1:
            raise MissingError(
                f"concept file {text!r} does not exist; built-in sets: {', '.join(BUILT_IN)}"
            )
        raise unknown("concept set", text, (*BUILT_IN, "a text file with one concept per line"))
    parsed = read(path)
    return ConceptSet(text, parsed.words, checked, duplicates=parsed.duplicates)


def from_words(
    words: Sequence[str],
    *,
    name: str = "words",
    templates: str | Sequence[str] = TEMPLATES["word"],
) -> ConceptSet:
    """Make a concept set of words, by the same rules as a text file's lines.

    Raises:
        InputError: There is no word, or ``words`` is one text.
    """
    if isinstance(words, str):
        raise InputError(f"words must be a list of words, not the text {words!r}")
    parsed = distinct(list(words))
    return ConceptSet(name, parsed.words, check_templates(templates), {}, parsed.duplicates)
