"""WPMI and SoftWPMI from top images, in blocks of concepts that fit a budget.

Only the images that some unit has among its top ones are scored. Rows of scores come in chunks;
each chunk multiplies the terms of its images into the products of the units that have them. A
matrix in memory is read in place. Where the products of all concepts fit and scores are computed,
one pass over the images gives the softmax's normaliser too; else a first pass finds it, and a
second one goes over the images for each block of concepts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neuronym.errors import InputError
from neuronym.similarity.common import block_length

__all__ = [
    "BUDGET_BYTES",
    "Evidence",
    "HeldScores",
    "ScoreSource",
    "informations",
    "plain_informations",
    "terms_at_once",
]

BUDGET_BYTES = 256 << 20
"""Most bytes of the tables and products that are held at once."""

_SAFE_LOG = 80.0  # a product of terms stays above exp(-80), far from float32's underflow
_SIDE = 2048  # rows and concepts of a piece of the first pass: stays in a processor's cache
_CHUNK = 2048  # most rows of a chunk
_TOGETHER = 128  # concepts that a thread of the kernel copies together
_GROUP = 256  # units whose exponentials are held at once

Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HeldScores:
    """Scores that lie in memory, to be read in place.

    Attributes:
        scores: ``(any, concepts)`` float32, rows without gaps.
        rows: ``(images,)`` places of the images that are needed.
        scale: Factor of the scores.
    """

    scores: Floats
    rows: Longs
    scale: float


class ScoreSource(Protocol):
    """Scaled concept scores of the images that are needed, in their order.

    Attributes:
        images: How many there are.
        concepts: Number of concepts.
        row_bytes: What one row of ``load`` takes.
        held: The scores, where they lie in memory as float32 on the CPU.
    """

    images: int
    concepts: int
    row_bytes: int

    @property
    def held(self) -> HeldScores | None:
        """The scores in place."""

    def load(self, first: int, last: int) -> Tensor:
        """Return what ``fill`` needs for images ``first`` to ``last``."""

    def fill(self, rows: Tensor, start: int, out: Tensor) -> None:
        """Write the scores of these images and of concepts from ``start`` on into ``out``."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The top images of a site's units, and what each rank is worth.

    Attributes:
        rows: ``(units, top_k)`` places among the images of the source, best first.
        counts: ``(units,)`` how many of them count.
        weights: ``(top_k,)`` float64, factor of the probability in a rank's term.
        floors: ``(top_k,)`` float64, above 0: the rest of the term.
        prior_weight: λ, the weight of the mean over the units.
    """

    rows: Longs
    counts: Longs
    weights: npt.NDArray[np.float64]
    floors: npt.NDArray[np.float64]
    prior_weight: float

    @property
    def factors(self) -> npt.NDArray[np.float64]:
        """``(units,)``: what scales a unit's sum up to ``top_k`` ranks; 0 without evidence."""
        top_k = self.rows.shape[1]
        return np.where(self.counts > 0, top_k / np.maximum(self.counts, 1), 0.0)


