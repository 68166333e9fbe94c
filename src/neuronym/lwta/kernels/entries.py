"""The compiled entry points: C functions ``void f(int64 *job)``.

Any number of threads may run one job at once: each takes task numbers from the job's atomic
counter until none is left. No lock, no thread identity and no Python object is needed, and the
result does not depend on the number of threads.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import cfunc

from neuronym.errors import unknown
from neuronym.lwta.kernels import columns, planes, rows, vector

__all__ = ["ENTRIES", "compile_entry"]

admitted = vector.admitted
rows_forward, rows_backward = rows.forward, rows.backward
planes_forward, planes_backward = planes.forward, planes.backward
planes_columns = columns.planes

Compile = Callable[[Any], Any]


@functools.cache
def _stamp() -> str:
    """Identify the kernels' sources, as numba's cache looks only at the date of one file."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


# The stamp is a cell of each closure and thereby part of the key of numba's cache.


def _rows_forward(compiled: Compile, stamp: str) -> Any:
    @compiled
    def entry(raw):  # type: ignore[no-untyped-def]
        if len(stamp) > 0 and admitted(raw):
            rows_forward(raw)

    return entry


def _rows_backward(compiled: Compile, stamp: str) -> Any:
    @compiled
    def entry(raw):  # type: ignore[no-untyped-def]
        if len(stamp) > 0 and admitted(raw):
            rows_backward(raw)

    return entry


def _planes_forward(compiled: Compile, stamp: str) -> Any:
    @compiled
    def entry(raw):  # type: ignore[no-untyped-def]
        if len(stamp) > 0 and admitted(raw):
            planes_forward(raw)

    return entry


def _planes_backward(compiled: Compile, stamp: str) -> Any:
    @compiled
    def entry(raw):  # type: ignore[no-untyped-def]
        if len(stamp) > 0 and admitted(raw):
            planes_backward(raw)

    return entry


def _planes_columns(compiled: Compile, stamp: str) -> Any:
    @compiled
    def entry(raw):  # type: ignore[no-untyped-def]
        if len(stamp) > 0 and admitted(raw):
            planes_columns(raw)

    return entry


ENTRIES = {
    "rows_forward": _rows_forward,
    "rows_backward": _rows_backward,
    "planes_forward": _planes_forward,
    "planes_backward": _planes_backward,
    "planes_columns": _planes_columns,
}


def compile_entry(name: str) -> Any:
    """Compile a kernel, or load it from numba's cache on disk.

    The cache lies beside this file or, where that folder cannot be written, in the user's cache
    folder (or ``NUMBA_CACHE_DIR``); where neither can, the kernel is compiled for this process.

    Raises:
        UnknownNameError: There is no such kernel.
    """
    if name not in ENTRIES:
        raise unknown("kernel", name, list(ENTRIES))
    for cache in (True, False):
        compiled = cfunc("void(voidptr)", cache=cache, fastmath=vector.MATH)
        try:
            return ENTRIES[name](compiled, _stamp())
        except (RuntimeError, OSError):
            if not cache:
                raise
    return None
