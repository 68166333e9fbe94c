"""Names: the best concepts of every unit, how likely they are by chance, and its top images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neuronym.concepts import ConceptSet
from neuronym.dissect.better import Evidence, compositional_names, linear_fits
from neuronym.dissect.calibrate import HAVE_NULLS, NullOptions, p_values, with_significance
from neuronym.dissect.options import DissectOptions
from neuronym.probes import ProbeSet
from neuronym.record import Recording
from neuronym.results import Formula, LinearFit, Unit
from neuronym.similarity import (
    DotProducts,
    Ranking,
    Similarity,
    checked_keywords,
    keywords_of,
    rank_concepts,
    top_images,
)

__all__ = ["Naming", "centred", "label_masks", "name_units", "resolved_keywords"]

_SITES_BYTES = 512 << 20
CLIP_LOGIT_SCALE = 100.0
# Where concepts' embeddings differ in length, a sharp softmax belongs to the longest of them: with
# the pocket model a twentieth of the logit scale named the most units planted on WordNet groups
# (three draws of 60) over 21,000 concepts, and as many as any share over 3,000.
_LONG_SHARES = {"soft_wpmi": 0.05}
_UNIT_NORM_TOLERANCE = 1e-3
_READ_AS_THEY_ARE = ("rank_reorder",)
_USUAL_TOP_K = {"wpmi": 28, "soft_wpmi": 100}


def resolved_keywords(
    similarity: str | Similarity,
    options: DissectOptions,
    *,
    images: int,
    words: npt.NDArray[np.float32],
    logit_scale: float,
) -> dict[str, Any]:
    """Return every keyword of a similarity: what is given, else a default that fits the run.

    The published ``scale`` of a similarity is made for CLIP, whose logit scale is 100 and whose
    embeddings have unit norm; another model's is the same share of its own logit scale. Where
    embeddings differ in length, SoftWPMI's is a twentieth of the logit scale. ``top_k`` is at
    most a quarter of the images, so that a small probe set still has images that are not at the
    top.

    Args:
        similarity: A name, or a function, whose keywords are taken as they are given.
        options: Hold the given keywords and the seed.
        images: Number of recorded images.
        words: ``(concepts, dim)`` embeddings.
        logit_scale: Of the vision-text model.

    Raises:
        InputError: The similarity does not take a keyword.
        UnknownNameError: The similarity is not known.
    """
    if not isinstance(similarity, str):
        return dict(options.similarity_keywords)
    keywords = checked_keywords(similarity, options.similarity_keywords)
    usual = keywords_of(similarity)
    if "scale" in usual:
        share = usual["scale"] / CLIP_LOGIT_SCALE
        if np.abs(np.linalg.norm(words, axis=1) - 1).max() > _UNIT_NORM_TOLERANCE:
            share = _LONG_SHARES.get(similarity, share)
        keywords.setdefault("scale", share * float(logit_scale))
    if "top_k" in usual:
        keywords.setdefault("top_k", min(_USUAL_TOP_K[similarity], max(1, images // 4)))
    if "seed" in usual:
        keywords.setdefault("seed", options.seed)
    return {name: keywords.get(name, usual[name]) for name in usual if name != "labels"}


def centred(similarity: str | Similarity, choice: bool | None) -> bool:
    """Return whether concept scores are centred; see ``DissectOptions.centre``."""
    return similarity not in _READ_AS_THEY_ARE if choice is None else choice


def label_masks(
    probes: ProbeSet, indices: npt.NDArray[np.int64], concepts: ConceptSet
) -> dict[int, Tensor]:
    """Return the images that the data set says have a concept, where it is one of its classes.

    A concept is a class where it equals the class name, or its first part before a comma,
    without regard to case.

    Returns:
        Concept index → ``(images,)`` bool.
    """
    if probes.labels is None or probes.label_names is None:
        return {}
    labels = probes.labels[indices]
    classes: dict[str, list[int]] = {}
    for number, name in enumerate(probes.label_names):
        for spelling in {name.casefold(), name.split(",")[0].strip().casefold()}:
            classes.setdefault(spelling, []).append(number)
    masks = {}
    for concept, word in enumerate(concepts.words):
        numbers = classes.get(word.casefold())
        if numbers is not None:
            masks[concept] = torch.from_numpy(np.isin(labels, numbers))
    return masks


@dataclass(frozen=True, eq=False)
class Naming:
    """What the units of a recording are compared with, and how.

    Attributes:
        similarity: Name of the similarity, or a function.
        keywords: All of its keywords.
        concepts: The concept set.
        scores: Concept scores of the recorded images.
        labels: See :func:`label_masks`; only for AUROC.
        ids: Id of each recorded image.
    """

    similarity: str | Similarity
    keywords: Mapping[str, Any]
    concepts: ConceptSet
    scores: DotProducts
    labels: Mapping[int, Tensor]
    ids: Sequence[str]

    def rank(self, activations: Sequence[Tensor], keep: int) -> list[Ranking]:
        """Rank the concepts of each site's units."""
        return rank_concepts(
            self.similarity,
            activations,
            self.scores,
            keep=keep,
            keywords=self.keywords,
            labels=self.labels,
        )