def informations(
    source: ScoreSource, sites: Sequence[Evidence], *, budget: int | None = None
) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield ``log p(B_k | m) − λ log p(m)`` for all units of each site, block by block.

    ``log p(B_k | m) = Σ_{r < counts[k]} log(floor_r + weight_r P̃[i_r, m])``, scaled up to
    ``top_k`` ranks; ``P̃`` is the softmax over all concepts of the source's scores, and p(m) the
    mean over the units of a site. Units without evidence score 0 and are no prior.

    Args:
        source: The scores.
        sites: The top images; at least one site.
        budget: Bytes that may be held at once; by default :data:`BUDGET_BYTES`.

    Yields:
        The first concept of a block, and for each site ``(units, block)`` float32, which the
        caller may overwrite.

    Raises:
        InputError: A score is NaN or infinite.
    """
    from neuronym.similarity.kernels import likelihood as kernel

    budget = BUDGET_BYTES if budget is None else budget
    units = sum(len(site.counts) for site in sites)
    blocks = _cut(source.concepts, max(16, budget // 2 // (8 * max(1, units))))
    entries = _Entries(sites, _chunk(source, blocks, budget), source.images)
    totals = _normaliser(source) if len(blocks) > 1 or source.held is not None else None
    held = source.held
    for start, last in blocks:
        if held is not None and totals is not None and entries.chunk >= source.images:
            table = _of_held(held, entries, sites, (start, last), totals)
        else:
            table, powers = _block(source, entries, units, (start, last), totals)
            for site, part in zip(sites, entries.sites, strict=True):
                kernel.information(
                    table.numpy()[part], powers[part], site.factors, prior_weight=site.prior_weight
                )
        yield start, [table[part] for part in entries.sites]


def plain_informations(
    source: ScoreSource, sites: Sequence[Evidence], like: Tensor
) -> Iterator[tuple[int, list[Tensor]]]:
    """:func:`informations` in plain tensor operations, for accelerators and float64.

    Args:
        source: The scores.
        sites: The top images; at least one site.
        like: A tensor whose device and dtype are used.
    """
    units = sum(len(site.counts) for site in sites)
    each = (source.images * 2 + units) * like.element_size()
    step = block_length(each, source.concepts)
    total = like.new_full((source.images,), float("-inf"))
    for start in range(0, source.concepts, step):
        scores = like.new_empty(source.images, min(step, source.concepts - start))
        source.fill(source.load(0, source.images), start, scores)
        total = torch.logaddexp(total, torch.logsumexp(scores, 1))
    if not bool(torch.isfinite(total).all()):
        raise InputError("concept scores hold NaN or infinity; an embedding is not finite")
    for start in range(0, source.concepts, step):
        scores = like.new_empty(source.images, min(step, source.concepts - start))
        source.fill(source.load(0, source.images), start, scores)
        chances = scores.sub_(total[:, None]).exp_()
        yield start, [_plain(chances, site) for site in sites]


def _plain_sum(chances: Tensor, site: Evidence) -> Tensor:
    """``Σ_{r < counts[k]} log(floor_r + weight_r P̃[i_r, m])`` in groups of units."""
    units, top_k = site.rows.shape
    result = chances.new_zeros((units, chances.shape[1]))
    weights, floors = (
        torch.from_numpy(each).to(chances)[None, :, None] for each in (site.weights, site.floors)
    )
    used = np.arange(top_k) < site.counts[:, None]
    rows = torch.from_numpy(np.where(used, site.rows, 0)).to(chances.device)
    counted = torch.from_numpy(used).to(chances)[:, :, None]
    if not len(chances):  # no unit has evidence
        return result
    step = block_length(top_k * chances.shape[1] * chances.element_size() * 2, units)
    for start in range(0, units, step):
        part = slice(start, start + step)
        terms = chances[rows[part]].mul_(weights).add_(floors).log_()
        result[part] = terms.mul_(counted[part]).sum(1)
    return result


def _plain(chances: Tensor, site: Evidence) -> Tensor:
    factors = torch.from_numpy(site.factors).to(chances)[:, None]
    silent = factors == 0
    usable = len(factors) - int(silent.sum())
    likelihood = _plain_sum(chances, site).mul_(factors)
    if not usable:
        return likelihood
    largest = likelihood.masked_fill(silent, float("-inf")).amax(0)
    total = torch.zeros_like(largest)
    for part, without in zip(likelihood.split(_GROUP), silent.split(_GROUP), strict=True):
        total += (part - largest).exp_().masked_fill_(without, 0.0).sum(0)
    prior = total.div_(usable).log_().add_(largest)
    return likelihood.sub_(prior * site.prior_weight).masked_fill_(silent, 0.0)


def _cut(concepts: int, most: int) -> list[tuple[int, int]]:
    """Cut the concepts into blocks of about equal length, each at most ``most``."""
    count = max(1, -(-concepts // most))
    bounds = np.linspace(0, concepts, count + 1).astype(int).tolist()
    return list(itertools.pairwise(bounds))


def _chunk(source: ScoreSource, blocks: list[tuple[int, int]], budget: int) -> int:
    """Return how many images are taken at once."""
    each = beside = 4 * _TOGETHER * torch.get_num_threads()
    if source.held is None:
        width = max(last - start for start, last in blocks)
        each = 4 * width + beside
        most = min(max(16, budget // 8 // (2 * source.row_bytes)), _CHUNK)
    else:
        most = source.images
    return min(max(16, budget // 4 // each), most, max(1, source.images))


def _normaliser(source: ScoreSource) -> Doubles:
    """Return ``log Σ_m exp(score)`` of each needed image."""
    from neuronym.similarity.kernels.log_sums import log_sums

    totals = np.full(source.images, -np.inf)
    held = source.held
    if held is not None:
        log_sums(held.scores, held.rows, totals, scale=held.scale)
        _check_finite(totals)
        return totals
    side = min(_SIDE, source.concepts)
    table = torch.empty(min(_SIDE, source.images) * side)
    for first in range(0, source.images, _SIDE):
        last = min(first + _SIDE, source.images)
        rows = source.load(first, last)
        for start in range(0, source.concepts, side):
            shape = last - first, min(side, source.concepts - start)
            out = table[: shape[0] * shape[1]].view(shape)
            source.fill(rows, start, out)
            log_sums(out.numpy(), np.arange(last - first), totals[first:last])
    _check_finite(totals)
    return totals


def _block(
    source: ScoreSource,
    entries: _Entries,
    units: int,
    concepts: tuple[int, int],
    totals: Doubles | None,
) -> tuple[Tensor, Ints]:
    """Return all units' products for a block of concepts, and their exponents."""
    from neuronym.similarity.kernels import likelihood as kernel
    from neuronym.similarity.kernels.log_sums import log_sums

    width = concepts[1] - concepts[0]
    products = torch.ones(units, width)
    powers = np.zeros((units, width), np.int32)
    held = source.held
    table = torch.empty(0 if held is not None else entries.chunk * width)
    for number, first in enumerate(range(0, source.images, entries.chunk)):
        last = min(first + entries.chunk, source.images)
        if held is not None:
            scores, scale = held.scores[:, slice(*concepts)], held.scale
            rows = held.rows[first:last]
        else:
            out = table[: (last - first) * width].view(last - first, width)
            source.fill(source.load(first, last), concepts[0], out)
            scores, scale, rows = out.numpy(), 1.0, np.arange(last - first)
        if totals is not None:
            total = totals[first:last]
        else:
            total = np.full(last - first, -np.inf)
            log_sums(scores, rows, total)
            _check_finite(total)
        shifts = total.astype(np.float32)
        kernel.accumulate(
            scores,
            (rows, shifts, np.exp(shifts - total).astype(np.float32)),
            entries.of_chunk(number),
            (products.numpy(), powers),
            scale=scale,
            flush=entries.flush,
        )
    return products, powers


