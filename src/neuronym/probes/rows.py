"""Datasets of the `datasets` library as a stream: each shard is read from front to back."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from neuronym.errors import (
    InputError,
    MissingError,
    NeuronymError,
    UnavailableError,
    UnreadableError,
    unknown,
)
from neuronym.files import fingerprint
from neuronym.probes.ahead import Item, Prepare, Reading
from neuronym.probes.batches import Batches
from neuronym.probes.decode import decode
from neuronym.probes.folder import sampled_digest
from neuronym.probes.named import image_column, load_saved, require_datasets
from neuronym.probes.pieces import KEYS_PER_PIECE, PIECE_LENGTH, check_piece, check_skip

__all__ = ["RowPieces"]

_SAVED = ("state.json", "dataset_dict.json")


class RowPieces:
    """The rows of a dataset, one piece per shard; the first image column and class label are read.

    ``REPO/SPLIT`` is a dataset of the hub (``owner/name``, or ``owner/name:configuration``), which
    is read while it arrives; a folder of parquet, image or tar files that ``load_dataset``
    understands; or a folder that ``save_to_disk`` wrote, cut into shards of at most 4096 rows.
    """

    def __init__(self, rest: str) -> None:
        """Find the shards; no image is read yet.

        Raises:
            UnavailableError: The library is not installed, or the hub cannot be reached.
            InputError: There is no such part, or no image column.
            MissingError: There is no such dataset.
            UnreadableError: Its first shard is damaged.
        """
        datasets = require_datasets()
        self.name = f"stream:hf:{rest}"
        repo, _, part = rest.rpartition("/")
        if not repo or not part:
            raise InputError(
                f"images {self.name!r} must be stream:hf:REPO/SPLIT, e.g. "
                "stream:hf:uoft-cs/cifar10/test"
            )
        saved = any((Path(repo) / name).is_file() for name in _SAVED)
        opened = _saved(repo, part) if saved else _streamed(repo, part, self.name)
        self._table, self.total, self._identity = opened
        if not hasattr(self._table, "shard"):
            raise UnavailableError(
                f"images {self.name!r} need datasets 3.2 or newer: pip install -U datasets"
            )
        self.count = int(self._table.num_shards)
        self._column, self._label = image_column(self._table.features, self.name)
        names = self._table.features[self._label].names if self._label else None
        self.label_names = None if names is None else tuple(names)
        wanted = [self._column, *([self._label] if self._label else [])]
        self._table = self._table.select_columns(wanted).cast_column(
            self._column, datasets.Image(decode=False)
        )

    @property
    def fingerprint(self) -> str:
        """Of what `datasets` knows of the rows: its own fingerprint, or the files and their state.

        Local files count by samples of their bytes, those of the hub by their address, which
        names the commit.
        """
        return fingerprint("hf-stream", self._identity, self._column, self.count)

    def length(self, piece: int) -> int | None:
        """Return the number of rows of a shard, which is known where there is but one."""
        check_piece(self, piece)
        return self.total if self.count == 1 else None

    def open(
        self,
        piece: int,
        *,
        batch_size: int = 64,
        workers: int | None = None,
        skip: int = 0,
        at_least: int | None = None,
        prepare: Prepare | None = None,
    ) -> Batches:
        """Read one shard; see :meth:`neuronym.probes.Pieces.open`."""
        check_skip(self, piece, skip)
        length = self.length(piece)
        return Batches(
            self._items(piece, skip),
            Reading(batch_size, workers, at_least, prepare or {}),
            total=None if length is None else length - skip,
            labelled=self._label is not None,
            start=skip,
        )

    def _items(self, piece: int, skip: int) -> Generator[Item, None, None]:
        rows = iter(self._table.shard(num_shards=self.count, index=piece).skip(skip))
        position = skip
        while True:
            try:
                row = next(rows, None)
            except Exception as error:  # the library passes on what its readers raise
                raise self._broken(piece, position, error) from error
            if row is None:
                break
            name = f"shard-{piece}/row-{position}"
            label = row[self._label] if self._label else None
            yield Item(
                key=piece * KEYS_PER_PIECE + position,
                id=name,
                end=position + 1,
                read=partial(_decoded, row[self._column] or {}, name),
                label=-1 if label is None else int(label),
            )
            position += 1
        length = self.length(piece)
        if length is not None and position != length:
            raise UnreadableError(
                f"{self.name!r} gave {position} images, and its info says {length}; "
                "it ended early or has changed"
            )

    def _broken(self, piece: int, position: int, error: Exception) -> Exception:
        why = " ".join(str(error).split()) or type(error).__name__
        text = f"shard {piece} of {self.name!r} broke off after {position} images: {why}"
        if isinstance(error, (ConnectionError, TimeoutError)):
            return UnavailableError(text)
        return UnreadableError(text)


def _saved(folder: str, part: str) -> tuple[Any, int, object]:
    table = load_saved(folder, part)
    shards = -(-len(table) // PIECE_LENGTH)
    return table.to_iterable_dataset(num_shards=shards), len(table), table._fingerprint


def _streamed(repo: str, part: str, name: str) -> tuple[Any, int | None, object]:
    import datasets

    path, _, configuration = (repo, "", "") if Path(repo).is_dir() else repo.partition(":")
    try:
        builder = datasets.load_dataset_builder(path, configuration or None)
        files = dict(builder.config.data_files or {})
        known = [str(split) for split in builder.info.splits or files]
        if known and part not in known:
            raise unknown(f"split of {repo!r}", part, known)
        table = builder.as_streaming_dataset(split=part)
        if table.features is None:
            table = table._resolve_features()
    except NeuronymError:
        raise
    except (datasets.exceptions.DatasetNotFoundError, FileNotFoundError) as error:
        raise MissingError(f"images {name!r}: no such dataset: {_line(error)}") from error
    except ValueError as error:
        raise InputError(f"images {name!r}: {_line(error)}") from error
    except OSError as error:
        raise UnavailableError(
            f"images {name!r} need the hub, which cannot be reached; use images without network: "
            f"a folder, FILE.parquet or scenes ({_line(error)})"
        ) from error
    split = (builder.info.splits or {}).get(part)
    total = split.num_examples if split is not None else None
    return table, total or None, [part, *_identity(builder, files.get(part))]


def _identity(builder: Any, files: Any) -> list[str]:
    """Return what determines the rows of a split: its files, else what the builder knows."""
    if not files:
        return [builder.name, builder.config.name, builder.hash]
    if all(Path(file).is_file() for file in files):
        return [builder.name, *(sampled_digest(Path(file)) for file in files)]
    states = getattr(files, "origin_metadata", ())
    return [builder.name, builder.config.name, *map(str, files), str(states)]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _decoded(value: dict[str, Any], name: str, at_least: int | None) -> Image.Image:
    data, path = value.get("bytes"), value.get("path")
    if data is None and path and not Path(path).is_file():
        import fsspec  # type: ignore[import-untyped]

        try:
            with fsspec.open(path, "rb") as file:
                data = file.read()
        except (OSError, ValueError) as error:
            raise UnreadableError(f"image {name!r} cannot be read: {_line(error)}") from error
    return decode(data if data is not None else path or b"", name=name, at_least=at_least)
