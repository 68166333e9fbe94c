"""Read WordNet's own files (Debian: `apt-get install wordnet-base`), as far as tools need them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path("/usr/share/wordnet")
NOUN_FILES = {  # numbers of the lexicographer files of nouns
    3: "Tops",
    4: "act",
    5: "animal",
    6: "artifact",
    7: "attribute",
    8: "body",
    9: "cognition",
    10: "communication",
    11: "event",
    12: "feeling",
    13: "food",
    14: "group",
    15: "location",
    16: "motive",
    17: "object",
    18: "person",
    19: "phenomenon",
    20: "plant",
    21: "possession",
    22: "process",
    23: "quantity",
    24: "relation",
    25: "shape",
    26: "state",
    27: "substance",
    28: "time",
}
POS_DIGITS = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}


@dataclass(frozen=True)
class Synset:
    """One meaning.

    Attributes:
        offset: Its place in the file, 8 digits, which identifies it.
        file: Name of its lexicographer file, e.g. "animal".
        words: Its lemmas, underscores for spaces.
        hypernyms: Offsets of its kinds; of instances ("@i") where it is a proper name.
        instance: It is a proper name.
        usage: Offsets of the usage domains (";u"), e.g. that of ethnic slurs.
        gloss: Definition and examples.
    """

    offset: str
    file: str
    words: tuple[str, ...]
    hypernyms: tuple[str, ...]
    instance: bool
    usage: tuple[str, ...]
    gloss: str


class WordNet:
    """Nouns with their senses and kinds, and how often each sense was met in tagged text."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder
        self.synsets = {s.offset: s for s in map(_synset, self._lines("data.noun"))}
        self.senses: dict[str, list[str]] = {}
        for line in self._lines("index.noun"):
            fields = line.split()
            self.senses[fields[0]] = fields[-int(fields[2]) :]
        self.tags: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
        for line in (folder / "cntlist.rev").read_text("utf-8").splitlines():
            key, sense, count = line.split()
            lemma, _, rest = key.partition("%")
            self.tags[lemma, POS_DIGITS[rest[0]]][int(sense)] = int(count)

    def _lines(self, name: str) -> list[str]:
        text = (self.folder / name).read_text("utf-8")
        return [line for line in text.splitlines() if line and not line.startswith(" ")]

    def lemmas(self, pos: str) -> frozenset[str]:
        """Every lemma of a part of speech."""
        return frozenset(line.split()[0] for line in self._lines(f"index.{pos}"))

    def find(self, name: str) -> str:
        """Offset of ``"lemma#sense"``, e.g. ``"drug#1"``."""
        lemma, _, number = name.partition("#")
        return self.senses[lemma][int(number or 1) - 1]

    @cache  # noqa: B019 - one object lives as long as the tool
    def kinds(self, offset: str) -> frozenset[str]:
        """Offsets of a synset and of everything above it."""
        found = {offset}
        for above in self.synsets[offset].hypernyms:
            found |= self.kinds(above)
        return frozenset(found)


def _synset(line: str) -> Synset:
    head, _, gloss = line.partition("|")
    fields = head.split()
    count = int(fields[3], 16)
    words = tuple(fields[4 + 2 * i] for i in range(count))
    start = 4 + 2 * count
    pointers = [
        (fields[start + 1 + 4 * i], fields[start + 2 + 4 * i]) for i in range(int(fields[start]))
    ]
    return Synset(
        offset=fields[0],
        file=NOUN_FILES[int(fields[1])],
        words=words,
        hypernyms=tuple(target for symbol, target in pointers if symbol in ("@", "@i")),
        instance=any(symbol == "@i" for symbol, _ in pointers),
        usage=tuple(target for symbol, target in pointers if symbol == ";u"),
        gloss=gloss.strip(),
    )
