"""Run a kernel on several threads: torch's own OpenMP team where there is one.

After each parallel operation torch's OpenMP threads keep spinning for a while. A second pool of
threads would fight them for the cores, so the kernels run on the same team: ``GOMP_parallel`` is
looked up among the libraries that torch has loaded for everybody. Where it is missing (another
platform), a pool of plain threads takes its place; kernels need no Python, so that they run at
once.
"""

from __future__ import annotations

import ctypes
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from neuronym.lwta.kernels import job as slots

__all__ = ["run"]


@functools.cache
def _team() -> Any:
    """Return ``GOMP_parallel(function, data, threads, flags)`` or ``None``."""
    try:
        function = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None
    function.restype = None
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    return function


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="neuronym-kernel")


@functools.cache
def _first_process() -> int:
    """Return the process that used several threads first; they do not survive a fork."""
    return os.getpid()


def run(kernel: Any, job: npt.NDArray[np.int64], *, threads: int) -> None:
    """Call a compiled kernel on ``job``, on up to ``threads`` threads, and wait.

    OpenMP's team is always called in torch's full number, as it ends the threads that a smaller
    team leaves over and torch would start them anew. The kernel sends away those beyond
    ``threads``.

    A process that was forked after the first use, such as a data loader's worker, runs it alone.
    """
    data = job.ctypes.data
    threads = max(1, min(threads, torch.get_num_threads()))
    job[slots.THREADS] = threads
    if threads == 1 or os.getpid() != _first_process():
        kernel.ctypes(data)
    elif team := _team():
        team(kernel.address, data, torch.get_num_threads(), 0)
    else:
        others = [_pool(threads - 1).submit(kernel.ctypes, data) for _ in range(threads - 1)]
        kernel.ctypes(data)
        for other in others:
            other.result()
