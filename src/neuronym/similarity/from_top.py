"""Names by WPMI and SoftWPMI from top images alone, as a recorded run keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neuronym.errors import InputError
from neuronym.similarity.ranking import Ranking, best_of, merged
from neuronym.similarity.registry import checked_keywords
from neuronym.similarity.wpmi import TERMS, blocks_from_top

__all__ = ["EmbeddingTable", "HeldEmbeddings", "TopImages", "rank_from_top"]

Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TopImages:
    """The images that activate each unit of a site most.

    Attributes:
        keys: ``(units, top_k)`` int64, best first.
        counts: ``(units,)`` int64 how many of them count, as
            :func:`neuronym.similarity.top_images` finds them for this ``top_k``.

    Raises:
        InputError: The arrays do not fit.
    """

    keys: Longs
    counts: Longs

    def __post_init__(self) -> None:
        for name, value, axes in (("keys", self.keys, 2), ("counts", self.counts, 1)):
            if value.ndim != axes or value.dtype != np.int64:
                expected = "(units, top_k)" if axes == 2 else "(units,)"
                raise InputError(
                    f"{name} of top images must be int64 of shape {expected}, not {value.dtype} "
                    f"of shape {value.shape}"
                )
        units, top_k = self.keys.shape
        if self.counts.shape != (units,) or not top_k:
            raise InputError(
                f"top images have keys of shape {self.keys.shape} and counts of shape "
                f"{self.counts.shape}; give (units, top_k) and (units,), top_k at least 1"
            )
        if units and (self.counts.min() < 0 or self.counts.max() > top_k):
            raise InputError(f"counts of top images must be from 0 to {top_k}")

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """``(units, top_k)``: which keys count."""
        return np.asarray(np.arange(self.keys.shape[1]) < self.counts[:, None])


class EmbeddingTable(Protocol):
    """Embeddings of images, read when they are needed.

    Attributes:
        dim: Their length.
    """

    @property
    def dim(self) -> int: ...

    def rows(self, keys: Longs) -> Floats:
        """Return ``(len(keys), dim)`` float32; the keys ascend."""


class HeldEmbeddings:
    """An :class:`EmbeddingTable` in memory."""

    def __init__(self, vectors: Floats, keys: Longs | None = None) -> None:
        """Hold ``(images, dim)`` vectors; ``keys`` are ``(images,)``, by default 0, 1, 2 …

        Raises:
            InputError: The keys do not fit, or one is there twice.
        """
        if vectors.ndim != 2:
            raise InputError(f"embeddings must be (images, dim), not of shape {vectors.shape}")
        keys = np.arange(len(vectors), dtype=np.int64) if keys is None else keys
        if keys.shape != vectors.shape[:1] or len(np.unique(keys)) != len(keys):
            raise InputError(f"keys must be different, one for each of {len(vectors)} embeddings")
        self._order = keys.argsort()
        self._keys, self._vectors = keys[self._order], vectors

    @property
    def dim(self) -> int:
        """Length of the embeddings."""
        return int(self._vectors.shape[1])

    def rows(self, keys: Longs) -> Floats:
        """Return the embeddings of some images.

        Raises:
            InputError: A key is not there.
        """
        places = np.searchsorted(self._keys, keys)
        known = np.zeros(len(keys), bool)
        inside = places < len(self._keys)
        known[inside] = self._keys[places[inside]] == keys[inside]
        if not known.all():
            missing = keys[~known]
            raise InputError(f"{len(missing)} images have no embedding, the first is {missing[0]}")
        return self._vectors[self._order[places]]


def rank_from_top(
    similarity: str,
    tops: Sequence[TopImages],
    embeddings: EmbeddingTable,
    texts: Tensor,
    *,
    keep: int = 1,
    keywords: Mapping[str, Any] | None = None,
    mean: npt.NDArray[np.floating[Any]] | None = None,
) -> list[Ranking]:
    """Rank the concepts of each unit by WPMI or SoftWPMI from its top images.

    Gives what :func:`neuronym.similarity.rank_concepts` gives for the activations that the top
    images are of. Only the embeddings of these images are read, in chunks; no matrix of images ×
    concepts or units × concepts is made, and beside the arguments about 256 MiB are held.

    Args:
        similarity: ``"wpmi"`` or ``"soft_wpmi"``.
        tops: For each site; a prior over units is over one site's.
        embeddings: Of the images.
        texts: ``(concepts, dim)`` embeddings of the concepts.
        keep: How many concepts per unit to return (all, where there are fewer).
        keywords: Of the similarity. ``top_k`` must be that of ``tops``.
        mean: ``(dim,)`` mean of the embeddings; given, scores are centred over the images as
            :meth:`neuronym.similarity.DotProducts.centred` does.

    Raises:
        InputError: The similarity reads more than top images, a keyword is not taken, the
            embeddings do not fit or are not finite.
        UnknownNameError: The similarity is not known.
    """
    options = checked_keywords(similarity, keywords or {})
    if similarity not in TERMS:
        raise InputError(
            f"similarity {similarity!r} needs the activations of all images; from top images "
            f"there are {' and '.join(TERMS)}"
        )
    given = options.pop("top_k", None)
    for top in tops:
        if given is not None and given != top.keys.shape[1]:
            raise InputError(
                f"top_k is {given} and the top images were counted for {top.keys.shape[1]} per "
                "unit; count them for this top_k"
            )
    if not tops:
        return []
    terms = [TERMS[similarity](top.keys.shape[1], **options) for top in tops]
    needed = _union([np.unique(top.keys[top.used]) for top in tops])
    source = _TableScores(embeddings, needed, texts, terms[0].scale, mean=mean)
    places = [
        (np.searchsorted(needed, np.where(top.used, top.keys, _first(needed))), top.counts)
        for top in tops
    ]
    best: list[Ranking | None] = [None] * len(tops)
    for start, found in blocks_from_top(source, places, terms, torch.empty(0)):
        for site, values in enumerate(found):
            best[site] = merged(best[site], best_of(values, keep), start, keep)
    return [each for each in best if each is not None]


def _union(parts: list[Longs]) -> Longs:
    return np.unique(np.concatenate(parts))


def _first(needed: Longs) -> int:
    return int(needed[0]) if len(needed) else 0


class _TableScores:
    """Scaled scores of the needed images, from embeddings that are read chunk by chunk."""

    held = None

    def __init__(
        self,
        embeddings: EmbeddingTable,
        needed: Longs,
        texts: Tensor,
        scale: float,
        *,
        mean: npt.NDArray[np.floating[Any]] | None,
    ) -> None:
        dim = embeddings.dim
        if texts.dim() != 2 or texts.shape[1] != dim or not len(texts):
            raise InputError(
                f"texts must be (concepts, {dim}) as the images' embeddings, not of shape "
                f"{tuple(texts.shape)}"
            )
        if mean is not None and mean.shape != (dim,):
            raise InputError(f"mean must be ({dim},) as the embeddings, not of shape {mean.shape}")
        self._embeddings, self._needed, self._scale = embeddings, needed, scale
        self._texts = texts.detach().cpu().float()
        self._mean = None if mean is None else torch.from_numpy(np.asarray(mean, np.float32))
        self.images, self.concepts, self.row_bytes = len(needed), len(texts), 4 * dim

    def load(self, first: int, last: int) -> Tensor:
        keys = self._needed[first:last]
        found = self._embeddings.rows(keys)
        if found.shape != (len(keys), self._embeddings.dim):
            raise InputError(
                f"a table of embeddings gave shape {found.shape} for {len(keys)} images of "
                f"length {self._embeddings.dim}"
            )
        rows = torch.from_numpy(np.ascontiguousarray(found, np.float32))
        return rows * self._scale if self._mean is None else (rows - self._mean) * self._scale

    def fill(self, rows: Tensor, start: int, out: Tensor) -> None:
        torch.mm(rows, self._texts[start : start + out.shape[1]].T, out=out)
