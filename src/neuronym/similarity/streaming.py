"""The best concepts of each unit without a matrix of images × concepts or units × concepts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuronym.errors import InputError
from neuronym.similarity.auroc import auroc, prepare_auroc
from neuronym.similarity.common import BLOCK_BYTES, Scorer, block_length, checked
from neuronym.similarity.cosine import prepare_cosine, prepare_cosine_cubed
from neuronym.similarity.jensen_shannon import prepare_jensen_shannon
from neuronym.similarity.rank_reorder import prepare_rank_reorder
from neuronym.similarity.ranking import Ranking, best_of, merged
from neuronym.similarity.registry import Similarity, checked_keywords
from neuronym.similarity.wpmi import TERMS, blocks_from_top, top_of

__all__ = ["DotProducts", "rank_concepts"]

_PER_CONCEPT: dict[str, Callable[..., Scorer]] = {
    "cosine": prepare_cosine,
    "cosine_cubed": prepare_cosine_cubed,
    "rank_reorder": prepare_rank_reorder,
    "jensen_shannon": prepare_jensen_shannon,
    "auroc": prepare_auroc,
}


@dataclass(frozen=True, eq=False)
class DotProducts:
    """Concept scores as dot products of embeddings, computed block by block.

    Attributes:
        images: ``(images, dim)`` embeddings.
        texts: ``(concepts, dim)`` embeddings.
    """

    images: Tensor
    texts: Tensor

    def __post_init__(self) -> None:
        if self.images.dim() != 2 or self.texts.dim() != 2:
            raise InputError("embeddings must be (images, dim) and (concepts, dim)")
        if self.images.shape[1] != self.texts.shape[1]:
            raise InputError(
                f"image embeddings have length {self.images.shape[1]} and text embeddings "
                f"{self.texts.shape[1]}; both must come from one model"
            )

    def centred(self) -> DotProducts:
        """Return the scores minus each concept's mean over the images (exactly: the mean of a
        dot product is the dot product with the mean)."""
        return DotProducts(self.images - self.images.mean(0, keepdim=True), self.texts)

    @property
    def count(self) -> int:
        """Number of concepts."""
        return len(self.texts)

    def block(self, start: int, stop: int) -> Tensor:
        """Return the scores of concepts ``start`` to ``stop``: ``(images, concepts)``."""
        return self.images @ self.texts[start:stop].T


def rank_concepts(
    similarity: str | Similarity,
    activations: Sequence[Tensor],
    scores: DotProducts,
    *,
    keep: int = 1,
    keywords: Mapping[str, Any] | None = None,
    labels: Mapping[int, Tensor] | None = None,
) -> list[Ranking]:
    """Rank the concepts of each unit, in blocks of concepts that all sites share.

    Gives what ``SIMILARITIES[name]`` followed by a sort gives, for any number of concepts, in
    memory that does not grow with them.

    Args:
        similarity: A name of :data:`SIMILARITIES`, or a function of one's own with the same
            signature; it is called with some concepts at a time and must treat each by itself.
        activations: For each site ``(images, units)``; a prior over units is over one site's.
        scores: The concept scores.
        keep: How many concepts per unit to return (all, where there are fewer).
        keywords: Of the similarity.
        labels: For ``"auroc"``: concept index → ``(images,)`` bool, where the data set says
            which images have the concept.

    Raises:
        InputError: A keyword is not taken, or a matrix does not fit or holds NaN.
        UnknownNameError: The similarity is not known.
    """
    options = dict(keywords or {})
    if "labels" in options:
        raise InputError("give labels by concept index, not as a keyword of the similarity")
    if isinstance(similarity, str):
        options = checked_keywords(similarity, options)
    if labels and similarity != "auroc":
        raise InputError(f"similarity {similarity!r} takes no labels; only 'auroc' does")
    pairs = [checked(each, scores.block(0, 1)) for each in activations]
    matrices = [each for each, _ in pairs]
    if not matrices:
        return []
    if isinstance(similarity, str) and similarity in TERMS:
        blocks = _from_top(similarity, matrices, scores, options)
    else:
        blocks = _by_scorers(_scorers(similarity, matrices, options), matrices, scores, labels)
    best: list[Ranking | None] = [None] * len(matrices)
    for start, found in blocks:
        for site, values in enumerate(found):
            best[site] = merged(best[site], best_of(values, keep), start, keep)
    return [each for each in best if each is not None]


def _scorers(
    similarity: str | Similarity, matrices: list[Tensor], options: dict[str, Any]
) -> list[Scorer]:
    if not isinstance(similarity, str):
        return [_own(similarity, each, options) for each in matrices]
    return [_PER_CONCEPT[similarity](each, **options) for each in matrices]


def _by_scorers(
    scorers: list[Scorer],
    matrices: list[Tensor],
    scores: DotProducts,
    labels: Mapping[int, Tensor] | None,
) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield the similarities of each site's units, block by block."""
    images, dtype = len(matrices[0]), matrices[0].dtype
    widest = max(each.shape[1] for each in matrices)
    step = block_length((images + widest) * 12, scores.count, budget=BLOCK_BYTES)
    for start in range(0, scores.count, step):
        block = scores.block(start, start + step).to(dtype)
        _check_finite(block)
        found = [scorer(block) for scorer in scorers]
        for values, activations in zip(found, matrices, strict=True):
            _override(values, activations, labels, start)
        yield start, found


