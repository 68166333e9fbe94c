"""Naming: SoftWPMI and rank reorder against a loop over units, on the same data."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neuronym.benchmarks.result import Row, race
from neuronym.similarity import DotProducts, rank_concepts, rank_reorder, soft_wpmi

__all__ = ["Sizes", "reorder", "rows", "soft_from_embeddings", "soft_from_scores"]

TOP = 100
SCALE = 10.0
_TOPICS = 200


@dataclass(frozen=True)
class Sizes:
    """How much is compared; the defaults take about half a minute on two cores.

    Attributes:
        units: Number of units.
        images: Number of images.
        concepts: Number of concepts.
        dim: Length of the embeddings.
    """

    units: int = 192
    images: int = 4000
    concepts: int = 4000
    dim: int = 128


def rows(rounds: int) -> list[Row]:
    """Measure everything with the present number of threads, in modest sizes."""
    return [
        soft_from_scores(rounds, Sizes()),
        soft_from_embeddings(rounds, Sizes()),
        reorder(rounds, Sizes(units=96, concepts=500)),
    ]


def soft_from_scores(rounds: int, sizes: Sizes) -> Row:
    """SoftWPMI of two given matrices, activations and concept scores."""
    activations, images, texts = _data(sizes)
    scores = images @ texts.T
    exact = _soft_exact(activations, scores)
    ours, loop = (
        _difference(found[:, : exact.shape[1]].double(), exact)
        for found in (soft_wpmi(activations, scores), _published(activations, scores))
    )
    times = race(
        {
            "ours": lambda: soft_wpmi(activations, scores),
            "published form": lambda: _published(activations, scores),
            "better loop": lambda: _soft_loop(activations, scores),
        },
        rounds,
    )
    row = Row.faster(f"SoftWPMI of matrices, {_said(sizes)}", times, "published form", 10.0)
    note = (
        f"scores equal to {ours:.1e} relative to float64's, the published form's to {loop:.1e}; "
        f"against a loop that selects rows {times['better loop'] / times['ours']:.1f} x"
    )
    return dataclasses.replace(row, note=note)


def soft_from_embeddings(rounds: int, sizes: Sizes) -> Row:
    """The best five concepts by SoftWPMI, with the product of the embeddings on both sides."""
    activations, images, texts = _data(sizes)

    def ours() -> Tensor:
        (found,) = rank_concepts("soft_wpmi", [activations], DotProducts(images, texts), keep=5)
        return found.scores

    def loop() -> Tensor:
        return _soft_loop(activations, images @ texts.T).topk(5, dim=1).values

    times = race({"ours": ours, "loop": loop}, rounds)
    case = f"SoftWPMI of embeddings of length {sizes.dim}, {_said(sizes)}"
    product = race({"product": lambda: images @ texts.T}, rounds)["product"]
    row = Row.faster(case, times, "loop", 1.0)
    note = f"the product of the embeddings alone, on both sides, takes {product:.0f} ms"
    return dataclasses.replace(row, note=note)


def reorder(rounds: int, sizes: Sizes) -> Row:
    """Rank reorder of two given matrices."""
    activations, images, texts = _data(sizes)
    scores = 0.2 + images @ texts.T
    difference = _difference(rank_reorder(activations, scores), _reorder_loop(activations, scores))
    times = race(
        {
            "ours": lambda: rank_reorder(activations, scores),
            "loop": lambda: _reorder_loop(activations, scores),
        },
        rounds,
    )
    row = Row.faster(f"rank reorder, {_said(sizes)}", times, "loop", 5.0)
    return dataclasses.replace(row, note=f"scores equal to {difference:.1e} relative")


def _data(sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    """Return activations and embeddings of images and concepts that lie about common topics.

    Embeddings without any structure would make every softmax nearly uniform, and every score the
    small difference of two large sums.
    """
    generator = torch.Generator().manual_seed(0)
    topics = torch.randn(_TOPICS, sizes.dim, generator=generator)

    def about(count: int) -> Tensor:
        chosen = torch.randint(_TOPICS, (count,), generator=generator)
        noise = torch.randn(count, sizes.dim, generator=generator)
        return torch.nn.functional.normalize(topics[chosen] + noise)

    images, texts = about(sizes.images), about(sizes.concepts)
    noise = torch.randn(sizes.images, sizes.units, generator=generator)
    return images @ about(sizes.units).T + 0.1 * noise, images, texts


def _said(sizes: Sizes) -> str:
    return f"{sizes.units} units, {sizes.images} images, {sizes.concepts} concepts"


def _difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest score of the unit."""
    return float(((found - expected).abs() / expected.abs().amax(1, keepdim=True)).max())


