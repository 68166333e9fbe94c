"""AUROC: how well a unit's activation separates a concept's images from the others."""

from __future__ import annotations

import torch
from torch import Tensor

from neuronym.errors import InputError
from neuronym.similarity.common import (
    Scorer,
    checked,
    checked_count,
    checked_fraction,
    in_blocks,
)

__all__ = ["auroc", "prepare_auroc"]

TOP_FRACTION = 0.05
MIN_IMAGES = 10


def auroc(
    activations: Tensor,
    concept_scores: Tensor,
    *,
    labels: Tensor | None = None,
    top_fraction: float = TOP_FRACTION,
    min_images: int = MIN_IMAGES,
) -> Tensor:
    """Area under the ROC curve of the activation as a score for the concept's presence.

    The chance that a random image with the concept has a larger activation than a random image
    without it; ties count one half (INVERT: Bykov et al., NeurIPS 2023, arXiv 2311.13594). A
    concept is present where ``labels`` say so, else on the ``top_fraction`` of images with its
    highest scores, at least ``min_images`` (images that tie with the last of them included).

    Args:
        activations: ``(images, units)``.
        concept_scores: ``(images, concepts)``; with ``labels`` only its shape counts.
        labels: ``(images, concepts)`` bool, true where the concept is present.
        top_fraction: Share of the images that have a concept, above 0 and at most 1.
        min_images: Least number of images that have a concept.

    Returns:
        ``(units, concepts)``, 0 to 1; 0.5 for a constant unit, and for a concept that is present
        on all images or on none.

    Raises:
        InputError: The matrices do not fit, hold NaN, or there are not more than ``min_images``.
    """
    activations, concept_scores = checked(activations, concept_scores)
    if labels is not None:
        concept_scores = _checked_labels(labels, concept_scores)
        scorer = _prepare_labelled(activations)
    else:
        scorer = prepare_auroc(activations, top_fraction=top_fraction, min_images=min_images)
    return in_blocks(scorer, concept_scores, activations.shape[1])


def prepare_auroc(
    activations: Tensor, *, top_fraction: float = TOP_FRACTION, min_images: int = MIN_IMAGES
) -> Scorer:
    """Return the scorer of :func:`auroc` for these activations, with labels from the scores."""
    images = activations.shape[0]
    checked_fraction("top_fraction", top_fraction)
    checked_count("min_images", min_images, images)
    present = max(min_images, round(top_fraction * images))
    if present >= images:
        raise InputError(
            f"AUROC needs images without the concept: {present} of {images} images would have it; "
            "give more images, or a smaller min_images or top_fraction"
        )
    separate = _prepare_labelled(activations)

    def score(concept_scores: Tensor) -> Tensor:
        threshold = torch.topk(concept_scores, present, dim=0).values[-1:]
        return separate((concept_scores >= threshold).to(activations.dtype))

    return score


def _prepare_labelled(activations: Tensor) -> Scorer:
    images = activations.shape[0]
    ranks = _centred_ranks(activations).T

    def score(labels: Tensor) -> Tensor:
        present = labels.sum(0, dtype=torch.float64)
        pairs = present * (images - present)
        # With ranks centred at 0, AUROC = 1/2 + (sum of the positives' ranks) / pairs.
        excess = (ranks @ labels).double() / torch.where(pairs > 0, pairs, torch.ones_like(pairs))
        return (0.5 + torch.where(pairs > 0, excess, torch.zeros_like(excess))).to(labels.dtype)

    return score


def _centred_ranks(columns: Tensor) -> Tensor:
    """Ranks of each column minus their mean; equals share the mean of their ranks."""
    values = columns.T.contiguous()
    ordered = values.sort(1).values
    first = torch.searchsorted(ordered, values, right=False)
    last = torch.searchsorted(ordered, values, right=True)
    middle = (first + last - columns.shape[0]).to(columns.dtype) / 2
    return middle.T


def _checked_labels(labels: Tensor, concept_scores: Tensor) -> Tensor:
    if not isinstance(labels, Tensor) or labels.dtype != torch.bool:
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise InputError(f"labels must be a tensor of bool, not {kind}")
    if labels.shape != concept_scores.shape:
        raise InputError(
            f"labels of shape {tuple(labels.shape)} must be shaped like concept_scores, "
            f"{tuple(concept_scores.shape)}"
        )
    return labels.to(concept_scores.device, concept_scores.dtype)
