"""Which images a name is fitted on, which choose its length, and which score it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError
from neuronym.priority import priority

__all__ = ["Split", "split_images"]

LEAST = 8
"""Fewest images of a part."""
_SALT = 0x5F3759DF


@dataclass(frozen=True, eq=False)
class Split:
    """Places of the images of each part, ascending; no image is in two.

    Attributes:
        fit: About a quarter, on which candidates are compared and weights fitted.
        choose: About a quarter, on which the length is chosen.
        score: About a half, on which the result is scored.
    """

    fit: npt.NDArray[np.int64]
    choose: npt.NDArray[np.int64]
    score: npt.NDArray[np.int64]


def split_images(keys: npt.NDArray[np.int64]) -> Split:
    """Split images by a hash of their keys, the same way on any machine and in any order.

    Args:
        keys: ``(images,)`` int64, each image's own.

    Raises:
        InputError: A part would have fewer than 8 images, or the keys are not int64.
    """
    low = priority(priority(keys).view(np.int64) ^ np.int64(_SALT)) & np.uint64(3)
    parts = [np.flatnonzero(low == 0), np.flatnonzero(low == 1), np.flatnonzero(low > 1)]
    if min(map(len, parts)) < LEAST:
        raise InputError(
            f"{len(keys)} images are too few to fit a name on some and score it on others; "
            f"a part has {min(map(len, parts))} of them and needs {LEAST}"
        )
    return Split(*parts)
