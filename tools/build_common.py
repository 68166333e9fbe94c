"""Build the concept set `common`: frequent English words and phrases for what can be seen.

    python tools/build_common.py src/neuronym/concepts/data/common.txt

Needs WordNet 3.0 (`apt-get install wordnet-base`) and the package `symspellpy`, for its lists of
word and word-pair counts. `docs/concepts.md` describes the rules; `common_rules.json` holds them.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from wordnet import Synset, WordNet

SIZE = 20_000
MIN_SHARE = 0.6
PAIR_SCALE = 64
"""The pair list counts 64 times as high as the word list: it has "of the" 13 times as often as the
word list has "of". With this factor no pair of frequent words is more frequent than its words."""
OFFENSIVE = re.compile(
    r"obscene|offensive|derogat|disparag|slur\b|vulgar|sexual|prostitut|\bsex\b|intoxicat.*drug",
    re.IGNORECASE,
)
HEADER = """\
# {count} frequent English words and short phrases for what can be seen, most frequent first.
# Made by tools/build_common.py; docs/concepts.md says how they are chosen.
# Words and meanings: WordNet 3.0, Copyright 2006 by Princeton University. All rights reserved.
# Counts: the English lists of symspellpy (MIT). Licence notices: THIRD_PARTY_NOTICES.md.
"""


class Chooser:
    """Decides what can be seen, and how frequent it is."""

    def __init__(self, net: WordNet, rules: Mapping[str, Any]) -> None:
        self.net = net
        self.files = frozenset(rules["files"])
        self.roots = self._offsets(rules["roots"])
        self.excluded = self._offsets(rules["excluded_roots"])
        self.wanted = frozenset().union(*(split(lines) for lines in rules["words"].values()))
        self.modifiers = split(rules["modifiers"])
        self.phrase_modifiers = self.modifiers | split(rules["phrase_modifiers"])
        self.blocked = frozenset(codecs.decode(w, "rot13") for w in split(rules["blocked_rot13"]))
        self.stop = split(rules["stop"]) | self.blocked
        self.phrase_stop = split(rules["phrase_stop"])
        self.described_stop = split(rules["described_stop"])
        self.words = counts("frequency_dictionary_en_82_765.txt")
        pairs = counts("frequency_bigramdictionary_en_243_342.txt")
        self.pairs = {pair: count / PAIR_SCALE for pair, count in pairs.items()}

    def _offsets(self, names: list[str]) -> frozenset[str]:
        return frozenset(self.net.find(name) for name in names)

    def seen(self, synset: Synset) -> bool:
        """Whether a meaning is one of things that can be seen."""
        if synset.instance or OFFENSIVE.search(synset.gloss):
            return False
        kinds = self.net.kinds(synset.offset)
        if kinds & self.excluded:
            return False
        return synset.file in self.files or bool(kinds & self.roots)

    def visible(self, lemma: str) -> bool:
        """Whether a lemma's main use is a thing that can be seen."""
        parts = set(re.split("[_-]", lemma))
        if lemma in self.stop or self.blocked & parts:
            return False
        if "_" in lemma and (self.phrase_stop & parts):
            return False
        if lemma in self.wanted:
            return True
        senses = [self.net.synsets[offset] for offset in self.net.senses[lemma]]
        if any("slur" in sense.gloss or "offensive" in sense.gloss for sense in senses):
            return False
        tags = self.net.tags.get((lemma, "noun"), {})
        weights = [tags.get(i, 0) + 1 / i**2 for i in range(1, len(senses) + 1)]
        good = sum(w for w, sense in zip(weights, senses, strict=True) if self.seen(sense))
        if not self.seen(senses[0]) or good / sum(weights) < MIN_SHARE:
            return False
        others = (self.net.tags.get((lemma, pos), {}) for pos in ("verb", "adj", "adv"))
        rivals = sum(sum(tag.values()) for tag in others)
        return 2 * (sum(tags.values()) + 1) > rivals

    def spelled(self, lemma: str) -> str | None:
        """The lemma as WordNet writes it; ``None`` for proper names of one word."""
        first = self.net.synsets[self.net.senses[lemma][0]]
        written = next((word for word in first.words if word.lower() == lemma), lemma)
        if "_" not in written and written != written.lower() and first.file != "animal":
            return None
        return written.replace("_", " ")