def _from_top(
    name: str, matrices: list[Tensor], scores: DotProducts, options: dict[str, Any]
) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield the same by a similarity that reads only the top images of each unit."""
    others = {key: value for key, value in options.items() if key != "top_k"}
    tops = [top_of(name, each, options.get("top_k")) for each in matrices]
    terms = [TERMS[name](indices.shape[1], **others) for indices, _ in tops]
    used = [
        torch.arange(indices.shape[1], device=indices.device) < counts[:, None]
        for indices, counts in tops
    ]
    needed = torch.cat(
        [indices[each] for (indices, _), each in zip(tops, used, strict=True)]
    ).unique()
    places = [
        (
            torch.searchsorted(needed, indices.masked_fill(~each, 0)).cpu().numpy(),
            counts.cpu().numpy(),
        )
        for (indices, counts), each in zip(tops, used, strict=True)
    ]
    source = _DotScores(scores, needed, terms[0].scale)
    return blocks_from_top(source, places, terms, matrices[0])


class _DotScores:
    """Scaled scores of the needed images from embeddings in memory."""

    held = None

    def __init__(self, scores: DotProducts, needed: Tensor, scale: float) -> None:
        self._scores, self._needed, self._scale = scores, needed, scale
        self.images, self.concepts = len(needed), scores.count
        self.row_bytes = scores.images.element_size() * scores.images.shape[1]

    def load(self, first: int, last: int) -> Tensor:
        return self._scores.images[self._needed[first:last]] * self._scale

    def fill(self, rows: Tensor, start: int, out: Tensor) -> None:
        texts = self._scores.texts[start : start + out.shape[1]]
        if rows.dtype == out.dtype:
            torch.mm(rows, texts.T, out=out)
        else:
            out.copy_(rows @ texts.T)


def _own(similarity: Similarity, activations: Tensor, options: dict[str, Any]) -> Scorer:
    def score(concept_scores: Tensor) -> Tensor:
        found = similarity(activations, concept_scores, **options)
        expected = (activations.shape[1], concept_scores.shape[1])
        if not isinstance(found, Tensor) or found.shape != expected:
            kind = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"a similarity must give (units, concepts) {expected}, not {kind}")
        if not bool(torch.isfinite(found).all()):
            raise InputError("a similarity must give finite numbers")
        return found.to(concept_scores.dtype)

    return score


def _check_finite(block: Tensor) -> None:
    if not bool(torch.isfinite(block).all()):
        raise InputError("concept scores hold NaN or infinity; an embedding is not finite")


def _override(
    values: Tensor, activations: Tensor, labels: Mapping[int, Tensor] | None, start: int
) -> None:
    inside = [c for c in labels or () if start <= c < start + values.shape[1]]
    if inside and labels is not None:
        present = torch.stack([labels[c].bool() for c in inside], 1).to(values.device)
        columns = torch.tensor(inside, device=values.device) - start
        values[:, columns] = auroc(activations, present.to(values.dtype), labels=present)
