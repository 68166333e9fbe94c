"""Texts with known attributes, from which the attribute reader learns.

Words are the attributes' own names and the synonyms of :func:`neuronym.concepts.attribute_words`.
Synonyms whose CRC-32 is divisible by 5 never occur; the attributes' own names always do, because
nothing else could stand for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from neuronym.concepts import attribute_words
from neuronym.fit_pocket.vocabulary import held_out
from neuronym.probes.scenes import GROUPS

__all__ = ["Phrase", "fitted_words", "never_fitted", "phrases", "unfitted_words"]

ALONE: Mapping[str, tuple[str, ...]] = {
    "colour": (
        "{}",
        "{} color",
        "{} colour",
        "the color {}",
        "something {}",
        "a {} object",
        "{} things",
        "{} shape",
    ),
    "pattern": (
        "{}",
        "{} pattern",
        "a {} pattern",
        "something {}",
        "a {} object",
        "{} things",
        "{} shape",
    ),
    "texture": (
        "{}",
        "{} texture",
        "a {} texture",
        "{} surface",
        "a {} surface",
        "something {}",
        "a {} object",
    ),
    "shape": ("{}", "a {}", "{} shape", "the shape of a {}", "a picture of a {}", "a {} figure"),
    "count": ("{}", "{} objects", "{} things", "{} items", "{} of them", "{} shapes"),
    "size": ("{}", "{} size", "a {} object", "{} objects", "something {}", "{} shapes"),
    "background": (
        "{}",
        "{} background",
        "on {}",
        "in front of {}",
        "{} in the background",
        "a {} scene",
    ),
}
FRAMES = ("{}", "{}", "{}", "a {}", "a photo of a {}", "a picture of {}", "a drawing of {}")
THINGS = ("object", "thing", "shape", "figure", "item")
BEFORE_NOUN = ("count", "size", "colour", "pattern", "texture")


@dataclass(frozen=True)
class Phrase:
    """A text and what it says.

    Attributes:
        text: In lower case.
        values: Group → value, for the groups that it says something about.
        thing: Whether it names a thing beside attributes.
        weight: In the loss.
    """

    text: str
    values: Mapping[str, str] = field(default_factory=dict)
    thing: bool = False
    weight: float = 1.0


def fitted_words() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return group → value → words that fitting sees, for the groups of the rendered scenes."""
    return _words(kept=True)


def unfitted_words() -> dict[str, dict[str, tuple[str, ...]]]:
    """Return group → value → synonyms that fitting never sees."""
    return _words(kept=False)


def _words(*, kept: bool) -> dict[str, dict[str, tuple[str, ...]]]:
    known = attribute_words()
    owners: dict[str, set[str]] = {}
    for attribute, words in known.items():
        for word in words:
            owners.setdefault(word.lower(), set()).add(attribute)
    result: dict[str, dict[str, tuple[str, ...]]] = {}
    for group, values in GROUPS.items():
        for value in values:
            words = known.get(f"{group}:{value}", (value,))
            alone = [word for word in words if len(owners[word.lower()]) == 1 or word == value]
            chosen = [word for word in alone if (word == value or not held_out(word)) == kept]
            result.setdefault(group, {})[value] = tuple(chosen)
    return result


def phrases(nouns: Sequence[str], *, seed: int, composed: int = 5000) -> list[Phrase]:
    """Make the texts.

    Args:
        nouns: Names of things, none of them held out, in lower case.
        seed: Of the drawing.
        composed: How many texts with several attributes are drawn, half of them with a noun.
    """
    rng = np.random.default_rng(seed)
    words = fitted_words()
    taken = {word.lower() for values in words.values() for each in values.values() for word in each}
    clean = [noun for noun in nouns if not taken & {noun, *noun.split()}]
    texts = _alone(words)
    texts += _others()
    for index in range(composed):
        noun = _pick(clean, rng) if index % 2 else None
        texts.append(_composed(words, noun, rng))
    picked = rng.choice(len(clean), min(len(clean), composed // 4), replace=False)
    for place, index in enumerate(picked.tolist()):
        frame = FRAMES[place % len(FRAMES)]
        texts.append(Phrase(frame.format(clean[index]), thing=True))
    texts += [Phrase(noun, thing=True, weight=0.3) for noun in clean]
    return _without(never_fitted(), texts)


def never_fitted() -> frozenset[str]:
    """Return every attribute word, of any group, that fitting must not see, in lower case."""
    names = {value for values in GROUPS.values() for value in values}
    every = {word.lower() for words in attribute_words().values() for word in words}
    return frozenset(word for word in every - names if held_out(word))


def _without(banned: frozenset[str], texts: Sequence[Phrase]) -> list[Phrase]:
    """Leave out the texts in which a banned word stands as a whole word or phrase."""
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(banned))) + r")\b")
    return [text for text in texts if not pattern.search(text.text)]


def _alone(words: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Phrase]:
    """Every word by itself and in short frames."""
    return [
        Phrase(frame.format(word), {group: value}, weight=4.0 if frame == "{}" else 1.0)
        for group, values in words.items()
        for value, each in values.items()
        for word in each
        for frame in ALONE[group]
    ]


def _others() -> list[Phrase]:
    """Attributes that no rendered scene has, such as materials: they are things like any other."""
    known = {f"{group}:{value}" for group, values in GROUPS.items() for value in values}
    inside = {word.lower() for name in known for word in attribute_words().get(name, ())}
    return [
        Phrase(word, thing=True, weight=2.0)
        for attribute, words in attribute_words().items()
        if attribute not in known
        for word in words
        if not held_out(word) and word.lower() not in inside
    ]


def _composed(
    words: Mapping[str, Mapping[str, Sequence[str]]], noun: str | None, rng: np.random.Generator
) -> Phrase:
    """A phrase such as "three small red striped stars on grass" or "a red fire engine"."""
    groups = [group for group in BEFORE_NOUN if rng.random() < (0.3 if noun else 0.4)]
    if not groups:
        groups = [BEFORE_NOUN[int(rng.integers(len(BEFORE_NOUN)))]]
    said: dict[str, str] = {}
    parts = []
    for group in groups:
        value = _pick(list(words[group]), rng)
        said[group] = value
        parts.append(_word(words[group][value], rng))
    if noun:
        parts.append(noun)
    elif rng.random() < 0.75:
        value = _pick(list(words["shape"]), rng)
        said["shape"] = value
        parts.append(_word(words["shape"][value], rng))
    else:
        parts.append(_pick(THINGS, rng))
    if said.get("count", "one") != "one":
        parts[-1] += "es" if parts[-1].endswith(("s", "x", "ch")) else "s"
    if rng.random() < 0.3:
        value = _pick(list(words["background"]), rng)
        said["background"] = value
        parts += [_pick(("on", "in front of", "in"), rng), _word(words["background"][value], rng)]
    text = _pick(FRAMES, rng).format(" ".join(parts))
    return Phrase(text, said, thing=noun is not None)


def _word(words: Sequence[str], rng: np.random.Generator) -> str:
    """The first word, which is the attribute's own name, half of the time."""
    return words[0] if rng.random() < 0.5 else _pick(words, rng)


def _pick(values: Sequence[str], rng: np.random.Generator) -> str:
    return values[int(rng.integers(len(values)))]
