"""WordNet 3.0 nouns as a graph, read from the database files (Debian: ``wordnet-base``).

The byte offsets in ``data.noun`` are the ImageNet ids: ``n02084071`` is offset 2084071.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from neuronym.errors import MissingError, UnavailableError, UnreadableError, unknown
from neuronym.files import fingerprint_file

__all__ = ["WORDNET", "Synset", "WordNet"]

WORDNET = Path("/usr/share/wordnet")
_COMMAND = "apt-get install wordnet-base"
_UP = ("@", "@i")


@dataclass(frozen=True)
class Synset:
    """One noun sense.

    Attributes:
        wnid: ImageNet id, e.g. ``"n02084071"``.
        lemmas: Its names in order, with spaces, e.g. ``("dog", "domestic dog")``.
        definition: Its gloss without the examples.
        parents: Ids of its hypernyms, in order.
    """

    wnid: str
    lemmas: tuple[str, ...]
    definition: str
    parents: tuple[str, ...]


class WordNet:
    """The noun graph.

    Args:
        folder: Where ``data.noun`` and ``index.noun`` are.

    Raises:
        UnavailableError: WordNet is not installed at the usual place.
        MissingError: The given folder has no ``data.noun`` or ``index.noun``.
        UnreadableError: A file is not WordNet's.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = WORDNET if folder is None else Path(folder)
        for name in ("data.noun", "index.noun"):
            if not (self.folder / name).is_file():
                if folder is None:
                    raise UnavailableError(
                        f"fitting needs WordNet's nouns in {self.folder}: {_COMMAND}, "
                        "or give their folder"
                    )
                raise MissingError(f"WordNet file {str(self.folder / name)!r} does not exist")
        self.synsets: dict[str, Synset] = {
            synset.wnid: synset for synset in _read_data(self.folder / "data.noun")
        }

    def __getitem__(self, wnid: str) -> Synset:
        try:
            return self.synsets[wnid]
        except KeyError:
            raise unknown("WordNet noun", wnid, list(self.synsets)[:1]) from None

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the two files by content."""
        return "-".join(
            fingerprint_file(self.folder / f"{kind}.noun") for kind in ("data", "index")
        )

    @cached_property
    def sense_rank(self) -> dict[tuple[str, str], int]:
        """Rank of a sense among those of a lemma, 0 for the most frequent: (lemma, id) → rank.

        The lemma is in lower case with spaces.
        """
        ranks: dict[tuple[str, str], int] = {}
        for line in _lines(self.folder / "index.noun"):
            fields = line.split()
            lemma, count = fields[0].replace("_", " "), int(fields[2])
            for rank, offset in enumerate(fields[-count:]):
                ranks[lemma, f"n{offset}"] = rank
        return ranks

    def ancestors(self, wnid: str, *, depth: int) -> dict[str, int]:
        """Return the ancestors up to ``depth`` steps above, with the fewest steps to each."""
        found: dict[str, int] = {}
        level = [wnid]
        for step in range(1, depth + 1):
            level = [
                parent
                for child in level
                for parent in self[child].parents
                if parent not in found and parent != wnid
            ]
            for parent in level:
                found.setdefault(parent, step)
        return found

    @cached_property
    def descendant_counts(self) -> dict[str, int]:
        """Number of distinct nouns below each noun, itself not counted."""
        below: dict[str, set[str]] = {wnid: set() for wnid in self.synsets}
        for wnid in self.synsets:
            for ancestor in self.ancestors(wnid, depth=64):
                below[ancestor].add(wnid)
        return {wnid: len(members) for wnid, members in below.items()}

    def information(self, wnid: str) -> float:
        """Return the intrinsic information content in [0, 1]: 1 - log(1 + descendants) / log N.

        Seco, Veale and Hayes (ECAI 2004), equation 1.
        """
        return 1 - math.log(1 + self.descendant_counts[wnid]) / math.log(len(self.synsets))


def _read_data(path: Path) -> Iterable[Synset]:
    for line in _lines(path):
        head, _, gloss = line.partition("|")
        fields = head.split()
        try:
            words = int(fields[3], 16)
            lemmas = tuple(fields[4 + 2 * index].replace("_", " ") for index in range(words))
            at = 4 + 2 * words
            pointers = [
                fields[at + 1 + 4 * index : at + 5 + 4 * index] for index in range(int(fields[at]))
            ]
            parents = tuple(
                f"n{target}" for kind, target, part, _ in pointers if kind in _UP and part == "n"
            )
        except (IndexError, ValueError) as error:
            raise UnreadableError(f"{path.name!r} is not a WordNet file: {line[:60]!r}") from error
        definition = gloss.split('; "')[0].strip()
        yield Synset(f"n{fields[0]}", lemmas, definition, parents)


def _lines(path: Path) -> Iterable[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.startswith("  "):
                yield line.rstrip("\n")