def _published(activations: Tensor, scores: Tensor) -> Tensor:
    """SoftWPMI in the form of the published code: softmax of the matrix, a gather per unit."""
    chance = torch.softmax(SCALE * scores, 1)
    tops = activations.topk(TOP, dim=0).indices
    member = (0.998 - torch.arange(TOP) / TOP * 0.028)[:, None]
    found = []
    for unit in range(activations.shape[1]):
        top = chance.gather(0, tops[:, unit : unit + 1].expand(-1, chance.shape[1]))
        terms = 1 + member * (top - 1)
        found.append((terms + 1e-7).log().sum(0, keepdim=True))
    likelihood = torch.cat(found)
    return likelihood - (torch.logsumexp(likelihood, 0) - math.log(len(likelihood)))


def _soft_loop(activations: Tensor, scores: Tensor) -> Tensor:
    """A better loop than :func:`_published`: each unit's rows are selected, not gathered."""
    chance = torch.softmax(SCALE * scores, 1)
    member = (0.998 - torch.arange(TOP) / TOP * 0.028)[:, None]
    found = torch.empty(activations.shape[1], scores.shape[1])
    for unit in range(len(found)):
        top = chance[activations[:, unit].topk(TOP).indices]
        found[unit] = (1 + member * (top - 1) + 1e-7).log().sum(0)
    return found - (torch.logsumexp(found, 0) - math.log(len(found)))


def _soft_exact(activations: Tensor, scores: Tensor, concepts: int = 200) -> Tensor:
    """The same in float64, for the first concepts."""
    total = torch.cat([torch.logsumexp(part.double() * SCALE, 1) for part in scores.split(500)])
    chance = (scores[:, :concepts].double() * SCALE - total[:, None]).exp()
    member = (0.998 - torch.arange(TOP).double() / TOP * 0.028)[:, None]
    found = [
        (1 + member * (chance[each.topk(TOP).indices] - 1) + 1e-7).log().sum(0)
        for each in activations.T
    ]
    likelihood = torch.stack(found)
    return likelihood - (torch.logsumexp(likelihood, 0) - math.log(len(likelihood)))


def _reorder_loop(activations: Tensor, scores: Tensor) -> Tensor:
    """Rank reorder unit by unit; each sorts its top images by every concept."""
    count = max(10, int(0.05 * len(activations)))
    generator = torch.Generator().manual_seed(0)
    shuffles = [torch.randperm(count, generator=generator) for _ in range(5)]
    found = torch.empty(activations.shape[1], scores.shape[1])
    for unit in range(len(found)):
        largest, top = activations[:, unit].sort(descending=True, stable=True)
        largest, top = largest[:count], top[:count].sort().values
        usual = torch.stack([(largest - largest[order]).abs() ** 3 for order in shuffles]).mean()
        theirs = scores[top]
        order = theirs.argsort(dim=0, descending=True, stable=True)
        reordered = activations[top, unit][order]
        error = ((reordered - largest[:, None]).abs() ** 3).mean(0) / usual
        found[unit] = -error / theirs.mean(0).clamp(min=1e-3).sqrt()
    return found
