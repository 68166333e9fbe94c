"""Compositional names: the formula over concepts whose images a unit separates best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from neuronym.dissect.formula import Formula, literal
from neuronym.dissect.split import Split
from neuronym.errors import InputError
from neuronym.similarity.common import block_length

__all__ = ["ComposeRules", "Composed", "concept_sets", "formulas"]

TOP_FRACTION = 0.05
MIN_IMAGES = 10
_UNITS = 64  # searched together
_EVER = 1e-6  # AUROC that a longer formula must gain on the searched images to be looked at


@dataclass(frozen=True)
class ComposeRules:
    """How formulas are searched and kept.

    Attributes:
        length: Most concepts of a formula, 1 to 3.
        beam: Formulas of each length that are extended.
        least_share, least_images: A formula holds for at least this share of the images, and at
            least this many of them.
        most_share: It holds for at most this share.
        caution: The search ranks formulas by their AUROC less this many standard errors of the
            AUROC of chance, ``√((n + 1) / (12 p (n − p)))`` for p of n images: else, of millions of
            formulas, a handful of lucky images would win.
        gain: A longer formula is kept if, on the images that choose the length, it gains at least
            this AUROC,
        errors: and at least this many standard errors of the difference.
    """

    length: int = 3
    beam: int = 4
    least_share: float = 0.005
    least_images: int = MIN_IMAGES
    most_share: float = 0.5
    caution: float = 3.0
    gain: float = 0.01
    errors: float = 2.0

    def __post_init__(self) -> None:
        for name, most in (("length", 3), ("beam", 64)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise InputError(f"{name} must be a whole number from 1 to {most}, not {value!r}")


@dataclass(frozen=True)
class Composed:
    """The compositional name of one unit.

    Attributes:
        formula: The formula.
        auroc: Of the unit's activation for its images, on images that were not searched.
        share: Share of all images that it holds for.
        single, single_auroc: The best single concept and its AUROC there.
    """

    formula: Formula
    auroc: float
    share: float
    single: Formula
    single_auroc: float


def concept_sets(
    images: npt.NDArray[np.float32],
    concepts: npt.NDArray[np.float32],
    *,
    labels: Mapping[int, npt.NDArray[np.bool_]] | None = None,
    top_fraction: float = TOP_FRACTION,
    min_images: int = MIN_IMAGES,
) -> npt.NDArray[np.bool_]:
    """Return which images have each concept: by the data set's labels, else the top of its scores.

    Args:
        images: ``(images, dim)`` embeddings; centring does not matter.
        concepts: ``(concepts, dim)``.
        labels: Concept index → ``(images,)`` bool.
        top_fraction: Share of the images that have a concept without labels.
        min_images: Least number of them.

    Returns:
        ``(concepts, images)`` bool, images that tie with the last one included.

    Raises:
        InputError: A concept would be on all images.
    """
    number = len(images)
    present = max(min_images, round(top_fraction * number))
    if present >= number:
        raise InputError(
            f"{present} of {number} images would have each concept; give more images, or a "
            "smaller min_images or top_fraction"
        )
    sets = np.empty((len(concepts), number), bool)
    step = block_length(12 * number, len(concepts))
    for start in range(0, len(concepts), step):
        scores = concepts[start : start + step] @ images.T
        edge = np.partition(scores, number - present, axis=1)[:, number - present, None]
        sets[start : start + step] = scores >= edge
    for concept, mask in (labels or {}).items():
        sets[concept] = mask
    return sets


def formulas(
    activations: npt.NDArray[np.float32],
    sets: npt.NDArray[np.bool_],
    words: Sequence[str],
    split: Split,
    *,
    rules: ComposeRules | None = None,
) -> list[Composed | None]:
    """Find the formula of each unit whose images its activation separates best.

    The objective is INVERT's (Bykov et al., NeurIPS 2023, arXiv 2311.13594), the AUROC of the
    activation for the formula's images; formulas grow as in Mu and Andreas (NeurIPS 2020, arXiv
    2006.14032): the best ``beam`` of each length are joined by AND, AND NOT, OR and OR NOT with
    every concept. Ranks are made once per unit and part of the images; then the AUROC of every
    extension follows from two matrix products, the ranks and the counts of the images that a
    formula shares with each concept. The search reads the images of ``split.fit``. A longer
    formula is kept only if it is better on ``split.choose`` by ``rules.gain`` and by two
    standard errors, so that length is not rewarded for luck; scores are of ``split.score``.

    Args:
        activations: ``(images, units)``.
        sets: ``(concepts, images)`` bool, see :func:`concept_sets`.
        words: One per concept.
        split: The parts of the images.
        rules: Length, beam, shares and gain.

    Returns:
        One per unit; ``None`` for a unit that is constant on a part, and where no concept is on
        an allowed share of the images.

    Raises:
        InputError: Sets and words, or sets and activations, do not fit.
    """
    rules = rules or ComposeRules()
    if len(words) != len(sets) or sets.shape[1] != len(activations):
        raise InputError(
            f"sets {sets.shape} must be (concepts, images) of {len(words)} words and "
            f"{len(activations)} images"
        )
    found: list[Composed | None] = []
    searched = _Part(activations, sets, split.fit, rules)
    for start in range(0, activations.shape[1], _UNITS):
        units = np.arange(start, min(start + _UNITS, activations.shape[1]))
        beams = searched.search(units, words)
        for unit, best in zip(units, beams, strict=True):
            found.append(_chosen(activations[:, unit], sets, split, best, rules))
    return found


def _chosen(
    activation: npt.NDArray[np.float32],
    sets: npt.NDArray[np.bool_],
    split: Split,
    best: list[Formula],
    rules: ComposeRules,
) -> Composed | None:
    """Choose among the best formula of each length, and score it."""
    parts = (split.fit, split.choose, split.score)
    if not best or any(np.ptp(activation[part]) == 0 for part in parts):
        return None
    holds = [each.holds({c: sets[c] for c in each.concepts()}) for each in best]
    kept = 0
    for longer in range(1, len(best)):
        old, new = (
            _auroc(activation[split.choose], holds[which][split.choose]) for which in (kept, longer)
        )
        error = (new[1] - old[1]).std() / np.sqrt(len(split.choose))
        if new[0] >= old[0] + max(rules.gain, rules.errors * error):
            kept = longer
    scored = [_auroc(activation[split.score], holds[which][split.score]) for which in (0, kept)]
    if not np.isfinite([scored[0][0], scored[1][0]]).all():
        return None
    return Composed(
        formula=best[kept],
        auroc=scored[1][0],
        share=float(holds[kept].mean()),
        single=best[0],
        single_auroc=scored[0][0],
    )


def _auroc(
    activation: npt.NDArray[np.float32], present: npt.NDArray[np.bool_]
) -> tuple[float, npt.NDArray[np.float64]]:
    """AUROC and each image's influence on it, whose standard deviation over √n is its standard
    error (DeLong et al. 1988); NaN where there are fewer than two images of a kind."""
    positives, negatives = int(present.sum()), int((~present).sum())
    influence = np.full(len(present), np.nan)
    if min(positives, negatives) < 2:
        return float("nan"), influence
    ranks = rankdata(activation)
    above = (ranks[present] - rankdata(activation[present])) / negatives
    below = 1 - (ranks[~present] - rankdata(activation[~present])) / positives
    value = float(above.mean())
    influence[present] = (above - value) * len(present) / positives
    influence[~present] = (below - value) * len(present) / negatives
    return value, influence


class _Part:
    """The searched images: ranks of the units, sets of the concepts, and the beam search."""

    def __init__(
        self,
        activations: npt.NDArray[np.float32],
        sets: npt.NDArray[np.bool_],
        places: npt.NDArray[np.int64],
        rules: ComposeRules,
    ) -> None:
        self._activations, self._places, self._rules = activations, places, rules
        self._sets = np.ascontiguousarray(sets[:, places], np.float32)
        self._sizes = self._sets.sum(1)
        number = len(places)
        whole = len(activations)
        share = max(rules.least_share, rules.least_images / whole)
        self._least, self._most = max(2.0, share * number), rules.most_share * number

    def search(self, units: npt.NDArray[np.int64], words: Sequence[str]) -> list[list[Formula]]:
        """Return for each unit the best formula of length 1, 2, ..., as far as each is better on
        the searched images than the shorter one."""
        ranks = rankdata(self._activations[np.ix_(self._places, units)], axis=0).T
        ranks = (ranks - (len(self._places) + 1) / 2).astype(np.float32)
        totals = ranks @ self._sets.T
        values = self._values(totals, np.broadcast_to(self._sizes, totals.shape))
        beams = [
            [
                _Found(float(row[c]), literal(c, words[c]), self._sets[c])
                for c in _largest(row, self._rules.beam)
            ]
            for row in values
        ]
        best = [[beam[0]] if beam else [] for beam in beams]
        for _ in range(1, self._rules.length):
            beams = self._extended(beams, ranks, totals, words)
            for kept, beam in zip(best, beams, strict=True):
                if beam and beam[0].value > kept[-1].value + _EVER:
                    kept.append(beam[0])
        return [[each.formula for each in kept] for kept in best]

    def _values(
        self, totals: npt.NDArray[np.float32], sizes: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """AUROC less ``rules.caution`` standard errors of chance, from sums of centred ranks; minus
        infinity where a set is too small or large."""
        number = len(self._places)
        allowed = (sizes >= self._least) & (sizes <= self._most)
        pairs = np.where(allowed, sizes * (number - sizes), 1)
        chance = np.sqrt((number + 1) / 12 / pairs)
        values = 0.5 + totals / pairs - self._rules.caution * chance
        return np.where(allowed, values, -np.inf).astype(np.float32)

    def _extended(
        self,
        beams: list[list[_Found]],
        ranks: npt.NDArray[np.float32],
        totals: npt.NDArray[np.float32],
        words: Sequence[str],
    ) -> list[list[_Found]]:
        """Join every formula of every beam with every concept, and keep the best of each unit."""
        owner = np.array([u for u, beam in enumerate(beams) for _ in beam], np.int64)
        found = [each for beam in beams for each in beam]
        kept: list[list[tuple[float, int, int, int]]] = [[] for _ in beams]
        wanted = 3 * self._rules.beam  # some of them are the same set
        if not found:
            return [[] for _ in beams]
        held = np.stack([each.holds for each in found])
        size, total = held.sum(1), (held * ranks[owner]).sum(1)
        step = block_length(48 * len(found), len(self._sets))
        for start in range(0, len(self._sets), step):
            part = slice(start, start + step)
            both = held @ self._sets[part].T
            shared = (held * ranks[owner]) @ self._sets[part].T
            alone, sizes = totals[owner, part], self._sizes[part]
            options = (
                (shared, both),
                (total[:, None] - shared, size[:, None] - both),
                (total[:, None] + alone - shared, size[:, None] + sizes - both),
                (shared - alone, len(self._places) - sizes + both),
            )
            for kind, (sums, counts) in enumerate(options):
                values = self._values(sums, counts)
                for row, place in enumerate(owner):
                    kept[place] += [
                        (float(values[row, c]), row, kind, start + int(c))
                        for c in _largest(values[row], wanted)
                    ]
            for place, rows in enumerate(kept):
                kept[place] = sorted(rows, key=lambda each: -each[0])[: 4 * wanted]
        return [self._distinct(rows, found, words) for rows in kept]

    def _distinct(
        self, rows: list[tuple[float, int, int, int]], found: list[_Found], words: Sequence[str]
    ) -> list[_Found]:
        """Build the best formulas, one for each set of images."""
        beam: list[_Found] = []
        seen = {found[row].holds.tobytes() for _, row, _, _ in rows}
        for value, row, kind, concept in rows:
            base, other = found[row], self._sets[concept]
            negated, operator = kind in (1, 3), "and" if kind < 2 else "or"
            there = 1 - other if negated else other
            holds = np.minimum(base.holds, there) if kind < 2 else np.maximum(base.holds, there)
            mark = holds.tobytes()
            if mark in seen:
                continue
            seen.add(mark)
            joined = base.formula.joined(
                operator, literal(concept, words[concept], negated=negated)
            )
            beam.append(_Found(value, joined, holds))
            if len(beam) == self._rules.beam:
                break
        return beam


@dataclass(frozen=True, eq=False)
class _Found:
    value: float
    formula: Formula
    holds: npt.NDArray[np.float32]


def _largest(row: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """Return the places of the largest finite values, largest first, lower place first."""
    if count < len(row):
        places = np.argpartition(row, len(row) - count)[len(row) - count :]
    else:
        places = np.arange(len(row))
    places = places[np.isfinite(row[places])]
    return places[np.lexsort((places, -row[places]))]
