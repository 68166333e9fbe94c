"""Evidence: how the units of a run are compared with concepts, from the least that suffices.

Cosine needs moments, WPMI and SoftWPMI each unit's top images; every other similarity needs
activations, which are those that the run kept or else its sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neuronym.concepts import ConceptSet
from neuronym.dissect.calibrate import NullOptions
from neuronym.dissect.null_cosine import (
    PLACED,
    ImageMoments,
    cosine_p_values,
    profiles_of_moments,
)
from neuronym.dissect.null_wpmi import TopSets, WpmiKind, wpmi_p_values
from neuronym.dissect.progress import Progress
from neuronym.errors import InputError
from neuronym.record.pooling import token_of
from neuronym.record.runs import Run
from neuronym.similarity import (
    DotProducts,
    ImageSums,
    Ranking,
    Similarity,
    TopImages,
    UnitSums,
    rank_concepts,
    rank_from_moments,
    rank_from_top,
)

__all__ = ["Comparison", "Evidence", "Rows", "evidence_of", "needs_activations", "rows_of"]

Floats = npt.NDArray[np.float32]
FROM_TOP = ("wpmi", "soft_wpmi")
_POPULATION = 10  # images per rank, at least, that random sets are drawn from
FROM_MOMENTS = ("cosine",)


def needs_activations(similarity: str | Similarity) -> bool:
    """Whether a similarity reads more than sketches."""
    return not isinstance(similarity, str) or similarity not in (*FROM_TOP, *FROM_MOMENTS)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What the units are compared with, and how.

    Attributes:
        similarity: Name of the similarity, or a function.
        keywords: All of its keywords.
        concepts: The concept set.
        words: ``(concepts, dim)`` embeddings.
        centred: Whether scores are centred per concept over the images.
        device: Where matrices are compared.
    """

    similarity: str | Similarity
    keywords: Mapping[str, Any]
    concepts: ConceptSet
    words: Floats
    centred: bool
    device: torch.device

    @cached_property
    def texts(self) -> Tensor:
        """The embeddings of the words on the device."""
        return torch.from_numpy(self.words).to(self.device)


class Evidence(Protocol):
    """Compares the units of some sites with every concept.

    Attributes:
        basis: What it reads, in words.
        has_null: Whether :meth:`p_values` is known without naming again.
        labels: Concepts that were judged by the data set's labels.
    """

    @property
    def basis(self) -> str: ...

    @property
    def has_null(self) -> bool: ...

    @property
    def labels(self) -> Mapping[int, Tensor]: ...

    def rank(self, sites: Sequence[str], keep: int) -> list[Ranking]:
        """Return the best concepts of each site's units."""
        ...

    def p_values(
        self,
        site: str,
        best: npt.NDArray[np.floating[Any]],
        options: NullOptions,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.float64]:
        """Return the p-value of the best score of each unit of a site: ``(units,)``."""
        ...


@dataclass(frozen=True, eq=False)
class Rows:
    """Images with embeddings and activations: all of a run, or its sample.

    Attributes:
        keys: ``(images,)`` int64, rising.
        embeddings: ``(images, dim)`` float32.
        activations: ``(site, units) → (images, units)`` float32.
        basis: What they are, in words.
    """

    keys: npt.NDArray[np.int64]
    embeddings: Floats
    activations: Callable[[str, slice], Floats]
    basis: str

    def __len__(self) -> int:
        return len(self.keys)


def rows_of(run: Run) -> Rows:
    """Return the images of a run whose activations are known: as many as it has.

    Kept winners are all there is where a block has one winner an image; where a site is pooled
    over several positions losers pass something too, and the sample is read instead.
    """
    sample = run.sample
    if len(sample) < len(run) and (run.keeps == "all" or _winners_suffice(run)):
        kept = "kept activations" if run.keeps == "all" else "kept winners"
        return Rows(run.keys(), run.embeddings(), run.activations, kept)
    order = sample.keys.argsort()
    whole = len(order) == len(run)
    return Rows(
        sample.keys[order],
        sample.embeddings[order],
        lambda site, units: sample.activations(site)[order][:, units],
        "all activations" if whole else f"a sample of {len(order)} of {len(run)} images",
    )