def name_units(recording: Recording, naming: Naming, options: DissectOptions) -> list[Unit]:
    """Name every unit of every site, in groups of sites that fit into memory."""
    units: list[Unit] = []
    done = 0
    total = len(recording.sites) * (1 + options.permutations)
    device = naming.scores.images.device
    for names in _groups(recording):
        arrays = [torch.from_numpy(recording.activations(name)).to(device) for name in names]
        rankings = naming.rank(arrays, 1 + options.runner_ups)
        done += len(names)
        if options.progress is not None:
            options.progress(done, total, "naming")
        reached = [
            torch.zeros(array.shape[1], dtype=torch.int64, device=device) for array in arrays
        ]
        # Every group starts from the seed: p-values do not depend on how sites are grouped.
        generator = torch.Generator().manual_seed(options.seed)
        for _ in range(options.permutations):
            order = torch.randperm(len(recording), generator=generator).to(device)
            null = naming.rank([array[order] for array in arrays], 1)
            for count, ranking, draw in zip(reached, rankings, null, strict=True):
                count += draw.scores[:, 0] >= ranking.scores[:, 0]
            done += len(names)
            if options.progress is not None:
                options.progress(done, total, "permutations")
        for name, array, ranking, count in zip(names, arrays, rankings, reached, strict=True):
            site = _SiteUnits(recording, naming, name, array.cpu())
            p = _p_values(naming, array, ranking, count, options)
            units += site.units(ranking, p, options)
            if options.progress is not None:
                options.progress(done, total, f"{name}: significance and longer names")
    return with_significance(units, level=options.significance, method=options.fdr)


def _p_values(
    naming: Naming, array: Tensor, ranking: Ranking, reached: Tensor, options: DissectOptions
) -> npt.NDArray[np.float64] | None:
    """Return the p-value of each unit's best score, or ``None`` where there is no null."""
    if options.permutations:
        return np.asarray((1 + reached.cpu().double().numpy()) / (1 + options.permutations))
    if options.significance is None or naming.similarity not in HAVE_NULLS:
        return None
    return p_values(
        str(naming.similarity),
        array.cpu().numpy(),
        naming.scores.images.cpu().numpy(),
        naming.scores.texts.cpu().numpy(),
        best=ranking.scores[:, 0].cpu().numpy(),
        keywords=naming.keywords,
        options=NullOptions(draws=options.null_draws, seed=options.seed),
    )


def _groups(recording: Recording) -> Iterator[list[str]]:
    """Split the sites, in order, into groups whose activations fit the budget."""
    held: list[str] = []
    size = 0
    for site in recording.sites:
        needed = 4 * len(recording) * site.units
        if held and size + needed > _SITES_BYTES:
            yield held
            held, size = [], 0
        held.append(site.name)
        size += needed
    yield held


