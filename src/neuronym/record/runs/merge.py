"""Merging runs of shards into one."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from neuronym.errors import InputError, MissingError, UnreadableError
from neuronym.files import MANIFEST, claim_folder, read_manifest, write_manifest
from neuronym.record.runs.layout import (
    DATA,
    FINAL,
    KIND,
    SCHEMA,
    RunInfo,
    Shard,
    check_same,
    data_pieces,
    guarded,
    segment_name,
)
from neuronym.record.runs.run import Run
from neuronym.record.runs.segment import Sketches, open_checked
from neuronym.store import create

__all__ = ["merge_runs"]


def merge_runs(
    shards: Sequence[str | Path],
    out: str | Path,
    *,
    overwrite: bool = False,
    into: RunInfo | None = None,
) -> Run:
    """Merge the runs of all shards of a source; the order in which they are given is free.

    Whole numbers, extremes, top images, histograms and the sample are those of one run over all
    images, bit for bit; float64 sums differ by their rounding, at most 1e-9 relative. Rows of
    images are linked where the file system can, and copied elsewhere.

    Args:
        shards: Folders of finished runs, each shard once.
        out: Folder of the merged run; new or empty.
        overwrite: Replace a run that is there.
        into: A run that was begun in ``out`` and whose shard these are the shards of; ``None``
            merges all shards of the source into a new folder.

    Returns:
        The merged run.

    Raises:
        InputError: A shard is missing or given twice, or two are of different runs; the text says
            which, and which fields differ.
        MissingError: A folder does not exist.
        UnreadableError: A run is not finished, or a chunk of it is damaged.
        FolderInUseError: ``out`` holds something already.
    """
    if not shards:
        raise InputError("nothing to merge; give the folders of all shards")
    given = [(Path(folder), RunInfo.read(folder)) for folder in shards]
    whole = Shard() if into is None else into.shard
    ordered = _complete(given, whole)
    first = ordered[0][1]
    info = RunInfo(first.identity, first.facts, whole)
    for folder, _ in ordered:
        read_manifest(folder, kind=KIND, schema=SCHEMA)
    place = Path(out)
    for folder, _ in ordered:
        if into is None and place.resolve() in (folder.resolve(), *folder.resolve().parents):
            raise InputError(
                f"output {str(out)!r} is or holds the shard {str(folder)!r}; give another"
            )
    if into is None:
        broken_off = _is_begun(place, info)
        place = claim_folder(out, kind=KIND, overwrite=overwrite or broken_off).clear()
        info.write(place)
    with guarded("merging"):
        shutil.rmtree(place / DATA, ignore_errors=True)
        merged = Sketches.empty(info)
        pieces = 0
        for folder, each in ordered:
            store = open_checked(folder / FINAL, each.identity)
            merged = merged.merge(Sketches.read(store, each))
            pieces += _link_data(folder, place)
        if whole.count == 1 and not merged.images.images:
            raise InputError("no image of these shards could be read")
        with create(place / FINAL, info.identity) as writer:
            merged.write(writer)
        write_manifest(place, kind=KIND, schema=SCHEMA, pieces=pieces, shard=str(info.shard))
    return Run(place)


def _is_begun(place: Path, info: RunInfo) -> bool:
    """Whether an earlier merge of the same shards into the folder broke off."""
    with contextlib.suppress(MissingError, UnreadableError):
        return not (place / MANIFEST).exists() and RunInfo.read(place).identity == info.identity
    return False


def _complete(given: Sequence[tuple[Path, RunInfo]], whole: Shard) -> list[tuple[Path, RunInfo]]:
    """Return the shards in order, after checking that they make up one run."""
    first_folder, first = given[0]
    by_index: dict[int, Path] = {}
    for folder, info in given:
        where = f"run {str(folder)!r}"
        check_same(info.identity, first.identity, where=f"{where}, unlike {str(first_folder)!r},")
        if info.shard.count != first.shard.count:
            raise InputError(
                f"{where} is shard {info.shard} and {str(first_folder)!r} is shard {first.shard}; "
                "all shards must be parts of one division"
            )
        if info.shard.index in by_index:
            raise InputError(
                f"shard {info.shard} is given twice: {str(by_index[info.shard.index])!r} and "
                f"{str(folder)!r}"
            )
        by_index[info.shard.index] = folder
    count = first.shard.count
    parts = count // whole.count
    wanted = range((whole.index - 1) * parts + 1, whole.index * parts + 1)
    missing = [str(Shard(i, count)) for i in wanted if i not in by_index]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        raise InputError(f"shard {shown} is missing; {len(by_index)} of {parts} are given")
    infos = {info.shard.index: info for _, info in given}
    return [(by_index[index], infos[index]) for index in sorted(by_index)]


def _link_data(source: Path, target: Path) -> int:
    """Bring the rows of a shard into the merged run; return how many segments they are."""
    pieces = data_pieces(source)
    for piece in pieces:
        name = segment_name(piece)
        shutil.copytree(source / DATA / name, target / DATA / name, copy_function=_link_or_copy)
    return len(pieces)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