def _winners_suffice(run: Run) -> bool:
    return run.keeps == "winners" and all(
        run.info.competitors[site.name] is None
        or site.positions == 1
        or token_of(run.info.poolings[site.name]) is not None
        for site in run.sites
    )


def evidence_of(
    run: Run, comparison: Comparison, rows: Rows | None, labels: Mapping[int, Tensor]
) -> Evidence:
    """Return what a similarity reads.

    Args:
        run: The recorded run.
        comparison: Words and similarity.
        rows: Of the run, where activations are read (:func:`needs_activations`, and with any
            similarity where images will be permuted); ``None`` where sketches are.
        labels: Concept index → ``(images,)`` bool over the rows, where the data set says which
            images have a concept; for AUROC alone.
    """
    if rows is not None:
        return _FromRows(rows, comparison, labels)
    return (_FromMoments if comparison.similarity in FROM_MOMENTS else _FromTop)(run, comparison)


class _FromMoments:
    """Cosine."""

    has_null = True
    basis = "moments of all images"
    labels: Mapping[int, Tensor] = MappingProxyType({})

    def __init__(self, run: Run, comparison: Comparison) -> None:
        self._run, self._comparison = run, comparison

    def rank(self, sites: Sequence[str], keep: int) -> list[Ranking]:
        images = self._run.sketches.images
        units = []
        for site in sites:
            sketch = self._run.sketch(site)
            units.append(UnitSums(sketch.products, sketch.sums, sketch.squares))
        return rank_from_moments(
            units,
            ImageSums(images.images, images.sums, images.products),
            torch.from_numpy(self._comparison.words),
            keep=keep,
            centred=self._comparison.centred,
        )

    def p_values(
        self,
        site: str,
        best: npt.NDArray[np.floating[Any]],
        options: NullOptions,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.float64]:
        sketch = self._run.sketch(site)
        pictures = _centred(self._run, self._run.sample.embeddings, self._comparison)
        placed = min(PLACED, sketch.shape.top, len(pictures) // 4)
        _, values = sketch.top()
        return cosine_p_values(
            best,
            profiles_of_moments(
                sketch.images, sketch.sums, sketch.squares, values[:, :placed].copy()
            ),
            pictures,
            self._comparison.words,
            moments=_image_moments(self._run, centred=self._comparison.centred),
            draws=options.draws,
            generator=np.random.default_rng(options.seed),
        )


class _FromTop:
    """WPMI and SoftWPMI."""

    has_null = True
    basis = "top images of all images"
    labels: Mapping[int, Tensor] = MappingProxyType({})

    def __init__(self, run: Run, comparison: Comparison) -> None:
        self._run, self._comparison = run, comparison
        self._top_k = int(comparison.keywords["top_k"])

    def rank(self, sites: Sequence[str], keep: int) -> list[Ranking]:
        tops = []
        for site in sites:
            counted = self._run.sketch(site).counted(self._top_k)
            tops.append(TopImages(counted.keys, counted.counts))
        return rank_from_top(
            str(self._comparison.similarity),
            tops,
            self._run,
            torch.from_numpy(self._comparison.words),
            keep=keep,
            keywords=self._comparison.keywords,
            mean=_mean(self._run) if self._comparison.centred else None,
        )

    def p_values(
        self,
        site: str,
        best: npt.NDArray[np.floating[Any]],
        options: NullOptions,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.float64]:
        counted = self._run.sketch(site).counted(self._top_k)
        drawn = self._drawn_from(options.seed)
        used = np.arange(self._top_k) < counted.counts[:, None]
        keys = np.concatenate([drawn, np.setdiff1d(counted.keys[used], drawn)])
        order = keys.argsort()
        wanted = np.where(used, counted.keys, keys[0])
        rows = np.empty((len(keys), self._run.dim), np.float32)
        rows[order] = self._run.rows(keys[order])
        taken = {key: each for key, each in self._comparison.keywords.items() if key != "top_k"}
        return wpmi_p_values(
            TopSets(order[np.searchsorted(keys, wanted, sorter=order)], counted.counts),
            _centred(self._run, rows, self._comparison),
            self._comparison.words,
            kind=WpmiKind(str(self._comparison.similarity), **taken),
            population=len(drawn),
            draws=options.draws,
            generator=np.random.default_rng(options.seed),
        )

    def _drawn_from(self, seed: int) -> npt.NDArray[np.int64]:
        """Return the images that random sets are drawn from: the sample, or more where it is small.

        Sets without replacement from few images are too much alike.
        """
        sample, least = self._run.sample.keys, min(len(self._run), _POPULATION * self._top_k)
        if len(sample) >= least:
            return sample
        return np.random.default_rng(seed).choice(self._run.keys(), least, replace=False)


class _FromRows:
    """Every similarity that reads activations."""

    has_null = False

    def __init__(
        self,
        rows: Rows,
        comparison: Comparison,
        labels: Mapping[int, Tensor],
    ) -> None:
        self.rows, self.labels = rows, labels
        self.basis = rows.basis
        self._comparison = comparison
        pictures = torch.from_numpy(rows.embeddings).to(comparison.device)
        scores = DotProducts(pictures, comparison.texts)
        self._scores = scores.centred() if comparison.centred else scores

    def rank(self, sites: Sequence[str], keep: int) -> list[Ranking]:
        return self.rank_activations([self.activations(site) for site in sites], keep)

    def activations(self, site: str) -> Tensor:
        """Return ``(images, units)`` on the device."""
        found = self.rows.activations(site, slice(None))
        return torch.from_numpy(np.ascontiguousarray(found)).to(self._comparison.device)

    def rank_activations(self, activations: Sequence[Tensor], keep: int) -> list[Ranking]:
        """Rank the concepts of given activations."""
        return rank_concepts(
            self._comparison.similarity,
            activations,
            self._scores,
            keep=keep,
            keywords=self._comparison.keywords,
            labels=self.labels,
        )

    def p_values(
        self,
        site: str,
        best: npt.NDArray[np.floating[Any]],
        options: NullOptions,
        progress: Progress | None = None,
    ) -> npt.NDArray[np.float64]:
        """Permute the images ``options.draws`` times, and name all units again each time."""
        array = self.activations(site)
        reached = np.zeros(array.shape[1], np.int64)
        generator = torch.Generator().manual_seed(options.seed)
        for done in range(1, options.draws + 1):
            order = torch.randperm(len(array), generator=generator).to(array.device)
            null = self.rank_activations([array[order]], 1)[0].scores[:, 0].cpu().numpy()
            reached += null >= best
            if progress is not None:
                progress(done, options.draws, "permutations")
        return (1 + reached) / (1 + options.draws)


def _image_moments(run: Run, *, centred: bool) -> ImageMoments:
    """Return mean, covariance and sum of squares of all embeddings, centred or not."""
    images = run.sketches.images
    mean = _mean(run)
    spread = images.products - images.images * np.outer(mean, mean)
    covariance = spread / (images.images - 1)
    if centred:
        return np.zeros_like(mean), covariance, spread
    return mean, covariance, images.products


def _mean(run: Run) -> npt.NDArray[np.float64]:
    images = run.sketches.images
    return np.asarray(images.sums / images.images)


def _centred(run: Run, rows: Floats, comparison: Comparison) -> Floats:
    if not comparison.centred:
        return rows
    return np.asarray(rows - _mean(run), np.float32)


def check_top(similarity: str | Similarity, keywords: Mapping[str, Any], run: Run) -> None:
    """Refuse a ``top_k`` that the run's sketches do not answer for.

    Raises:
        InputError: It is larger than what the run was recorded with.
    """
    kept = run.info.identity["top"]
    if similarity in FROM_TOP and keywords["top_k"] > kept:
        raise InputError(
            f"top_k {keywords['top_k']} is more than the {kept} top images that run "
            f"{str(run.folder)!r} keeps; record it with a larger top (--top)"
        )