def _of_held(
    held: HeldScores,
    entries: _Entries,
    sites: Sequence[Evidence],
    concepts: tuple[int, int],
    totals: Doubles,
) -> Tensor:
    """Return all units' information about a block of concepts, from scores that lie in memory."""
    from neuronym.similarity.kernels import likelihood as kernel

    bounds = np.array([0, *(part.stop for part in entries.sites)])
    factors = np.concatenate([site.factors for site in sites])
    table = torch.empty(len(factors), concepts[1] - concepts[0])
    shifts = totals.astype(np.float32)
    kernel.inform(
        held.scores,
        (held.rows, shifts, np.exp(shifts - totals).astype(np.float32)),
        entries.of_chunk(0),
        (bounds, factors, np.array([site.prior_weight for site in sites], np.float64)),
        table.numpy(),
        offset=concepts[0],
        scale=held.scale,
        flush=entries.flush,
    )
    return table


def _check_finite(sums: npt.NDArray[np.float64]) -> None:
    if not np.isfinite(sums).all():
        raise InputError("concept scores hold NaN or infinity; an embedding is not finite")


def terms_at_once(smallest: float) -> int:
    """Return how many terms, none below ``smallest``, a float32 multiplies before it underflows."""
    return max(1, int(_SAFE_LOG / max(-math.log(smallest), 1e-3)))


class _Entries:
    """Which unit has which image at which rank, sorted by the image's chunk, then by the unit."""

    def __init__(self, sites: Sequence[Evidence], chunk: int, images: int) -> None:
        self.chunk = chunk
        units, rows, weights, floors = [], [], [], []
        first = 0
        for site in sites:
            used = np.arange(site.rows.shape[1]) < site.counts[:, None]
            unit, rank = used.nonzero()
            units.append((unit + first).astype(np.int32))
            rows.append(site.rows[used].astype(np.int32))
            weights.append(site.weights.astype(np.float32)[rank])
            floors.append(site.floors.astype(np.float32)[rank])
            first += len(site.counts)
        self._row = np.concatenate(rows)
        order = (self._row // chunk).argsort(kind="stable")
        self._row = self._row[order]
        self._unit = np.concatenate(units)[order]
        self._weight = np.concatenate(weights)[order]
        self._floor = np.concatenate(floors)[order]
        starts = np.arange(0, images + chunk, chunk)
        self._bounds = np.searchsorted(self._row // chunk, starts // chunk)
        self._unit_numbers = np.arange(first + 1)
        ends = np.cumsum([len(site.counts) for site in sites]).tolist()
        self.sites = [slice(*pair) for pair in itertools.pairwise([0, *ends])]
        smallest = min((float(site.floors.min()) for site in sites if site.floors.size), default=1)
        self.flush = terms_at_once(smallest)

    def of_chunk(self, number: int) -> tuple[Longs, Ints, Floats, Floats]:
        """Return the entries of a chunk."""
        part = slice(self._bounds[number], self._bounds[number + 1])
        row = self._row[part] - np.int32(number * self.chunk)
        starts = np.searchsorted(self._unit[part], self._unit_numbers)
        return starts.astype(np.int64), row, self._weight[part], self._floor[part]
