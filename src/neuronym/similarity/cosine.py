"""Cosine, plain and cubed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from neuronym.similarity.common import Scorer, checked, in_blocks

__all__ = ["cosine", "cosine_cubed", "prepare_cosine", "prepare_cosine_cubed"]


def cosine(activations: Tensor, concept_scores: Tensor) -> Tensor:
    """Cosine of a unit's activations and a concept's scores over the images.

    ``sim[k, m] = q_k · P_m / (‖q_k‖ ‖P_m‖)``; 0 where either is all zero. Nothing is centred.

    Args:
        activations: ``(images, units)``.
        concept_scores: ``(images, concepts)``.

    Returns:
        ``(units, concepts)``, -1 to 1.

    Raises:
        InputError: The matrices do not fit, or hold NaN or infinity.
    """
    activations, concept_scores = checked(activations, concept_scores)
    scorer = prepare_cosine(activations)
    return in_blocks(scorer, concept_scores, activations.shape[1])


def cosine_cubed(activations: Tensor, concept_scores: Tensor) -> Tensor:
    """Cosine of the centred and cubed activations and scores (CLIP-Dissect, "cos cubed").

    Both are centred over the images, then cubed element by element, so that the most extreme
    images count most (Oikarinen and Weng, ICLR 2023, arXiv 2204.10965, appendix on similarity
    functions). 0 where either is constant. The published code keeps the norms above 0.001, which
    makes small scores lose; here the cosine does not depend on the scale.

    Args:
        activations: ``(images, units)``.
        concept_scores: ``(images, concepts)``.

    Returns:
        ``(units, concepts)``, -1 to 1.

    Raises:
        InputError: The matrices do not fit, or hold NaN or infinity.
    """
    activations, concept_scores = checked(activations, concept_scores)
    scorer = prepare_cosine_cubed(activations)
    return in_blocks(scorer, concept_scores, activations.shape[1])


def prepare_cosine(activations: Tensor) -> Scorer:
    """Return the scorer of :func:`cosine` for these activations."""
    units = _unit_length(activations).T

    def score(concept_scores: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(concept_scores, dim=0)
        result = (units @ concept_scores).div_(norms).clamp_(-1, 1)
        doubtful = (norms < _SMALL) | ~torch.isfinite(norms)
        return _again(result, units, concept_scores, doubtful, _unit_length)

    return score


def prepare_cosine_cubed(activations: Tensor) -> Scorer:
    """Return the scorer of :func:`cosine_cubed` for these activations."""
    units = _cubed(activations).T

    def score(concept_scores: Tensor) -> Tensor:
        means = concept_scores.mean(0)
        centred = concept_scores - means
        cubed = (centred * centred).mul_(centred)
        norms = torch.linalg.vector_norm(cubed, dim=0)
        result = (units @ cubed).div_(norms).clamp_(-1, 1)
        # Below this share of its mean, a column may be a constant that rounding spread.
        rounding = (means.abs() * _ROUNDING) ** 3 * len(concept_scores) ** 0.5
        doubtful = (norms < _SMALL + rounding) | ~torch.isfinite(norms)
        return _again(result, units, concept_scores, doubtful, _cubed)

    return score


_SMALL = 1e-18  # of a norm: its squares are about to leave float32
_ROUNDING = 1e-5


def _again(
    result: Tensor,
    units: Tensor,
    concept_scores: Tensor,
    doubtful: Tensor,
    careful: Callable[[Tensor], Tensor],
) -> Tensor:
    """Compute the doubtful columns again by the careful way."""
    if bool(doubtful.any()):
        columns = careful(concept_scores[:, doubtful])
        result[:, doubtful] = (units @ columns).clamp_(-1, 1)
    return result


def _cubed(columns: Tensor) -> Tensor:
    """Centre, scale each column to a largest value of 1, cube, give it length 1; a constant
    column becomes 0."""
    # A constant's mean may be off by rounding: then its deviations are noise, not a signal.
    centred = columns - columns.mean(0, keepdim=True)
    constant = columns.amax(0, keepdim=True) == columns.amin(0, keepdim=True)
    centred = torch.where(constant, torch.zeros_like(centred), centred)
    return _unit_length(_shrunk(centred) ** 3)


def _unit_length(columns: Tensor) -> Tensor:
    columns = _shrunk(columns)
    norms = torch.linalg.vector_norm(columns, dim=0, keepdim=True)
    return columns / torch.where(norms > 0, norms, torch.ones_like(norms))


def _shrunk(columns: Tensor) -> Tensor:
    """Divide each column by its largest absolute value, so that no power under- or overflows."""
    largest = columns.abs().amax(0, keepdim=True)
    return columns / torch.where(largest > 0, largest, torch.ones_like(largest))
