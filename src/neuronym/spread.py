"""Share the rows of a loop among threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

__all__ = ["spread"]


def spread(run: Callable[[int, int], None], rows: int, *, unit: int = 1) -> None:
    """Run a loop that holds no lock over equal shares of the rows, one per torch thread.

    Args:
        run: Called with the first row and the one after the last.
        rows: How many there are.
        unit: Shares begin at multiples of this.
    """
    parts = -(-rows // unit)
    threads = max(1, min(torch.get_num_threads(), parts))
    if threads == 1:
        run(0, rows)
        return
    bounds = np.minimum(np.linspace(0, parts, threads + 1).astype(int) * unit, rows).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, bounds[:-1], bounds[1:]))
