"""The difference of two proportions on the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import binomtest

from neuronym.errors import InputError

__all__ = ["PairedChange", "paired_change"]

_NORMAL = 1.959963984540054  # the 97.5 % quantile


@dataclass(frozen=True)
class PairedChange:
    """Interval (95 %) and p-value of a paired difference of proportions."""

    interval: tuple[float, float]
    p_value: float


def paired_change(gained: int, lost: int, images: int) -> PairedChange:
    """Compare how often something was right before and after, on the same images.

    The interval is Agresti and Min's (2005, Statistics in Medicine 24): half an image is added to
    each of the four cells, so that with b = gained, c = lost and N = images + 2

        (b − c) / N  ±  1.96 · √((b + c + 1) − (b − c)² / N) / N

    It has a width above 0 also where nothing changed. The p-value is the exact McNemar test's:
    of b and c being equally likely, two-sided.

    Args:
        gained: Images that became right.
        lost: Images that became wrong.
        images: All of them, at least 1.

    Raises:
        InputError: The counts are negative, or more images changed than there are.
    """
    if min(gained, lost) < 0 or images < 1 or gained + lost > images:
        raise InputError(f"{gained} gained and {lost} lost of {images} images cannot be")
    total = images + 2
    middle = (gained - lost) / total
    variance = (gained + lost + 1) - (gained - lost) ** 2 / total
    half = _NORMAL * math.sqrt(variance) / total
    changed = gained + lost
    p_value = float(binomtest(gained, changed, 0.5).pvalue) if changed else 1.0
    return PairedChange((max(-1.0, middle - half), min(1.0, middle + half)), p_value)
