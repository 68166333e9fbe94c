"""Names: the best concepts of every unit, how likely they are by chance, and its top images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neuronym.concepts import ConceptSet
from neuronym.dissect.calibrate import NullOptions, with_significance
from neuronym.dissect.evidence import Evidence
from neuronym.dissect.options import DissectOptions
from neuronym.record.runs import Run
from neuronym.results import Unit
from neuronym.similarity import Ranking, Similarity, checked_keywords, keywords_of

__all__ = ["centred", "label_masks", "name_units", "resolved_keywords"]

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
    labels: npt.NDArray[np.int64] | None, names: Sequence[str] | None, concepts: ConceptSet
) -> dict[int, Tensor]:
    """Return the images that the data set says have a concept, where it is one of its classes.

    A concept is a class where it equals the class name, or its first part before a comma,
    without regard to case. Where an image has no label, no concept is judged by labels; nor is
    one that no image or every image has.

    Args:
        labels: ``(images,)`` classes, -1 where an image has none.
        names: Name of each class.
        concepts: The words.

    Returns:
        Concept index → ``(images,)`` bool.
    """
    if labels is None or names is None or (labels < 0).any():
        return {}
    classes: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        for spelling in {name.casefold(), name.split(",")[0].strip().casefold()}:
            classes.setdefault(spelling, []).append(number)
    masks = {}
    for concept, word in enumerate(concepts.words):
        numbers = classes.get(word.casefold())
        if numbers is not None:
            present = np.isin(labels, numbers)
            if present.any() and not present.all():
                masks[concept] = torch.from_numpy(present)
    return masks


def name_units(
    run: Run, evidence: Evidence, concepts: ConceptSet, options: DissectOptions
) -> tuple[list[Unit], npt.NDArray[np.int64]]:
    """Name every unit of every site, in groups of sites that fit into memory.

    All units with a candidate are tested together (``options.fdr``); those that are not
    significant stay without a name, and their best concept comes first among the runner-ups.

    Returns:
        The units, ordered by site and index; and the keys of all their top images, rising.
    """
    units: list[Unit] = []
    shown: list[npt.NDArray[np.int64]] = []
    done = 0
    for names in _groups(run):
        rankings = evidence.rank(names, 1 + options.runner_ups)
        for name, ranking in zip(names, rankings, strict=True):
            done += 1
            if options.progress is not None:
                options.progress(done, len(run.sites), "naming")
            p = _p_values(evidence, name, ranking, options)
            site = _SiteUnits(run, concepts, name, options.top_images)
            units += site.units(ranking, p)
            shown.append(site.shown)
    tested = with_significance(units, level=options.significance, method=options.fdr)
    return tested, np.unique(np.concatenate(shown))


def _groups(run: Run) -> Iterator[list[str]]:
    """Split the sites, in order, into groups whose activations would fit the budget."""
    held: list[str] = []
    size = 0
    for site in run.sites:
        needed = 4 * min(len(run), 100_000) * site.units
        if held and size + needed > _SITES_BYTES:
            yield held
            held, size = [], 0
        held.append(site.name)
        size += needed
    yield held


def _p_values(
    evidence: Evidence, site: str, ranking: Ranking, options: DissectOptions
) -> npt.NDArray[np.float64] | None:
    if evidence.has_null:
        draws = 0 if options.significance is None else options.null_draws
    else:
        draws = options.permutations
    if not draws:
        return None
    best = ranking.scores[:, 0].cpu().numpy()
    null = NullOptions(draws=draws, seed=options.seed)
    return evidence.p_values(site, best, null, options.progress)


class _SiteUnits:
    """Turns the rankings of one site into rows of the atlas.

    Attributes:
        shown: Keys of the units' top images.
    """

    def __init__(self, run: Run, concepts: ConceptSet, name: str, top_images: int) -> None:
        self._words, self._name = concepts.words, name
        self._sketch = run.sketch(name)
        self._competitors = run.info.competitors[name]
        self._firing_rate = run.firing_rate(name)
        self._win_rate = run.win_rate(name)
        self._top = self._sketch.counted(min(top_images, len(run)))
        self._counts = self._top.counts
        if self._competitors is not None:
            self._counts = np.minimum(self._counts, (self._top.values > 0).sum(1))
        used = np.arange(self._top.keys.shape[1]) < self._counts[:, None]
        self.shown: npt.NDArray[np.int64] = np.unique(self._top.keys[used])
        self._ids = dict(zip(self.shown.tolist(), run.ids(self.shown), strict=True))

    def units(self, ranking: Ranking, p_values: npt.NDArray[np.float64] | None) -> list[Unit]:
        unnamed = self._unnamed()
        scores, concepts = ranking.scores.cpu(), ranking.concepts.cpu()
        return [
            self._unit(
                index,
                list(zip(concepts[index].tolist(), scores[index].tolist(), strict=True)),
                p_value=None if p_values is None else float(p_values[index]),
                unnamed=reason,
            )
            for index, reason in enumerate(unnamed)
        ]

    def _unnamed(self) -> list[str | None]:
        reasons: list[str | None] = [None] * len(self._sketch.maximum)
        if self._competitors is not None:
            for unit in np.flatnonzero(self._sketch.maximum <= 0):
                reasons[unit] = "never above zero"
        for unit in np.flatnonzero(self._sketch.maximum == self._sketch.minimum):
            reasons[unit] = "constant"
        return reasons

    def _unit(
        self,
        index: int,
        ranked: list[tuple[int, float]],
        *,
        p_value: float | None,
        unnamed: str | None,
    ) -> Unit:
        count = int(self._counts[index])
        named = unnamed is None
        first, others = ranked[0], ranked[1:] if named else []
        return Unit(
            site=self._name,
            unit=index,
            block=None if self._competitors is None else index // self._competitors,
            name=self._words[first[0]] if named else None,
            score=first[1] if named else None,
            p_value=p_value if named else None,
            runner_up_names=tuple(self._words[concept] for concept, _ in others),
            runner_up_scores=tuple(score for _, score in others),
            firing_rate=float(self._firing_rate[index]),
            win_rate=None if self._win_rate is None else float(self._win_rate[index]),
            top_images=tuple(self._ids[key] for key in self._top.keys[index, :count].tolist()),
            top_activations=tuple(self._top.values[index, :count].tolist()),
            unnamed=unnamed,
        )
