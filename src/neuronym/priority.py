"""The one order among images that tie: a hash of their keys.

Equal activations, as zeros and saturated units have them, need an order that prefers no part of
a probe set and that is the same on any number of machines. The image's place alone would prefer
the first images; its hash does not, and needs no knowledge of the other images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError

__all__ = ["priority"]


def priority(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Hash the keys of images: splitmix64 (Steele, Lea and Flood, OOPSLA 2014), a bijection.

    Of images that tie, the one with the lower priority number comes first. Two keys never have
    the same.

    Args:
        keys: int64 of any shape.

    Returns:
        uint64 of the same shape.

    Raises:
        InputError: The keys are not int64.
    """
    keys = np.asarray(keys)
    if keys.dtype != np.int64:
        raise InputError(f"keys of images must be int64, not {keys.dtype}")
    mixed = keys.reshape(-1).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64).reshape(keys.shape)
