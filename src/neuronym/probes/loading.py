"""Probe sets by SPEC."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from neuronym.errors import InputError, MissingError, nearest
from neuronym.probes.base import ProbeSet
from neuronym.probes.folder import FolderProbes
from neuronym.probes.named import load_hub, load_torchvision
from neuronym.probes.parquet import ParquetProbes
from neuronym.probes.scenes import DEFAULT_SCENES, DEFAULT_TASK, SceneSet
from neuronym.probes.shards import ShardProbes

__all__ = ["STREAM", "load"]

STREAM = "stream:"
"""Before a SPEC: read it while it arrives, see :func:`neuronym.probes.load_pieces`."""


def _scenes(rest: str) -> SceneSet:
    found = _SCENES.fullmatch(rest)
    if found is None:
        raise InputError(
            f"images 'scenes:{rest}' must be scenes, scenes:N or scenes:N:SEED, with whole numbers "
            "N and SEED; after N or SEED may follow :TASK, groups such as colour+background"
        )
    number, seed, task = found["number"], found["seed"], found["task"]
    return SceneSet(
        int(number) if number else DEFAULT_SCENES,
        seed=int(seed) if seed else 0,
        task=tuple(task.split("+")) if task else DEFAULT_TASK,
    )


_SCENES = re.compile(
    r"((?P<number>[0-9]+)(:(?P<seed>[0-9]+))?(:(?P<task>[a-z]+(\+[a-z]+)*))?)?", re.IGNORECASE
)
SOURCES: Mapping[str, Callable[[str], ProbeSet]] = {
    "scenes": _scenes,
    "torchvision": load_torchvision,
    "hf": load_hub,
    "webdataset": ShardProbes,
}
_FORMS = (
    "a folder of images, FILE.parquet, scenes, scenes:N, scenes:N:SEED, scenes:N:SEED:TASK, "
    "torchvision:NAME/SPLIT, hf:REPO/SPLIT, webdataset:URL_PATTERN"
)


def load(spec: str | os.PathLike[str]) -> ProbeSet:
    """Load a probe set.

    Args:
        spec: A folder of images (class sub-folders give labels), ``FILE.parquet`` (columns
            ``image{bytes,path}``, and optionally ``label`` and ``label_name``), ``scenes``,
            ``scenes:N`` or ``scenes:N:SEED``, each but the first also with ``:TASK`` (one or more
            attribute groups that are the label, e.g. ``scenes:8000:colour+background``),
            ``torchvision:NAME/SPLIT``, ``hf:REPO/SPLIT``, or ``webdataset:URL_PATTERN``. A folder
            that is named like a source is given as ``./scenes``.

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
    if text.startswith(STREAM):
        raise InputError(
            f"images {text!r} are a stream, which is read only from front to back; here images "
            f"are read in any order: leave out {STREAM!r}"
        )
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
