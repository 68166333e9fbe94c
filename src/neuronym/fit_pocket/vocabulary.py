"""Which words fitting may see, and the label vectors made of them."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from neuronym import concepts
from neuronym.fit_pocket.wordnet import WordNet

__all__ = ["HELD_OUT_SHARE", "Sense", "Vocabulary", "Whitening", "held_out", "label_vectors"]

FloatArray = npt.NDArray[np.float32]

HELD_OUT_SHARE = 5
DEPTH = 8
DECAY = 0.85
_OWN = 1.5
_LEMMAS_PER_SENSE = 3
_RIDGE = 0.02
_COMMON = 6


def held_out(text: str) -> bool:
    """Whether a lemma or a synonym stays out of everything fitted: its CRC-32 is divisible by 5.

    The CRC-32 is of the UTF-8 bytes in lower case, with spaces between words.
    """
    return zlib.crc32(text.replace("_", " ").lower().encode()) % HELD_OUT_SHARE == 0


@dataclass(frozen=True)
class Sense:
    """A lemma that fitting may see, as a name of one noun.

    Attributes:
        lemma: In lower case.
        wnid: The noun.
        weight: 1 for the first lemma in its most frequent sense, less for others; more for words
            in common use and for nouns with many nouns below.
    """

    lemma: str
    wnid: str
    weight: float


class Vocabulary:
    """Nouns with their ancestors, and the labels among them.

    Args:
        wordnet: The graph.
        labels: Ids of the labels in their order; by default ImageNet's 1000.
        wide: Ids of further nouns; by default those of ImageNet-22k.
    """

    def __init__(
        self,
        wordnet: WordNet,
        *,
        labels: Sequence[str] | None = None,
        wide: Sequence[str] | None = None,
    ) -> None:
        from timm.data import ImageNetInfo

        self.wordnet = wordnet
        if labels is None:
            labels = ImageNetInfo("imagenet-1k").label_names()
        if wide is None:
            wide = ImageNetInfo("imagenet-22k").label_names()
        self.labels: tuple[str, ...] = tuple(labels)
        nouns = {*wide, *self.labels}
        for wnid in tuple(nouns):
            nouns.update(wordnet.ancestors(wnid, depth=64))
        self.nouns: tuple[str, ...] = tuple(sorted(nouns))

    @cached_property
    def senses(self) -> tuple[Sense, ...]:
        """Up to three lemmas of every noun, those held out left out."""
        common = {word.lower() for word in concepts.load("common").words}
        found = []
        for wnid in self.nouns:
            breadth = 1 + math.log2(1 + self.wordnet.descendant_counts[wnid]) / 2
            for place, lemma in enumerate(self.wordnet[wnid].lemmas[:_LEMMAS_PER_SENSE]):
                lower = lemma.lower()
                if not held_out(lower):
                    rank = self.wordnet.sense_rank.get((lower, wnid), 0)
                    weight = (1.0 if place == 0 else 0.5) / (1 + rank) ** 2
                    weight *= breadth * (_COMMON if lower in common else 1)
                    found.append(Sense(lower, wnid, weight))
        return tuple(found)

    @cached_property
    def lemma_count(self) -> int:
        """Number of distinct lemmas, those held out included."""
        wordnet = self.wordnet
        return len(
            {
                lemma.lower()
                for wnid in self.nouns
                for lemma in wordnet[wnid].lemmas[:_LEMMAS_PER_SENSE]
            }
        )

    @cached_property
    def lemmas(self) -> tuple[str, ...]:
        """Every lemma that fitting may see, each once, sorted."""
        return tuple(sorted({sense.lemma for sense in self.senses}))

    def first_lemma(self, wnid: str) -> str | None:
        """Return the first lemma of a noun that is not held out, in lower case."""
        lemmas = (lemma.lower() for lemma in self.wordnet[wnid].lemmas[:_LEMMAS_PER_SENSE])
        return next((lemma for lemma in lemmas if not held_out(lemma)), None)

    def definition(self, wnid: str) -> str | None:
        """Return a noun's definition, or ``None`` if it says a held-out lemma of that noun."""
        synset = self.wordnet[wnid]
        said = f" {re.sub(r'[^a-z0-9]+', ' ', synset.definition.lower())} "
        banned = (lemma.lower() for lemma in synset.lemmas if held_out(lemma))
        return None if any(f" {lemma} " in said for lemma in banned) else synset.definition

    @cached_property
    def affinity(self) -> FloatArray:
        """``(nouns, 1000)``: Lin's affinity of every noun with every label, 0 to 1.

        Lin (ICML 1998): twice the information of the most informative common ancestor over the
        sum of both informations, with intrinsic information content.
        """
        above = [{wnid, *self.wordnet.ancestors(wnid, depth=64)} for wnid in self.labels]
        shared = sorted(set().union(*above))
        row = {wnid: index for index, wnid in enumerate(shared)}
        content = np.zeros((len(shared), len(self.labels)), dtype=np.float32)
        for column, ancestors in enumerate(above):
            for wnid in ancestors:
                content[row[wnid], column] = self.wordnet.information(wnid)
        own = np.array([self.wordnet.information(wnid) for wnid in self.labels], dtype=np.float32)
        result = np.empty((len(self.nouns), len(self.labels)), dtype=np.float32)
        for index, wnid in enumerate(self.nouns):
            ancestors = {wnid, *self.wordnet.ancestors(wnid, depth=64)}
            rows = [row[ancestor] for ancestor in ancestors if ancestor in row]
            information = self.wordnet.information(wnid)
            result[index] = 2 * content[rows].max(axis=0) / (information + own + 1e-6)
        return result