def split(lines: list[str]) -> frozenset[str]:
    """The words of some lines."""
    return frozenset(" ".join(lines).split())


def counts(name: str) -> dict[str, int]:
    """Read a list of counts of symspellpy."""
    text = (resources.files("symspellpy") / name).read_text("utf-8-sig")
    rows = (line.rsplit(" ", 1) for line in text.splitlines())
    return {words: int(count) for words, count in rows}


def single_words(chooser: Chooser) -> dict[str, float]:
    """Words, by their count."""
    found: dict[str, float] = {}
    for lemma in chooser.net.senses:
        if len(lemma) < 3 and lemma != "ox":
            continue
        if lemma in chooser.words and chooser.visible(lemma):
            written = chooser.spelled(lemma)
            if written is not None:
                found[written] = chooser.words[lemma]
    return found


def compounds(chooser: Chooser) -> tuple[dict[str, float], dict[str, float]]:
    """Phrases of two or three words that WordNet knows: counted ones, and the others.

    The others come with the count of their rarest word, which bounds their own; a meaning's first
    name comes before its other names.
    """
    counted: dict[str, float] = {}
    bounded: dict[str, float] = {}
    for lemma, senses in chooser.net.senses.items():
        parts = lemma.split("_")
        if not 2 <= len(parts) <= 3 or not all(part in chooser.words for part in parts):
            continue
        if any(len(part) < 2 for part in parts) or not chooser.visible(lemma):
            continue
        written = chooser.spelled(lemma)
        pairs = [chooser.pairs.get(" ".join(pair)) for pair in itertools.pairwise(parts)]
        if written is None:
            continue
        if all(pairs):
            counted[written] = min(pair for pair in pairs if pair)
        else:
            first = chooser.net.synsets[senses[0]].words[0].lower() == lemma
            rarest = min(chooser.words[part] for part in parts)
            bounded[written] = rarest if first else rarest / 1e9
    return counted, bounded


def described(chooser: Chooser, nouns: Mapping[str, float]) -> dict[str, float]:
    """Phrases of a visible modifier or noun and a visible noun, by the count of the pair."""
    found: dict[str, float] = {}
    stop = chooser.phrase_stop | chooser.described_stop
    for pair, count in chooser.pairs.items():
        first, second = pair.split()
        if first == second or {first, second} & stop or min(len(first), len(second)) < 3:
            continue
        if first not in chooser.phrase_modifiers and first not in nouns:
            continue
        if f"{first}_{second}" in chooser.stop:
            continue
        if second in nouns and second not in chooser.phrase_modifiers:
            found[pair] = count
    return found


def build(chooser: Chooser) -> list[str]:
    """Return the concepts, most frequent first."""
    words = single_words(chooser)
    for modifier in sorted(chooser.modifiers - chooser.stop):
        words.setdefault(modifier, chooser.words.get(modifier, 0))
    counted, bounded = compounds(chooser)
    pairs = described(chooser, words)
    ranked = {**pairs, **counted, **words}
    order = _ordered(ranked)
    known = {word.casefold() for word in order}
    rest = [word for word in _ordered(bounded) if word.casefold() not in known]
    print(
        f"{len(words)} words, {len(counted)} counted compounds, {len(pairs)} described things, "
        f"{SIZE - len(order)} of {len(rest)} other compounds"
    )
    return [*order, *rest][:SIZE]


def _ordered(ranked: Mapping[str, float]) -> list[str]:
    order = sorted(ranked, key=lambda word: (-ranked[word], word))
    first: dict[str, str] = {}
    for word in order:
        first.setdefault(word.casefold(), word)
    return list(first.values())


def main() -> None:
    rules = json.loads((Path(__file__).parent / "common_rules.json").read_text("utf-8"))
    concepts = build(Chooser(WordNet(), rules))
    text = HEADER.format(count=f"{len(concepts):,}") + "\n".join(concepts) + "\n"
    Path(sys.argv[1]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
