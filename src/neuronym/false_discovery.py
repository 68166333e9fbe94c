"""False-discovery control: many units are tested at once, and few names are to be chance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError, unknown

__all__ = ["FDR_METHODS", "q_values"]

FDR_METHODS = ("bh", "by")


def q_values(p: npt.NDArray[np.floating], *, method: str = "bh") -> npt.NDArray[np.float64]:
    """q-value of each test: the smallest false-discovery rate at which it is significant.

    Args:
        p: ``(tests,)`` p-values, of all units that are tested together.
        method: ``"bh"``, which controls the rate for independent tests and under positive
            dependence, or ``"by"``, which controls it under any dependence.

    Returns:
        ``(tests,)``, 0 to 1.

    Raises:
        UnknownNameError: The method is not known.
        InputError: A p-value is outside 0 to 1.
    """
    from scipy.stats import false_discovery_control

    if method not in FDR_METHODS:
        raise unknown("method of false-discovery control", str(method), FDR_METHODS)
    values = np.asarray(p, np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise InputError("p-values must be one row of numbers from 0 to 1")
    if not len(values):
        return values
    return np.asarray(false_discovery_control(values, method=method), np.float64)
