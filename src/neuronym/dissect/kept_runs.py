"""Runs that are kept in the cache, by what determines their numbers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuronym.errors import InputError, MissingError, UnreadableError
from neuronym.files import cache_folder, caches_allowed, fingerprint
from neuronym.record.runs import Run, RunInfo, is_locked
from neuronym.store import prune

__all__ = ["KeptRuns", "kept_folder"]

CACHE_BYTES = 4 << 30
_SAME_IMAGES = ("images", "pieces", "vision_text", "decoded_at_least", "versions")


class KeptRuns:
    """A folder of runs, each under the fingerprint of its identity.

    Args:
        cache: A folder; ``True`` takes the user's cache folder where it can be written, ``False``
            keeps none.

    Raises:
        InputError: The folder cannot be made.
    """

    def __init__(self, cache: bool | str | Path) -> None:
        self._folder = kept_folder(cache, "runs")

    def place(self, info: RunInfo) -> Path | None:
        """Return where a run belongs, or ``None`` where none are kept."""
        if self._folder is None:
            return None
        place = self._folder / fingerprint(info.identity)
        if (place / "run.json").is_file():
            os.utime(place / "run.json")  # in use: not to be pruned soon
        return place

    def with_embeddings(self, identity: Mapping[str, Any]) -> Run | None:
        """Return a finished run over the same images with the same vision-text model."""
        for place in sorted(self._folder.glob("*")) if self._folder is not None else ():
            with contextlib.suppress(InputError, MissingError, UnreadableError):
                info = RunInfo.read(place)
                if all(info.identity.get(key) == identity[key] for key in _SAME_IMAGES):
                    run = Run(place)
                    os.utime(place / "run.json")
                    return run
        return None

    def prune(self) -> None:
        """Delete the runs that were used longest ago where all together are too large."""
        if self._folder is not None:
            busy = [place for place in self._folder.iterdir() if is_locked(place)]
            prune(self._folder, limit_bytes=CACHE_BYTES, keep=busy, index="run.json")


def kept_folder(cache: bool | str | Path, name: str) -> Path | None:
    """Return a folder of the cache, or ``None`` where nothing is kept.

    Args:
        cache: A folder; ``True`` takes the user's cache folder where it can be written, ``False``
            keeps nothing.
        name: Of the folder in the cache.

    Raises:
        InputError: The folder cannot be made.
    """
    if cache is False or (cache is True and not caches_allowed()):
        return None
    base = cache_folder() if cache is True else Path(cache)
    try:
        (base / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if cache is True:  # a home that cannot be written: compute everything anew
            return None
        raise InputError(f"cannot write into cache {str(base)!r}: {error.strerror}") from error
    return None if cache is True and not os.access(base / name, os.W_OK) else base / name
