"""A concept set: words, the templates that turn them into prompts, and their definitions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from neuronym.errors import InputError, unknown
from neuronym.files import fingerprint

__all__ = ["TEMPLATES", "ConceptSet", "article", "check_templates"]

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "word": ("{}",),
    "photo": ("a photo of {article} {}",),
    "views": (
        "a photo of {article} {}",
        "a close-up of {article} {}",
        "{article} {} seen from afar",
        "a picture that shows {article} {}",
        "a detail of {article} {}",
    ),
    "texture": ("{article} {} surface", "something {}", "{article} {} texture"),
}
"""Named lists of templates. Bare words suit the pocket model, ``photo`` and ``views`` CLIP."""

# Sounds decide, not letters; these are the beginnings where the two differ.
_A_BEFORE = ("eu", "ewe", "one", "once", "uni", "us", "ute", "uku", "ura")
_AN_BEFORE = ("heir", "honest", "honor", "honour", "hour", "unin", "unim", "usher", "x-ray")


@dataclass(frozen=True)
class ConceptSet:
    """Words or phrases that units can be named by.

    Attributes:
        name: The SPEC that loads it, e.g. ``"common"`` or ``"words.txt"``.
        words: The concepts, each once (without regard to case).
        templates: Each holds ``{}``, where the word goes, and may hold ``{article}``, which
            becomes "a" or "an".
        definitions: What a word means, for the words where that is known.
        duplicates: How many repeated words the source had; they were dropped.
    """

    name: str
    words: tuple[str, ...]
    templates: tuple[str, ...] = TEMPLATES["word"]
    definitions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    duplicates: int = 0

    def __post_init__(self) -> None:
        if not self.words:
            raise InputError(f"concepts {self.name!r} hold no word")
        check_templates(self.templates)

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def fingerprint(self) -> str:
        """Of the words and templates, which decide what is embedded."""
        return fingerprint("concepts", list(self.words), list(self.templates))

    def prompts(self, word: str) -> tuple[str, ...]:
        """Return the texts to embed for a word, one per template."""
        return tuple(
            template.replace("{article}", article(word)).replace("{}", word)
            for template in self.templates
        )

    def with_templates(self, templates: str | Sequence[str]) -> ConceptSet:
        """Return the same words with other templates: a name of :data:`TEMPLATES`, or a list."""
        return dataclasses.replace(self, templates=check_templates(templates))


def article(word: str) -> str:
    """Return "a" or "an", whichever the sound of ``word`` asks for."""
    lower = word.lower()
    if lower.startswith(_AN_BEFORE):
        return "an"
    if lower.startswith(_A_BEFORE):
        return "a"
    return "an" if lower[:1] in tuple("aeiou") else "a"


def check_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Return templates as a tuple.

    Args:
        templates: A name of :data:`TEMPLATES`, one template (a text with ``{}``), or several.

    Raises:
        UnknownNameError: The name is not known.
        InputError: There is no template, or one does not hold ``{}``.
    """
    if isinstance(templates, str):
        if "{}" in templates:
            return (templates,)
        if templates not in TEMPLATES:
            raise unknown("list of templates", templates, tuple(TEMPLATES))
        return TEMPLATES[templates]
    if not templates:
        raise InputError("concepts need at least one template")
    for template in templates:
        if "{}" not in template:
            raise InputError(f"template {template!r} must hold {{}}, where the word goes")
    return tuple(templates)
