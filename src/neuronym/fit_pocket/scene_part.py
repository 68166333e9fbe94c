"""The attribute part of the image side: a ridge from descriptors of rendered scenes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.probes.scenes import AttributeTable, Scene

__all__ = ["UNFITTED_PAIRS", "Ridge", "fit_ridge", "unfitted_pairs"]

FloatArray = npt.NDArray[np.float32]

UNFITTED_PAIRS: tuple[tuple[str, str], ...] = (
    ("colour", "shape"),
    ("colour", "background"),
    ("pattern", "colour"),
    ("texture", "shape"),
    ("count", "shape"),
    ("size", "background"),
)
"""Groups of which some combinations of values are never fitted."""

_ONE_IN = 8


def unfitted_pairs(scene: Scene) -> tuple[tuple[str, str], ...]:
    """Return the pairs of groups whose combination in this scene is never fitted.

    A combination such as "red star" stays out if the CRC-32 of its text is divisible by 8.
    """
    return tuple(
        (first, second)
        for first, second in UNFITTED_PAIRS
        if zlib.crc32(f"{scene[first]} {scene[second]}".encode()) % _ONE_IN == 0
    )


@dataclass(frozen=True)
class Ridge:
    """A linear map from standardised descriptors to attributes.

    Attributes:
        mean, scale: ``(numbers,)``, what standardises.
        weights: ``(numbers, attributes)``.
    """

    mean: FloatArray
    scale: FloatArray
    weights: FloatArray


def fit_ridge(descriptors: FloatArray, attributes: AttributeTable, *, penalty: float) -> Ridge:
    """Fit centred one-hots by ridge regression with ``penalty · images`` on the diagonal.

    Args:
        descriptors: ``(images, numbers)``.
        attributes: Exact attributes of the images.
        penalty: λ / images, above 0.
    """
    mean = descriptors.mean(axis=0, dtype=np.float64)
    deviation = descriptors.std(axis=0, dtype=np.float64)
    scale = deviation + 1e-3 * float(deviation.mean()) + 1e-6
    x = np.clip((descriptors - mean) / scale, -6, 6)
    y = attributes.values.astype(np.float64)
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += penalty * len(x)
    weights = np.linalg.solve(gram, x.T @ (y - y.mean(axis=0)))
    return Ridge(mean.astype(np.float32), scale.astype(np.float32), weights.astype(np.float32))
