"""The moments of the images' embeddings, which all sites of a run share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from neuronym.errors import InputError, UnreadableError
from neuronym.record.sketches.checks import (
    Layout,
    checked_arrays,
    checked_keys,
    finite_embeddings,
)

__all__ = ["ImageMoments", "add_products"]

_UNITS = 1024


def add_products(
    products: npt.NDArray[np.float64],
    left: npt.NDArray[np.float32],
    right: npt.NDArray[np.float64],
) -> None:
    """``products += leftᵀ right`` in float64, for ``(images, units)`` and ``(images, dim)``.

    Every product of two float32 numbers is exact in float64; only the sums round.
    """
    other = torch.from_numpy(right)
    for start in range(0, left.shape[1], _UNITS):
        rows = torch.from_numpy(left[:, start : start + _UNITS].astype(np.float64))
        torch.from_numpy(products[start : start + _UNITS]).addmm_(rows.T, other)


class ImageMoments:
    """Count, sum and products of embeddings: with a site's moments, every concept's cosine.

    Args:
        dim: Dimensions d of the embeddings.

    Attributes:
        dim: d.
        images: How many were added, N.
        sums: ``ΣI``, ``(d,)`` float64.
        products: ``IᵀI``, ``(d, d)`` float64.
    """

    def __init__(self, dim: int) -> None:
        if dim < 1:
            raise InputError(f"embeddings need at least 1 dimension, not {dim}")
        self.dim = dim
        self.images = 0
        self.sums = np.zeros(dim)
        self.products = np.zeros((dim, dim))

    def add(self, embeddings: npt.NDArray[np.float32], keys: npt.NDArray[np.int64]) -> None:
        """Add a batch; one without images changes nothing.

        Args:
            embeddings: ``(images, d)``; values of float32 count.
            keys: ``(images,)`` int64, named where an embedding is bad.

        Raises:
            InputError: An embedding is NaN or infinite, or a shape or dtype is another.
        """
        keys = checked_keys(keys, len(embeddings))
        values = finite_embeddings(embeddings, keys, dim=self.dim)
        exact = values.astype(np.float64)
        self.images += len(values)
        self.sums += exact.sum(0)
        add_products(self.products, values, exact)

    def merge(self, other: ImageMoments) -> ImageMoments:
        """Return the moments of the images of both.

        Raises:
            InputError: The dimensions differ.
        """
        if self.dim != other.dim:
            raise InputError(f"moments differ in dim: {self.dim} and {other.dim}")
        merged = ImageMoments(self.dim)
        merged.images = self.images + other.images
        merged.sums = self.sums + other.sums
        merged.products = self.products + other.products
        return merged

    def arrays(self) -> dict[str, npt.NDArray]:
        """Return copies of ``images`` ``(1,)`` int64, ``sums`` and ``products``."""
        return {
            "images": np.array([self.images], np.int64),
            "sums": self.sums.copy(),
            "products": self.products.copy(),
        }

    @classmethod
    def from_arrays(cls, dim: int, arrays: Mapping[str, npt.NDArray]) -> ImageMoments:
        """Return what :meth:`arrays` came from.

        Raises:
            UnreadableError: An array is missing or has another shape or dtype.
        """
        layout: Layout = {
            "images": ((1,), np.int64),
            "sums": ((dim,), np.float64),
            "products": ((dim, dim), np.float64),
        }
        found = checked_arrays(arrays, layout, what="the moments of the images")
        if found["images"][0] < 0:
            raise UnreadableError(f"the moments count {int(found['images'][0])} images")
        moments = cls(dim)
        moments.images = int(found["images"][0])
        moments.sums, moments.products = found["sums"], found["products"]
        return moments