@dataclass(frozen=True)
class Whitening:
    """Centring and whitening of MiniLM vectors.

    Attributes:
        mean: (384,).
        matrix: (384, 384), applied to the right.
    """

    mean: FloatArray
    matrix: FloatArray

    @staticmethod
    def of(vectors: FloatArray) -> Whitening:
        """Fit on ``(texts, 384)``: eigenvalues + 0.02 of their mean, to the power -1/2."""
        mean = vectors.mean(axis=0, dtype=np.float64)
        values, basis = np.linalg.eigh(np.cov((vectors - mean).T.astype(np.float64)))
        scale = 1 / np.sqrt(values + _RIDGE * values.mean())
        matrix = (basis * scale) @ basis.T
        return Whitening(mean.astype(np.float32), matrix.astype(np.float32))

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Whiten ``(texts, 384)`` and bring rows to unit length."""
        return unit((vectors - self.mean) @ self.matrix)


def held_out_photo(name: str) -> bool:
    """Whether a photo stays out of fitting: the CRC-32 of its id is divisible by 5."""
    return zlib.crc32(name.encode()) % HELD_OUT_SHARE == 0


def unit(rows: npt.NDArray[np.floating]) -> FloatArray:
    """Return rows of unit length."""
    result: FloatArray = (rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)).astype(
        np.float32
    )
    return result


def label_vectors(
    vocabulary: Vocabulary,
    white: Callable[[Sequence[str]], FloatArray],
) -> FloatArray:
    """Return the ``(1000, 384)`` label vectors.

    Each is the unit sum of the label's name at 1.5 and of ``0.85^depth`` times the name of every
    ancestor up to depth 8, whitened. A name is the first lemma that is not held out. Where the
    label's first lemma is held out, its definition at 1.5 is added, unless it says that lemma.

    Args:
        vocabulary: The labels and their ancestors.
        white: Texts → whitened unit vectors.
    """
    weights: list[dict[str, float]] = []
    for wnid in vocabulary.labels:
        own: dict[str, float] = {}
        for ancestor, depth in vocabulary.wordnet.ancestors(wnid, depth=DEPTH).items():
            if (lemma := vocabulary.first_lemma(ancestor)) is not None:
                own[lemma] = own.get(lemma, 0.0) + DECAY**depth
        for text in label_texts(vocabulary, wnid):
            own[text] = own.get(text, 0.0) + _OWN
        weights.append(own)
    names = sorted(set().union(*weights))
    vectors = white(names)
    place = {name: index for index, name in enumerate(names)}
    matrix = np.zeros((len(weights), len(names)), dtype=np.float32)
    for row, own in enumerate(weights):
        for name, weight in own.items():
            matrix[row, place[name]] = weight
    return unit(matrix @ vectors)


def label_texts(vocabulary: Vocabulary, wnid: str) -> list[str]:
    """Return what stands for a label itself: its name, and its definition if need be."""
    texts = [name] if (name := vocabulary.first_lemma(wnid)) is not None else []
    definition = vocabulary.definition(wnid)
    if held_out(vocabulary.wordnet[wnid].lemmas[0]) and definition is not None:
        texts.append(definition)
    return texts
