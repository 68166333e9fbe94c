"""Rank reorder: do a concept's scores put a unit's top images in the unit's own order?"""

from __future__ import annotations

import torch
from torch import Tensor

from neuronym.similarity.common import (
    Scorer,
    block_length,
    checked,
    checked_fraction,
    checked_positive,
    in_blocks,
    tied_top,
)

__all__ = ["prepare_rank_reorder", "rank_reorder"]

TOP_FRACTION = 0.05
MIN_IMAGES = 10
POWER = 3.0
SCORE_POWER = 0.5
SHUFFLES = 5
MIN_SCORE = 1e-3


def rank_reorder(
    activations: Tensor,
    concept_scores: Tensor,
    *,
    top_fraction: float = TOP_FRACTION,
    power: float = POWER,
    score_power: float = SCORE_POWER,
    seed: int = 0,
) -> Tensor:
    """Minus the error of a unit's top activations reordered by a concept (CLIP-Dissect).

    Take the n images with the unit's largest activations, and give the j-th largest of these
    activations to the image with the j-th largest concept score. The mean of
    ``|activation − reordered|^power`` over the n images, divided by the same mean for random
    orders, is the error; it is divided by the concept's mean score on these images to the
    ``score_power``, so that a concept which fits the images loses less. Constants as published
    (arXiv 2204.10965): the top 5 %, power 3, score power 0.5, 5 random orders.

    Differences: n is at least 10 (or all images); the random orders are seeded and the same for
    all units; a mean score below 0.001 counts as 0.001, where the published root has no value;
    a unit whose top activations are all equal has an error of 1.

    Args:
        activations: ``(images, units)``.
        concept_scores: ``(images, concepts)``; ties go to the image that comes first.
        top_fraction: n as a share of the images, above 0 and at most 1.
        power: Exponent of the differences, above 0.
        score_power: Exponent of the mean score; 0 leaves it out.
        seed: Of the random orders.

    Returns:
        ``(units, concepts)``, at most 0.

    Raises:
        InputError: The matrices do not fit, hold NaN, or a keyword is outside its range.
    """
    activations, concept_scores = checked(activations, concept_scores)
    scorer = prepare_rank_reorder(
        activations, top_fraction=top_fraction, power=power, score_power=score_power, seed=seed
    )
    return in_blocks(scorer, concept_scores, activations.shape[1])


def prepare_rank_reorder(
    activations: Tensor,
    *,
    top_fraction: float = TOP_FRACTION,
    power: float = POWER,
    score_power: float = SCORE_POWER,
    seed: int = 0,
) -> Scorer:
    """Return the scorer of :func:`rank_reorder` for these activations."""
    images, units = activations.shape
    wanted = int(checked_fraction("top_fraction", top_fraction) * images)
    count = min(images, max(MIN_IMAGES, wanted))
    checked_positive("power", power)
    if score_power:
        checked_positive("score_power", score_power)
    top = tied_top(activations, count)
    largest = top.values.T.contiguous()
    # In the order of the images, so that tied scores do not fall into the unit's own order.
    indices, by_index = top.indices.T.sort(1)
    own = largest.gather(1, by_index)
    usual = _shuffled_error(largest, power, seed)
    if activations.device.type == "cpu" and activations.dtype == torch.float32:
        return _fused(indices, own, largest, usual, power=power, score_power=score_power)

    def score(concept_scores: Tensor) -> Tensor:
        concepts = concept_scores.shape[1]
        result = concept_scores.new_empty((units, concepts))
        # A sort needs the values, their order (8 bytes) and one copy of each.
        each = count * concepts * (concept_scores.element_size() + 8) * 2
        step = block_length(each, units)
        for start in range(0, units, step):
            part = slice(start, start + step)
            scores = concept_scores[indices[part]]
            order = scores.argsort(dim=1, descending=True, stable=True)
            theirs = own[part, :, None].expand_as(order).gather(1, order)
            error = (theirs - largest[part, :, None]).abs_().pow_(power).mean(1)
            error = torch.where(usual[part] > 0, error / usual[part], torch.ones_like(error))
            strength = scores.mean(1).clamp_(min=MIN_SCORE) ** score_power
            result[part] = -error / strength
        return result

    return score


def _fused(
    indices: Tensor,
    own: Tensor,
    largest: Tensor,
    usual: Tensor,
    *,
    power: float,
    score_power: float,
) -> Scorer:
    from neuronym.similarity.kernels.reorder import reordered_errors

    count = indices.shape[1]
    images = indices.int().contiguous().numpy()
    theirs, ordered = own.contiguous().numpy(), largest.numpy()

    def score(concept_scores: Tensor) -> Tensor:
        columns = concept_scores.T.contiguous().numpy()
        sums, totals = reordered_errors(columns, images, theirs, ordered, power=float(power))
        error, strength = torch.from_numpy(sums) / count, torch.from_numpy(totals) / count
        error = torch.where(usual > 0, error / usual, torch.ones_like(error))
        return (-error / strength.clamp_(min=MIN_SCORE) ** score_power).to(concept_scores.dtype)

    return score


def _shuffled_error(values: Tensor, power: float, seed: int) -> Tensor:
    """Mean error of random orders of each unit's top activations: ``(units, 1)``."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(values[:, :1])
    for _ in range(SHUFFLES):
        order = torch.randperm(values.shape[1], generator=generator).to(values.device)
        total += (values - values[:, order]).abs().pow(power).mean(1, keepdim=True)
    return total / SHUFFLES
