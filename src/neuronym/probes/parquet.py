"""Images in a parquet file, read a row group at a time."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from neuronym.errors import InputError, UnreadableError
from neuronym.files import existing, fingerprint, fingerprint_file
from neuronym.probes.decode import decode

__all__ = ["ParquetProbes"]

_GROUPS_KEPT = 2
_WHOLE_FILE = 512 << 20
_MAX_CLASSES = 1_000_000
_FOOTER_TAIL = 8  # length of the footer (4 bytes) and the mark "PAR1"


class ParquetProbes:
    """The rows of a parquet file with a column ``image``.

    ``image`` is a struct of ``bytes`` and ``path`` (bytes may be null: then the path is read,
    relative to the file's folder), or plain bytes. Optional columns: ``label`` (an integer class
    or a text; null becomes -1) and ``label_name``. Class names stored by the `datasets` library
    in the file's metadata are used where there is no ``label_name``.

    Two row groups are kept in memory at most. Reading is safe from several threads.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file's footer, paths and labels; no image yet.

        Raises:
            MissingError: The file does not exist.
            UnreadableError: It is not parquet, or its columns are of other types.
            InputError: It has no column ``image`` or no row.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path = existing(Path(path), what="parquet file")
        self.name = str(path)
        try:
            self._file = pq.ParquetFile(self._path)
        except (pa.ArrowException, OSError) as error:
            raise UnreadableError(f"{self.name!r} is not a parquet file: {error}") from error
        schema = self._file.schema_arrow
        if "image" not in schema.names:
            raise InputError(
                f"{self.name!r} has no column 'image'; its columns: {', '.join(schema.names)}"
            )
        self._struct = _is_struct(schema.field("image").type, self.name)
        sizes = [
            self._file.metadata.row_group(group).num_rows
            for group in range(self._file.num_row_groups)
        ]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        if not len(self):
            raise InputError(f"{self.name!r} has no row")
        self._groups: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()
        self.ids: tuple[str, ...] = self._read_ids(schema)
        self.labels, self.label_names = self._read_labels(schema)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def fingerprint(self) -> str:
        """Of the file's bytes; above 512 MiB of its size, its footer and 64 KiB per row group."""
        size = self._path.stat().st_size
        if size <= _WHOLE_FILE:
            return fingerprint("parquet", fingerprint_file(self._path))
        pieces: list[bytes] = []
        with self._path.open("rb") as file:
            file.seek(size - _FOOTER_TAIL)
            footer = int.from_bytes(file.read(4), "little")
            file.seek(size - _FOOTER_TAIL - footer)
            pieces.append(file.read(footer))
            for group in range(self._file.num_row_groups):
                column = self._file.metadata.row_group(group).column(0)
                file.seek(column.data_page_offset + column.total_compressed_size // 2)
                pieces.append(file.read(1 << 16))
        return fingerprint("parquet-sampled", size, pieces)

    def image(self, index: int) -> Image.Image:
        """Decode one image; :class:`UnreadableError` names a broken one and says why."""
        return self._decoded(index, None)

    def reduced(self, index: int, at_least: int) -> Image.Image:
        """Decode one image, a JPEG at reduced size; see :func:`decode`."""
        return self._decoded(index, at_least)

    def _decoded(self, index: int, at_least: int | None) -> Image.Image:
        index = range(len(self))[index]
        name = self.ids[index]
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        value = self._group(group)[index - int(self._starts[group])].as_py()
        if not self._struct:
            value = {"bytes": value, "path": None}
        if value is None or (value.get("bytes") is None and not value.get("path")):
            raise UnreadableError(f"image {name!r} is null in {self.name!r}")
        if value["bytes"] is not None:
            return decode(bytes(value["bytes"]), name=name, at_least=at_least)
        return decode(self._path.parent / value["path"], name=name, at_least=at_least)

    def _group(self, group: int) -> Any:
        import pyarrow as pa

        with self._lock:
            if group not in self._groups:
                while len(self._groups) >= _GROUPS_KEPT:
                    self._groups.popitem(last=False)
                try:
                    table = self._file.read_row_group(group, columns=["image"])
                except (pa.ArrowException, OSError) as error:
                    raise UnreadableError(
                        f"{self.name!r}: row group {group} cannot be read: {error}"
                    ) from error
                self._groups[group] = table.column("image")
            self._groups.move_to_end(group)
            return self._groups[group]

    def _read_ids(self, schema: Any) -> tuple[str, ...]:
        rows = tuple(f"row-{row}" for row in range(len(self)))
        kind = schema.field("image").type
        if not self._struct or kind.get_field_index("path") < 0:
            return rows
        column = self._file.read(columns=["image.path"]).column("image")
        paths = [None if value is None else value["path"] for value in column.to_pylist()]
        named = [path for path in paths if path]
        return tuple(named) if len(set(named)) == len(rows) else rows

    def _read_labels(
        self, schema: Any
    ) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...] | None]:
        if "label" not in schema.names:
            return None, None
        columns = ["label"] + (["label_name"] if "label_name" in schema.names else [])
        table = self._file.read(columns=columns)
        values = table.column("label").to_pylist()
        if any(isinstance(value, str) for value in values):
            texts = sorted({value for value in values if value is not None})
            index = {text: number for number, text in enumerate(texts)}
            labels = [-1 if value is None else index[value] for value in values]
            return np.array(labels, dtype=np.int64), tuple(texts)
        if not all(value is None or isinstance(value, int) for value in values):
            raise UnreadableError(
                f"{self.name!r}: column 'label' holds {schema.field('label').type}; "
                "integers or texts are read"
            )
        labels_array = np.array([-1 if v is None else v for v in values], dtype=np.int64)
        if labels_array.max(initial=-1) >= _MAX_CLASSES:
            raise UnreadableError(
                f"{self.name!r}: label {labels_array.max()} is too large for a class index"
            )
        if "label_name" in columns:
            names = table.column("label_name").to_pylist()
            return labels_array, self._named(labels_array, names)
        return labels_array, _stored_names(schema.metadata)

    def _named(self, labels: npt.NDArray[np.int64], names: list[Any]) -> tuple[str, ...]:
        known: dict[int, str] = {}
        for row, (label, name) in enumerate(zip(labels.tolist(), names, strict=True)):
            if label < 0 or name is None:
                continue
            if known.setdefault(label, str(name)) != str(name):
                raise UnreadableError(
                    f"{self.name!r}: label {label} is named {known[label]!r} and, in row {row}, "
                    f"{name!r}"
                )
        top = int(labels.max(initial=-1)) + 1
        return tuple(known.get(label, f"class {label}") for label in range(top))


def _is_struct(kind: Any, name: str) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return True
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return False
    raise UnreadableError(
        f"{name!r}: column 'image' holds {kind}; bytes or a struct of bytes and path are read"
    )


def _stored_names(metadata: Any) -> tuple[str, ...] | None:
    try:
        stored = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        names = stored["info"]["features"]["label"]["names"]
        return tuple(str(name) for name in names)
    except (KeyError, TypeError, ValueError):
        return None
