"""Pieces by SPEC: of every probe set, and of sources that are read while they arrive."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from neuronym.errors import InputError, unknown
from neuronym.probes.loading import STREAM, load
from neuronym.probes.pieces import PIECE_LENGTH, Pieces, pieces_of
from neuronym.probes.rows import RowPieces
from neuronym.probes.tars import TarPieces

__all__ = ["load_pieces"]

STREAMS: Mapping[str, Callable[[str], Pieces]] = {"webdataset": TarPieces, "hf": RowPieces}


def load_pieces(spec: str | os.PathLike[str], *, length: int = PIECE_LENGTH) -> Pieces:
    """Load a source of images as pieces, whatever its size.

    Args:
        spec: Whatever :func:`neuronym.probes.load` takes, which is then cut into pieces of
            ``length`` images; or ``stream:webdataset:URL_PATTERN`` (one piece per tar shard) or
            ``stream:hf:REPO/SPLIT`` (one piece per shard of the dataset), which are neither
            indexed nor downloaded as a whole.
        length: Images per piece of a source that is read at random.

    Raises:
        InputError: The SPEC is malformed, or there is no image.
        UnknownNameError: A name in it is not known.
        MissingError: A file or folder does not exist.
        UnreadableError: A file is not what its name says.
        UnavailableError: A library or the network is missing.
    """
    text = os.fspath(spec)
    if not text.startswith(STREAM):
        return pieces_of(load(text), length=length)
    kind, colon, rest = text.removeprefix(STREAM).partition(":")
    if kind not in STREAMS:
        raise unknown("stream", f"{STREAM}{kind}", [f"{STREAM}{known}" for known in STREAMS])
    if not colon or not rest:
        raise InputError(
            f"images {text!r} must be stream:webdataset:URL_PATTERN or stream:hf:REPO/SPLIT"
        )
    return STREAMS[kind](rest)
