"""The text side's arrays: whitening, label vectors, class head and attribute reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neuronym.files import fingerprint
from neuronym.fit_pocket.class_head import HeadTexts, fit_class_head
from neuronym.fit_pocket.phrases import phrases
from neuronym.fit_pocket.settings import FitSettings
from neuronym.fit_pocket.vocabulary import Vocabulary, Whitening, label_vectors
from neuronym.fit_pocket.word_reader import fit_word_reader
from neuronym.vision_text.cache import ArrayCache
from neuronym.vision_text.pocket.arrays import TextArrays
from neuronym.vision_text.pocket.minilm import MINILM_DIM, MiniLM

__all__ = ["Embedder", "fit_text_side"]

FloatArray = npt.NDArray[np.float32]
Progress = Callable[[str, float], None]

_CHUNK = 4096


class Embedder:
    """MiniLM, kept on disk by content, that says how far it is."""

    def __init__(self, told: Progress) -> None:
        self._minilm, self._cache, self._told = MiniLM(), ArrayCache(), told

    def __call__(self, step: str, texts: Sequence[str]) -> FloatArray:
        """Return ``(texts, 384)`` MiniLM vectors."""
        listed = list(texts)
        key = fingerprint("minilm texts", self._minilm.fingerprint, listed)
        return self._cache.get(key, (len(listed), MINILM_DIM), lambda: self._compute(step, listed))

    def _compute(self, step: str, texts: list[str]) -> FloatArray:
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        rows = np.empty((len(texts), MINILM_DIM), dtype=np.float32)
        for start in range(0, len(order), _CHUNK):
            picked = order[start : start + _CHUNK]
            rows[picked] = self._minilm.embed([texts[index] for index in picked])
            self._told(step, min(1.0, (start + len(picked)) / len(order)))
        return rows


def fit_text_side(
    vocabulary: Vocabulary,
    embed: Embedder,
    settings: FitSettings,
    facts: Mapping[str, Any],
    *,
    seed: int,
    told: Progress,
) -> TextArrays:
    """Fit every array of the text side; lemmas and synonyms that are held out take no part."""
    lemmas = vocabulary.lemmas
    vectors = embed("embed lemmas", lemmas)
    place = {lemma: index for index, lemma in enumerate(lemmas)}
    whitening = Whitening.of(vectors)
    labels = label_vectors(vocabulary, lambda texts: whitening(embed("embed label texts", texts)))
    texts = _head_texts(vocabulary, vectors, embed, settings, seed=seed)
    head = fit_class_head(texts, settings.head, seed=seed, told=lambda x: told("class head", x))
    said = phrases(lemmas, seed=seed, composed=settings.phrases)
    composed = [phrase.text for phrase in said if phrase.text not in place]
    known = dict(zip(composed, embed("embed phrases", composed), strict=True))
    said_vectors = np.stack(
        [known[each.text] if each.text in known else vectors[place[each.text]] for each in said]
    )
    told("attribute reader", 0.0)
    reader = fit_word_reader(said, said_vectors, settings.reader, seed=seed)
    return TextArrays(
        mean=whitening.mean,
        whitening=whitening.matrix,
        labels=labels,
        class_in=head.weight_in,
        class_in_bias=head.bias_in,
        class_out=head.weight_out,
        class_out_bias=head.bias_out,
        word_in=reader.weight_in,
        word_in_bias=reader.bias_in,
        word_out=reader.weight_out,
        word_out_bias=reader.bias_out,
        facts=facts,
    )


def _head_texts(
    vocabulary: Vocabulary,
    vectors: FloatArray,
    embed: Embedder,
    settings: FitSettings,
    *,
    seed: int,
) -> HeadTexts:
    """Lemmas by sense, and definitions at half weight."""
    place = {lemma: index for index, lemma in enumerate(vocabulary.lemmas)}
    row = {wnid: index for index, wnid in enumerate(vocabulary.nouns)}
    defined = {wnid: text for wnid in vocabulary.nouns if (text := vocabulary.definition(wnid))}
    count = min(settings.definitions, len(defined))
    drawn = np.random.default_rng(seed).choice(sorted(defined), count, replace=False).tolist()
    senses = vocabulary.senses
    return HeadTexts(
        vectors=np.concatenate(
            [
                vectors[[place[sense.lemma] for sense in senses]],
                embed("embed definitions", [defined[wnid] for wnid in drawn]),
            ]
        ),
        nouns=np.array([row[sense.wnid] for sense in senses] + [row[wnid] for wnid in drawn]),
        weights=np.array([sense.weight for sense in senses] + [0.5] * count, dtype=np.float32),
        affinity=vocabulary.affinity,
    )