class _SiteUnits:
    """Turns the rankings of one site into rows of the atlas."""

    def __init__(self, recording: Recording, naming: Naming, name: str, array: Tensor) -> None:
        self._naming, self._name, self._array = naming, name, array
        self._competitors = recording.competitors[name]
        self._firing_rate = recording.firing_rate(name)
        self._win_rate = recording.win_rate(name)
        self._keys = recording.indices

    def _longer(
        self, options: DissectOptions
    ) -> tuple[list[LinearFit | None], list[Formula | None]]:
        """Return linear explanations and compositional names, where they were asked for."""
        linear: list[LinearFit | None] = [None] * self._array.shape[1]
        formula: list[Formula | None] = [None] * self._array.shape[1]
        if not options.linear and options.compose < 2:
            return linear, formula
        evidence = Evidence(
            images=self._naming.scores.images.cpu().numpy(),
            concepts=self._naming.scores.texts.cpu().numpy(),
            words=self._naming.concepts.words,
            keys=self._keys,
            labels={concept: mask.numpy() for concept, mask in self._naming.labels.items()},
        )
        if options.linear:
            linear = linear_fits(self._array.numpy(), evidence, length=options.linear)
        if options.compose > 1:
            formula = compositional_names(self._array.numpy(), evidence, length=options.compose)
        return linear, formula

    def units(
        self,
        ranking: Ranking,
        p_values: npt.NDArray[np.float64] | None,
        options: DissectOptions,
    ) -> list[Unit]:
        images, counts = top_images(self._array, min(options.top_images, len(self._array)))
        values = self._array.T.gather(1, images)
        if self._competitors is not None:
            counts = torch.minimum(counts, (values > 0).sum(1))
        reasons = self._reasons()
        linear, formula = self._longer(options)
        scores, concepts = ranking.scores.cpu(), ranking.concepts.cpu()
        return [
            self._unit(
                index,
                list(zip(concepts[index].tolist(), scores[index].tolist(), strict=True)),
                p_value=None if p_values is None else float(p_values[index]),
                reason=reasons[index],
                longer=(linear[index], formula[index]),
                top=itertools.islice(
                    zip(images[index].tolist(), values[index].tolist(), strict=True),
                    int(counts[index]),
                ),
            )
            for index in range(self._array.shape[1])
        ]

    def _reasons(self) -> list[str | None]:
        """Return why a unit can have no name, whatever its score."""
        highest, lowest = self._array.amax(0), self._array.amin(0)
        silent = (highest <= 0) & (self._competitors is not None)
        return [
            "never above zero" if dark else "constant" if level else None
            for dark, level in zip(silent.tolist(), (highest == lowest).tolist(), strict=True)
        ]

    def _unit(
        self,
        index: int,
        ranked: list[tuple[int, float]],
        *,
        p_value: float | None,
        reason: str | None,
        longer: tuple[LinearFit | None, Formula | None],
        top: Iterator[tuple[int, float]],
    ) -> Unit:
        words = self._naming.concepts.words
        shown = list(top)
        named = reason is None
        first, others = ranked[0], ranked[1:] if named else []
        return Unit(
            site=self._name,
            unit=index,
            block=None if self._competitors is None else index // self._competitors,
            name=words[first[0]] if named else None,
            score=first[1] if named else None,
            p_value=p_value if named else None,
            runner_up_names=tuple(words[concept] for concept, _ in others),
            runner_up_scores=tuple(score for _, score in others),
            firing_rate=float(self._firing_rate[index]),
            win_rate=None if self._win_rate is None else float(self._win_rate[index]),
            top_images=tuple(self._naming.ids[image] for image, _ in shown),
            top_activations=tuple(value for _, value in shown),
            unnamed=reason,
            linear=longer[0] if named else None,
            formula=longer[1] if named else None,
        )
