"""The best concepts of each unit without a matrix of images × concepts or units × concepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from neuronym.similarity.registry import Similarity, checked_keywords, keywords_of
from neuronym.similarity.wpmi import prepare_soft_wpmi, prepare_wpmi

__all__ = ["DotProducts", "Ranking", "rank_concepts"]

_PER_CONCEPT: dict[str, Callable[..., Scorer]] = {
    "cosine": prepare_cosine,
    "cosine_cubed": prepare_cosine_cubed,
    "rank_reorder": prepare_rank_reorder,
    "jensen_shannon": prepare_jensen_shannon,
    "auroc": prepare_auroc,
}
_SOFTMAX_OVER_CONCEPTS: dict[str, Callable[..., Scorer]] = {
    "wpmi": prepare_wpmi,
    "soft_wpmi": prepare_soft_wpmi,
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


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best concepts of each unit, best first; the lower index first among equals.

    Attributes:
        scores: ``(units, keep)``.
        concepts: ``(units, keep)`` int64 concept indices.
    """

    scores: Tensor
    concepts: Tensor


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
    images, dtype = len(matrices[0]), pairs[0][1].dtype
    widest = max(each.shape[1] for each in matrices)
    step = block_length((images + widest) * 12, scores.count, budget=BLOCK_BYTES)
    scorers = _scorers(similarity, matrices, scores, step, options)
    keep = min(keep, scores.count)
    best: list[Ranking | None] = [None] * len(matrices)
    for start in range(0, scores.count, step):
        block = scores.block(start, start + step).to(dtype)
        _check_finite(block)
        for site, scorer in enumerate(scorers):
            values = scorer(block)
            _override(values, matrices[site], labels, start)
            best[site] = _merged(
                best[site], _top_of(values, min(keep, values.shape[1])), start, keep
            )
    return [each for each in best if each is not None]


def _scorers(
    similarity: str | Similarity,
    matrices: list[Tensor],
    scores: DotProducts,
    step: int,
    options: dict[str, Any],
) -> list[Scorer]:
    if not isinstance(similarity, str):
        return [_own(similarity, each, options) for each in matrices]
    if similarity in _PER_CONCEPT:
        return [_PER_CONCEPT[similarity](each, **options) for each in matrices]
    scale = float(options.get("scale", keywords_of(similarity)["scale"]))
    total = matrices[0].new_full((len(matrices[0]),), float("-inf"))
    for start in range(0, scores.count, step):
        block = scores.block(start, start + step).to(total.dtype)
        total = torch.logaddexp(total, torch.logsumexp(block * scale, 1))
    return [_SOFTMAX_OVER_CONCEPTS[similarity](each, total, **options) for each in matrices]


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


def _top_of(values: Tensor, keep: int) -> Ranking:
    """The ``keep`` largest of each row, the lower index first among equals."""
    top, indices = torch.topk(values, keep, dim=1)
    unclear = (values >= top[:, -1:]).sum(1) > keep
    if bool(unclear.any()):
        rows = values[unclear].sort(dim=1, descending=True, stable=True)
        indices[unclear] = rows.indices[:, :keep]
    by_index = indices.sort(1).values
    found = values.gather(1, by_index)
    order = found.argsort(dim=1, descending=True, stable=True)
    return Ranking(found.gather(1, order), by_index.gather(1, order))


def _merged(before: Ranking | None, block: Ranking, start: int, keep: int) -> Ranking:
    if before is None:
        return Ranking(block.scores, block.concepts + start)
    scores = torch.cat([before.scores, block.scores], 1)
    concepts = torch.cat([before.concepts, block.concepts + start], 1)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :keep]
    return Ranking(scores.gather(1, order), concepts.gather(1, order))
