"""What every similarity shares: checked inputs, the top images of a unit, bounded blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neuronym.errors import InputError
from neuronym.priority import priority

__all__ = [
    "BLOCK_BYTES",
    "Scorer",
    "block_length",
    "checked",
    "checked_count",
    "in_blocks",
    "tied_top",
    "top_images",
]

BLOCK_BYTES = 128 << 20
"""Most bytes that one temporary block of a similarity may take."""

Scorer = Callable[[Tensor], Tensor]
"""Concept scores of some concepts ``(images, concepts)`` → similarities ``(units, concepts)``.

A scorer has seen the activations of all units; concepts may then come block by block.
"""


def checked(activations: Tensor, concept_scores: Tensor) -> tuple[Tensor, Tensor]:
    """Check both matrices and bring them to one floating dtype (at least float32).

    Raises:
        InputError: They are not matrices over the same images, are empty, or hold NaN or infinity.
    """
    for name, value in (("activations", activations), ("concept_scores", concept_scores)):
        _check_matrix(name, value)
    if activations.shape[0] != concept_scores.shape[0]:
        raise InputError(
            f"activations are of {activations.shape[0]} images and concept_scores of "
            f"{concept_scores.shape[0]}; both need the same images as rows"
        )
    if activations.device != concept_scores.device:
        raise InputError(
            f"activations are on {activations.device} and concept_scores on "
            f"{concept_scores.device}; move them to one device"
        )
    dtype = torch.promote_types(activations.dtype, concept_scores.dtype)
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    return activations.detach().to(dtype), concept_scores.detach().to(dtype)


def _check_matrix(name: str, value: Tensor) -> None:
    columns = "units" if name == "activations" else "concepts"
    if not isinstance(value, Tensor):
        raise InputError(f"{name} must be a torch tensor, not {type(value).__name__}")
    if value.dim() != 2:
        raise InputError(f"{name} must be (images, {columns}), not of shape {tuple(value.shape)}")
    if value.shape[0] < 2 or value.shape[1] < 1:
        raise InputError(
            f"{name} of shape {tuple(value.shape)} are too few; give at least 2 images and "
            f"1 of the {columns}"
        )
    if value.is_complex():
        raise InputError(f"{name} must be real numbers, not {value.dtype}")
    if not bool(torch.isfinite(value.sum())):  # the sum of finite numbers may overflow: look
        _refuse_bad(name, columns, value)


def _refuse_bad(name: str, columns: str, value: Tensor) -> None:
    bad = ~torch.isfinite(value)
    if bool(bad.any()):
        image, column = (int(index) for index in bad.nonzero()[0])
        raise InputError(
            f"{name} hold {int(bad.sum())} values that are NaN or infinite, the first for image "
            f"{image} in column {column}; remove these images or {columns}"
        )


def checked_count(name: str, value: int, images: int) -> int:
    """Return ``value`` if it is a count of images between 1 and all of them."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= images:
        raise InputError(
            f"{name} must be a whole number from 1 to the {images} images, not {value!r}"
        )
    return value


def checked_positive(name: str, value: float) -> float:
    """Return ``value`` if it is a finite number above zero."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        raise InputError(f"{name} must be a finite number above 0, not {value!r}")
    return float(value)


def checked_fraction(name: str, value: float) -> float:
    """Return ``value`` if it is above 0 and at most 1."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= 1:
        raise InputError(f"{name} must be above 0 and at most 1, not {value!r}")
    return float(value)


def top_images(
    activations: Tensor, top_k: int, *, keys: npt.NDArray[np.int64] | None = None
) -> tuple[Tensor, Tensor]:
    """Find the images that activate each unit most, at most ``top_k`` of them.

    Images at a unit's lowest activation do not count where they tie across the cut: the zeros of
    a sparse unit say nothing, and any choice among them would be an accident of their order. Of
    other images that tie, as a saturated unit has them, those of the lower
    :func:`neuronym.priority.priority` come first: a choice that is even over the images, and the
    same on any number of shards.

    Args:
        activations: ``(images, units)``.
        top_k: At most this many images per unit.
        keys: ``(images,)`` int64, all different; by default 0, 1, 2 …

    Returns:
        ``(units, top_k)`` int64 image indices (rows of ``activations``), largest activation
        first and the lower priority first among equals, and ``(units,)`` int64 how many of them
        count; the others of a row are any images.

    Raises:
        InputError: The keys do not fit the images.
    """
    images = len(activations)
    if keys is None:
        keys = np.arange(images, dtype=np.int64)
    elif keys.shape != (images,):
        raise InputError(f"keys of shape {keys.shape} must be one for each of {images} images")
    if activations.device.type == "cpu" and activations.dtype == torch.float32:
        from neuronym.similarity.kernels.top import top

        places, counted = top(activations.detach().numpy(), priority(keys), top_k)
        return torch.from_numpy(places), torch.from_numpy(counted)
    return _top_images(activations, top_k, keys)


def _top_images(
    activations: Tensor, top_k: int, keys: npt.NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """:func:`top_images` in plain tensor operations, for accelerators and other dtypes."""
    images = len(activations)
    order = torch.from_numpy(priority(keys).argsort()).to(activations.device)
    columns = activations[order].T.contiguous()  # of equals, the first is the one to take
    lowest = columns.amin(1, keepdim=True)
    if top_k < images:
        values, places = torch.topk(columns, top_k + 1, dim=1)
        threshold = values[:, top_k:]
        values, places = values[:, :top_k], places[:, :top_k]
    else:
        values, places = columns, torch.arange(images, device=columns.device).expand_as(columns)
        shared = (columns == lowest).sum(1, keepdim=True) > 1
        threshold = torch.where(shared, lowest, torch.full_like(lowest, float("-inf")))
    counts = (values > threshold).sum(1)
    by_place = places.argsort(1)
    values, places = values.gather(1, by_place), places.gather(1, by_place)
    places = places.gather(1, values.argsort(dim=1, descending=True, stable=True))
    for unit in ((counts < top_k) & (threshold > lowest)[:, 0]).nonzero()[:, 0].tolist():
        tied = (columns[unit] == threshold[unit]).nonzero()[:, 0]
        places[unit, int(counts[unit]) :] = tied[: top_k - int(counts[unit])]
        counts[unit] = top_k
    return order[places], counts


class Top(NamedTuple):
    """The largest of each column and where they are: ``(count, columns)`` each."""

    values: Tensor
    indices: Tensor


def tied_top(columns: Tensor, count: int) -> Top:
    """Return the ``count`` largest of each column, the lower index first among equals."""
    ordered = torch.sort(columns, dim=0, descending=True, stable=True)
    return Top(ordered.values[:count], ordered.indices[:count])


def block_length(bytes_each: int, total: int, *, budget: int = BLOCK_BYTES) -> int:
    """Return how many columns of ``bytes_each`` fit the budget, at least 1 and at most all."""
    return max(1, min(total, budget // max(1, bytes_each)))


def in_blocks(scorer: Scorer, concept_scores: Tensor, units: int) -> Tensor:
    """Run ``scorer`` over blocks of concepts, so that no temporary exceeds the budget.

    Returns:
        ``(units, concepts)``.
    """
    images, concepts = concept_scores.shape
    step = block_length((images + units) * concept_scores.element_size() * 2, concepts)
    if step == concepts:
        return scorer(concept_scores)
    result = concept_scores.new_empty((units, concepts))
    for start in range(0, concepts, step):
        result[:, start : start + step] = scorer(concept_scores[:, start : start + step])
    return result
