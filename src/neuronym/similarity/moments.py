"""The exact cosine of units and concepts from moments: no activations, no image embeddings.

``q · P_m = (QᵀI) t_m`` and ``‖P_m‖² = t_mᵀ (IᵀI) t_m``, where P_m = I t_m are the scores of a
concept with the text embedding t_m over the images with the embeddings I. The moments are sums
over the images, so that they come from one pass and merge over shards; any concept can follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neuronym.errors import InputError
from neuronym.similarity.common import block_length
from neuronym.similarity.ranking import Ranking, best_of, merged

__all__ = ["ImageSums", "UnitSums", "cosine_from_moments", "rank_from_moments"]

Doubles = npt.NDArray[np.float64]

# A norm whose square is below this share of ‖t‖² ‖IᵀI‖, per dimension, is rounding.
_ROUNDING = 8 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class ImageSums:
    """Moments of the image embeddings, float64.

    Attributes:
        count: Number of images N, at least 1.
        sums: ``(dim,)`` ΣI.
        products: ``(dim, dim)`` IᵀI.

    Raises:
        InputError: The arrays do not fit or are not finite.
    """

    count: int
    sums: Doubles
    products: Doubles

    def __post_init__(self) -> None:
        dim = len(self.sums) if self.sums.ndim == 1 else 0
        _check("sums of embeddings", self.sums, (dim,))
        _check("products of embeddings", self.products, (dim, dim))
        if self.count < 1:
            raise InputError(f"moments must be of at least 1 image, not {self.count}")


@dataclass(frozen=True, eq=False)
class UnitSums:
    """Moments of a site's units and the image embeddings, float64.

    Attributes:
        products: ``(units, dim)`` QᵀI.
        sums: ``(units,)`` Σq.
        squares: ``(units,)`` Σq².

    Raises:
        InputError: The arrays do not fit or are not finite.
    """

    products: Doubles
    sums: Doubles
    squares: Doubles

    def __post_init__(self) -> None:
        shape = self.products.shape if self.products.ndim == 2 else (0, 0)
        _check("products of units and embeddings", self.products, shape)
        _check("sums of units", self.sums, shape[:1])
        _check("squares of units", self.squares, shape[:1])


def cosine_from_moments(
    units: UnitSums, images: ImageSums, texts: Tensor, *, centred: bool = False
) -> Tensor:
    """Cosine of each unit's activations and each concept's scores over the images.

    As :func:`neuronym.similarity.cosine` on the matrices. Centred, the scores lose each concept's
    mean first, as by :meth:`neuronym.similarity.DotProducts.centred`:
    ``((QᵀI) t − Σq (ΣI·t)/N) / (‖q‖ √(tᵀ (IᵀI − ΣI ΣIᵀ/N) t))``. 0 where either norm is zero, up
    to rounding.

    Args:
        units: Moments of a site's units.
        images: Moments of the image embeddings.
        texts: ``(concepts, dim)`` text embeddings.
        centred: Whether scores are centred over the images.

    Returns:
        ``(units, concepts)`` float64, -1 to 1.

    Raises:
        InputError: The arrays do not fit or are not finite.
    """
    result = torch.empty((len(units.sums), len(texts)), dtype=torch.float64)
    for start, (found,) in _blocks([units], images, texts, centred):
        result[:, start : start + found.shape[1]] = found
    return result


def rank_from_moments(
    sites: Sequence[UnitSums],
    images: ImageSums,
    texts: Tensor,
    *,
    keep: int = 1,
    centred: bool = False,
) -> list[Ranking]:
    """Rank the concepts of each unit by :func:`cosine_from_moments`, in blocks of concepts.

    Args:
        sites: Moments of each site's units.
        images: Moments of the image embeddings.
        texts: ``(concepts, dim)`` text embeddings.
        keep: How many concepts per unit to return (all, where there are fewer).
        centred: Whether scores are centred over the images.

    Returns:
        For each site the best concepts; scores are float64.

    Raises:
        InputError: The arrays do not fit or are not finite.
    """
    best: list[Ranking | None] = [None] * len(sites)
    for start, found in _blocks(sites, images, texts, centred):
        for site, values in enumerate(found):
            best[site] = merged(best[site], best_of(values, keep), start, keep)
    return [each for each in best if each is not None]


def _blocks(
    sites: Sequence[UnitSums], images: ImageSums, texts: Tensor, centred: bool
) -> Iterator[tuple[int, list[Tensor]]]:
    dim = len(images.sums)
    if texts.dim() != 2 or texts.shape[1] != dim or not len(texts):
        raise InputError(
            f"texts must be (concepts, {dim}) as the images' embeddings, not of shape "
            f"{tuple(texts.shape)}"
        )
    if not bool(torch.isfinite(texts).all()):
        raise InputError("concept scores hold NaN or infinity; an embedding is not finite")
    for site in sites:
        if site.products.shape[1] != dim:
            raise InputError(
                f"units have moments with embeddings of length {site.products.shape[1]} and the "
                f"images' are of length {dim}"
            )
    gram = torch.from_numpy(images.products)
    floor = _ROUNDING * dim * float(torch.linalg.matrix_norm(gram))
    total = torch.from_numpy(images.sums)
    if centred:
        gram = gram - torch.outer(total, total) / images.count
    products = [_unit_products(site, images, centred) for site in sites]
    units = sum(len(site.sums) for site in sites)
    step = block_length((2 * units + 3 * dim) * 8, len(texts))
    for start in range(0, len(texts), step):
        part = texts[start : start + step].detach().cpu().double()
        squares = ((part @ gram) * part).sum(1)
        real = squares > floor * part.square().sum(1)
        inverse = torch.where(real, squares, torch.ones_like(squares)).rsqrt_().mul_(real)
        yield start, [(each @ part.T).mul_(inverse).clamp_(-1, 1) for each in products]


def _unit_products(site: UnitSums, images: ImageSums, centred: bool) -> Tensor:
    """QᵀI, or QᵀI − Σq ΣIᵀ/N, divided by ‖q‖; zero for a unit that is always zero."""
    products = torch.from_numpy(site.products)
    if centred:
        mean = torch.from_numpy(images.sums) / images.count
        products = products - torch.outer(torch.from_numpy(site.sums), mean)
    norms = torch.from_numpy(site.squares).sqrt()
    return torch.where(norms > 0, products.T / norms, torch.zeros_like(products.T)).T


def _check(name: str, value: Doubles, shape: tuple[int, ...]) -> None:
    if value.dtype != np.float64 or value.shape != shape:
        raise InputError(
            f"{name} must be float64 of shape {shape}, not {value.dtype} of shape {value.shape}"
        )
    if not np.isfinite(value).all():
        raise InputError(f"{name} hold NaN or infinity")
