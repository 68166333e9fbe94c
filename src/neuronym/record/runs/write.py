"""Writing a run: piece by piece, so that a killed process goes on where it was."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from neuronym.errors import FolderInUseError, InputError
from neuronym.files import LOCK, MANIFEST, claim_folder, held_kind, locked, write_manifest
from neuronym.probes import Batch, Batches, Pieces, check_complete
from neuronym.record.capture import Capture
from neuronym.record.runs.journal import Entry, Journal
from neuronym.record.runs.layout import (
    DATA,
    FINAL,
    INFO,
    KIND,
    SCHEMA,
    SEGMENTS,
    RunInfo,
    check_same,
    guarded,
    segment_name,
)
from neuronym.record.runs.segment import Segment, Sketches, open_whole, segment_identity
from neuronym.store import create

__all__ = ["Source", "WriteOptions", "begin", "finish", "is_locked", "write_run"]

TARGET = "target"
EmbedImages = Callable[[Batch], npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Source:
    """What a run is recorded from.

    Attributes:
        pieces: The images.
        capture: The model's sites; see :class:`neuronym.record.Capture`.
        transform: One PIL image → one input tensor of the model; it runs in the threads that
            decode.
        embed: A batch → ``(images, dim)`` float32 embeddings.
        at_least: Smaller side of a decoded image that is enough for both models, or ``None``;
            see :func:`neuronym.probes.decode`.
    """

    pieces: Pieces
    capture: Capture
    transform: Callable[[Image.Image], Tensor]
    embed: EmbedImages
    at_least: int | None = None


@dataclass(frozen=True)
class WriteOptions:
    """How a run is written; nothing here changes its numbers beyond rounding.

    Attributes:
        batch_size: Images per forward pass.
        workers: Threads that decode; ``None`` takes one per processor, at most 4.
        progress: Called with ``(images done, images or None, note)``.
    """

    batch_size: int = 64
    workers: int | None = None
    progress: Callable[[int, int | None, str], None] | None = None


def begin(folder: str | Path, info: RunInfo, *, overwrite: bool = False) -> Path:
    """Make a run's folder, or go on in it where it holds a part of this very run.

    Raises:
        InputError: It holds a run of something else; the text says which fields differ.
        FolderInUseError: It holds something that is not a run.
    """
    folder = Path(folder)
    if not overwrite and held_kind(folder) == KIND and (folder / INFO).is_file():
        found = RunInfo.read(folder)
        where = f"run {str(folder)!r}"
        try:
            check_same(found.identity, info.identity, where=where)
        except InputError as error:
            raise InputError(f"{error}; give a new folder or pass --overwrite") from error
        if found.shard != info.shard:
            raise InputError(
                f"{where} is shard {found.shard}, not {info.shard}; give each shard its own folder"
            )
        return folder
    claim = claim_folder(folder, kind=KIND, overwrite=overwrite)
    held = (folder / LOCK).exists()
    with locked(folder, doing="records") if held else contextlib.nullcontext():
        claim.clear()
    info.write(folder)
    return folder


def write_run(folder: Path, info: RunInfo, source: Source, options: WriteOptions) -> None:
    """Record what a run still lacks, and write its manifest last.

    Every piece of the shard is recorded whole, batch by batch into a journal; pieces that are
    there already are compared with their checksums and recorded again where they are damaged.

    Args:
        folder: From :func:`begin`.
        info: The same as there.
        source: Images and models.
        options: Batches, threads, progress.

    Raises:
        InputError: An activation or embedding is not finite, or a site does not give what it gave
            for the sample.
        UnreadableError: The source is damaged, or gave fewer images than it said it has.
        FolderInUseError: Another process writes into the folder.
        OSError: The disk is full; what was recorded stays.
    """
    if _is_whole(folder, info, source, options):
        return
    with locked(folder, doing="records"), source.capture, ThreadPoolExecutor(1) as aside:
        (folder / MANIFEST).unlink(missing_ok=True)
        _sweep(folder)
        writer = _Writer(folder, info, source, options, aside)
        pieces = info.shard.pieces(source.pieces.count)
        ends = []
        for piece in pieces:
            with guarded(f"piece {piece} of {source.pieces.name!r}"):
                ends.append(writer.piece(piece))
        if info.shard.count == 1:
            check_complete(source.pieces, ends)
        with guarded("merging the segments"):
            finish(folder, info, pieces)


def _is_whole(folder: Path, info: RunInfo, source: Source, options: WriteOptions) -> bool:
    """Whether a run is finished and every file has its checksum; such a run is only read."""
    if not (folder / MANIFEST).is_file() or open_whole(folder / FINAL, info.identity) is None:
        return False
    images = 0
    for piece in info.shard.pieces(source.pieces.count):
        place = folder / DATA / segment_name(piece)
        store = open_whole(place, segment_identity(info, piece))
        if store is None:
            return False
        images += store.facts["images"] + len(store.facts["skipped"])
    if options.progress is not None:
        options.progress(images, images, "found")
    return True


def finish(folder: Path, info: RunInfo, pieces: Sequence[int]) -> None:
    """Merge the sketches of all pieces, in order, and write the manifest.

    Raises:
        InputError: No image could be read.
    """
    if open_whole(folder / FINAL, info.identity) is None:
        merged = Sketches.empty(info)
        for piece in pieces:
            place = folder / SEGMENTS / segment_name(piece)
            store = open_whole(place, segment_identity(info, piece))
            if store is None:
                raise InputError(f"segment {str(place)!r} is not whole; repeat the command")
            merged = merged.merge(Sketches.read(store, info))
        if info.shard.count == 1 and not merged.images.images:
            raise InputError("no image of this run could be read")
        _write_final(folder, info, merged)
    write_manifest(folder, kind=KIND, schema=SCHEMA, pieces=len(pieces), shard=str(info.shard))
    shutil.rmtree(folder / SEGMENTS, ignore_errors=True)


def _write_final(folder: Path, info: RunInfo, sketches: Sketches) -> None:
    with create(folder / FINAL, info.identity) as writer:
        sketches.write(writer)


class _Writer:
    def __init__(
        self,
        folder: Path,
        info: RunInfo,
        source: Source,
        options: WriteOptions,
        aside: ThreadPoolExecutor,
    ) -> None:
        self._folder, self._info, self._source = folder, info, source
        self._options, self._aside = options, aside
        self._merged = open_whole(folder / FINAL, info.identity) is not None
        if not self._merged:
            shutil.rmtree(folder / FINAL, ignore_errors=True)
        self._done = 0
        pieces = info.shard.pieces(source.pieces.count)
        self._alone = len(pieces) == 1  # its sketches are those of the run
        lengths = [source.pieces.length(p) for p in pieces]
        known = [length for length in lengths if length is not None]
        self._total = sum(known) if len(known) == len(lengths) else None

    def piece(self, piece: int) -> int:
        """Record one piece, unless it is there and whole; return how many images it has."""
        name = segment_name(piece)
        data, sketches = self._folder / DATA / name, self._folder / SEGMENTS / name
        identity = segment_identity(self._info, piece)
        found = open_whole(data, identity)
        if found is not None and (self._merged or open_whole(sketches, identity) is not None):
            images = found.facts["images"] + len(found.facts["skipped"])
            self._say(images, "found")
            return int(images)
        journal = Journal(self._folder / SEGMENTS / f"{name}.journal")
        segment = Segment(self._info, piece)
        for entry in journal.replay():
            segment.add(entry)
        self._say(segment.end, "")
        with self._open(piece, segment.end) as stream:
            self._gather(stream, segment, journal)
        shutil.rmtree(data, ignore_errors=True)
        segment.write_data(data)
        if self._alone and segment.images:
            _write_final(self._folder, self._info, segment.sketches)
        else:
            shutil.rmtree(sketches, ignore_errors=True)
            segment.write_sketches(sketches)
        journal.remove()
        return segment.images + len(segment.skipped)

    def _open(self, piece: int, skip: int) -> Batches:
        return self._source.pieces.open(
            piece,
            batch_size=self._options.batch_size,
            workers=self._options.workers,
            skip=skip,
            prepare={TARGET: self._source.transform},
            at_least=self._source.at_least,
        )

    def _gather(self, stream: Batches, segment: Segment, journal: Journal) -> None:
        """Record the batches of a stream; sketches grow while the next batch is computed."""
        pending: Future[None] | None = None
        known = 0
        for batch in stream:
            skipped, known = stream.skipped[known:], len(stream.skipped)
            entry = Entry(
                keys=batch.indices,
                ids=batch.ids,
                labels=batch.labels,
                embeddings=self._source.embed(batch),
                sites=self._source.capture.run(torch.stack(batch.prepared[TARGET])),
                skipped=tuple(skipped),
                end=batch.end,
            )
            _check_finite(entry)
            if pending is not None:
                pending.result()
            journal.append(entry)
            pending = self._aside.submit(segment.add, entry)
            self._say(len(batch) + len(skipped), "")
        if pending is not None:
            pending.result()
        segment.skipped += stream.skipped[known:]
        self._say(len(stream.skipped) - known, "")

    def _say(self, images: int, note: str) -> None:
        self._done += images
        if self._options.progress is not None and images:
            self._options.progress(self._done, self._total, note)


def _check_finite(entry: Entry) -> None:
    """Refuse bad numbers before they are in the journal, by the image's id."""
    rows = {f"site {name!r}": captured.pooled for name, captured in entry.sites.items()}
    for what, values in {**rows, "the embedding": entry.embeddings}.items():
        finite = np.isfinite(values)
        if not finite.all():
            image = entry.ids[int((~finite.all(1)).argmax())]
            bad = int((~finite.all(0)).sum())
            raise InputError(
                f"{what} is NaN or infinite in {bad} of {values.shape[1]} numbers, first on image "
                f"{image!r}; check the weights and the preprocessing, or leave that image out"
            )


def is_locked(folder: Path) -> bool:
    """Whether another process records into a folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with locked(folder, doing="records"):
            return False
    except FolderInUseError:
        return True


def _sweep(folder: Path) -> None:
    """Delete what a killed process left half-written."""
    for place in (folder, folder / DATA, folder / SEGMENTS):
        if place.is_dir():
            for path in place.glob(".*"):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
