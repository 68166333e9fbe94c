"""Cosine, plain and cubed."""

from __future__ import annotations

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
        return (units @ _unit_length(concept_scores)).clamp(-1, 1)

    return score


def prepare_cosine_cubed(activations: Tensor) -> Scorer:
    """Return the scorer of :func:`cosine_cubed` for these activations."""
    units = _unit_length(_cubed(activations)).T

    def score(concept_scores: Tensor) -> Tensor:
        return (units @ _unit_length(_cubed(concept_scores))).clamp(-1, 1)

    return score


def _cubed(columns: Tensor) -> Tensor:
    """Centre, scale each column to a largest value of 1, cube; a constant column becomes 0."""
    # A constant's mean may be off by rounding: then its deviations are noise, not a signal.
    centred = columns - columns.mean(0, keepdim=True)
    constant = columns.amax(0, keepdim=True) == columns.amin(0, keepdim=True)
    centred = torch.where(constant, torch.zeros_like(centred), centred)
    return _shrunk(centred) ** 3


def _unit_length(columns: Tensor) -> Tensor:
    columns = _shrunk(columns)
    norms = torch.linalg.vector_norm(columns, dim=0, keepdim=True)
    return columns / torch.where(norms > 0, norms, torch.ones_like(norms))


def _shrunk(columns: Tensor) -> Tensor:
    """Divide each column by its largest absolute value, so that no power under- or overflows."""
    largest = columns.abs().amax(0, keepdim=True)
    return columns / torch.where(largest > 0, largest, torch.ones_like(largest))
