"""Probe sets by SPEC."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from neuronym.errors import InputError, MissingError, nearest
from neuronym.probes.base import ProbeSet
from neuronym.probes.folder import FolderProbes
from neuronym.probes.named import load_hub, load_torchvision
from neuronym.probes.parquet import ParquetProbes
from neuronym.probes.scenes import SceneSet
from neuronym.probes.shards import ShardProbes

__all__ = ["load"]


def _scenes(rest: str) -> SceneSet:
    parts = rest.split(":") if rest else []
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit()]
    if len(numbers) != len(parts) or len(parts) > 2:
        raise InputError(
            f"images 'scenes:{rest}' must be scenes, scenes:N or scenes:N:SEED, "
            "with whole numbers N and SEED"
        )
    if not numbers:
        return SceneSet()
    return SceneSet(numbers[0], seed=numbers[1] if len(numbers) > 1 else 0)


SOURCES: Mapping[str, Callable[[str], ProbeSet]] = {
    "scenes": _scenes,
    "torchvision": load_torchvision,
    "hf": load_hub,
    "webdataset": ShardProbes,
}
_FORMS = (
    "a folder of images, FILE.parquet, scenes, scenes:N, scenes:N:SEED, torchvision:NAME/SPLIT, "
    "hf:REPO/SPLIT, webdataset:URL_PATTERN"
)


def load(spec: str | os.PathLike[str]) -> ProbeSet:
    """Load a probe set.

    Args:
        spec: A folder of images (class sub-folders give labels), ``FILE.parquet`` (columns
            ``image{bytes,path}``, and optionally ``label`` and ``label_name``), ``scenes``,
            ``scenes:N`` or ``scenes:N:SEED``, ``torchvision:NAME/SPLIT``, ``hf:REPO/SPLIT``, or
            ``webdataset:URL_PATTERN``. A folder that is named like a source is given as
            ``./scenes``.

    Raises:
        MissingError: The file or folder does not exist.
        InputError: The SPEC is malformed, or there is no image.
        UnknownNameError: A name in it is not known.
        UnreadableError: The file is not what its name says.
        UnavailableError: A library or the network is missing; the text says what works without.
    """
    text = os.fspath(spec)
    if not text.strip():
        raise InputError(f"images must be {_FORMS}; an empty text was given")
    kind, colon, rest = text.partition(":")
    if kind in SOURCES and (colon or kind == "scenes"):
        return SOURCES[kind](rest)
    path = Path(text)
    if path.is_dir():
        return FolderProbes(text)
    if path.suffix.lower() in (".parquet", ".pq"):
        return ParquetProbes(text)
    if path.exists():
        raise InputError(f"images {text!r} is a file; give {_FORMS}")
    close = nearest(kind, SOURCES, count=1)
    hint = f". Did you mean {close[0] + colon + rest!r}?" if close else ""
    raise MissingError(f"images {text!r} do not exist; give {_FORMS}{hint}")
