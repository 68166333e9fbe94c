"""What every sketch demands of a batch and of arrays that were read back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError, UnreadableError

__all__ = ["Layout", "checked_arrays", "checked_keys", "finite_activations", "finite_embeddings"]

Layout = Mapping[str, tuple[tuple[int | None, ...], type]]
"""Array → shape and dtype; ``None`` stands for any length."""


def checked_keys(keys: npt.NDArray[np.int64], images: int) -> npt.NDArray[np.int64]:
    """Return the keys of a batch, one per image, int64 and not negative."""
    keys = np.asarray(keys)
    if keys.dtype != np.int64 or keys.shape != (images,):
        raise InputError(
            f"keys must be int64 of shape {(images,)}, one per image, not {keys.dtype} of "
            f"shape {keys.shape}"
        )
    if images and keys.min() < 0:
        raise InputError(f"keys must not be negative, as {int(keys.min())} is")
    return np.array(keys, order="C")  # own and writable, so that the kernels are compiled once


def _matrix(name: str, value: npt.NDArray, columns: int, of: str) -> npt.NDArray[np.float32]:
    value = np.asarray(value)
    if value.ndim != 2 or value.shape[1] != columns or not np.issubdtype(value.dtype, np.floating):
        raise InputError(
            f"{name} must be floating numbers of shape (images, {columns} {of}), not {value.dtype} "
            f"of shape {value.shape}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused
        return np.array(value, dtype=np.float32, order="C")


def finite_activations(
    activations: npt.NDArray, keys: npt.NDArray[np.int64], *, site: str, units: int
) -> npt.NDArray[np.float32]:
    """Return pooled activations ``(images, units)`` as float32, with no zero below zero.

    Raises:
        InputError: They have another shape, or are NaN or infinite.
    """
    values = _matrix(f"activations of site {site!r}", activations, units, "units")
    good = np.isfinite(values)
    if not good.all():
        first = int(keys[int((~good).any(1).argmax())])
        bad = int((~good).any(0).sum())
        raise InputError(
            f"site {site!r}: {bad} of {units} units have NaN or infinite activations, first on "
            f"image {first}; leave that image out, or run the model in float32 and check its "
            f"weights"
        )
    values += np.float32(0)  # −0 becomes 0: the two are equal, so their bits must be
    return values


def finite_embeddings(
    embeddings: npt.NDArray, keys: npt.NDArray[np.int64], *, dim: int
) -> npt.NDArray[np.float32]:
    """Return embeddings ``(images, dim)`` as float32.

    Raises:
        InputError: They have another shape, or are NaN or infinite.
    """
    values = _matrix("embeddings", embeddings, dim, "dimensions")
    good = np.isfinite(values).all(1)
    if not good.all():
        raise InputError(
            f"the embeddings of {int((~good).sum())} images are NaN or infinite, the first of "
            f"image {int(keys[int((~good).argmax())])}; leave these images out, or run the "
            f"vision-text model in float32"
        )
    return values


def checked_arrays(
    arrays: Mapping[str, npt.NDArray], layout: Layout, *, what: str
) -> dict[str, npt.NDArray]:
    """Return copies of the arrays of a layout.

    Raises:
        UnreadableError: One is missing, or has another dtype or shape.
    """
    found = {}
    for name, (shape, dtype) in layout.items():
        if name not in arrays:
            raise UnreadableError(f"{what} has no array {name!r}; it has {sorted(arrays)}")
        array = np.asarray(arrays[name])
        fits = array.ndim == len(shape) and all(
            expected in (None, length) for expected, length in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype != np.dtype(dtype):
            raise UnreadableError(
                f"array {name!r} of {what} is {array.dtype} of shape {array.shape}, expected "
                f"{np.dtype(dtype)} of shape {shape}"
            )
        found[name] = np.array(array, order="C")
    return found
