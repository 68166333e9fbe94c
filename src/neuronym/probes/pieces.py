"""A source cut into pieces that are read on their own, so that its size does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from neuronym.errors import InputError, UnreadableError
from neuronym.files import fingerprint
from neuronym.probes.ahead import Prepare, Reading
from neuronym.probes.base import ProbeSet
from neuronym.probes.batches import Batches, items_of

__all__ = [
    "KEYS_PER_PIECE",
    "PIECE_LENGTH",
    "Pieces",
    "ProbePieces",
    "check_complete",
    "check_piece",
    "check_skip",
    "pieces_of",
]

PIECE_LENGTH = 4096
"""Images per piece of a probe set that is read at random."""
KEYS_PER_PIECE = 2**32
"""The key of an image of a stream is piece × this + position."""


@runtime_checkable
class Pieces(Protocol):
    """A source of images as a sequence of pieces.

    Attributes:
        name: The SPEC that loads it.
        fingerprint: Identifies the images and how they are cut, by content or by what determines
            it. Pieces of equal fingerprint hold the same images at the same positions.
        label_names: Name of each class index, or ``None``.
        count: Number of pieces.
        total: Number of images, or ``None`` where it is not known before they are read.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def label_names(self) -> tuple[str, ...] | None: ...

    @property
    def count(self) -> int: ...

    @property
    def total(self) -> int | None: ...

    def length(self, piece: int) -> int | None:
        """Return the number of images of a piece, or ``None`` where it is not known yet."""
        ...

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
        """Read one piece in batches, in order; see :func:`neuronym.probes.batches`.

        A piece without a good image gives no batch and is no error.

        Args:
            piece: Which one, from 0.
            batch_size: Images per batch.
            workers: Threads that decode.
            skip: Leave out so many positions, good or broken: ``Batch.end`` of the last batch
                that was used, to go on after it.
            at_least: Decode JPEG files at reduced size.
            prepare: Name → function of an image, run where it was decoded.

        Raises:
            InputError: There is no such piece, or a number is out of range.
            UnreadableError: (In the iteration, after the images before it.) The piece is damaged
                or ends early.
            UnavailableError: (In the iteration.) It cannot be reached, or broke off.
        """
        ...


class ProbePieces:
    """A probe set in pieces of equal length; keys are places in the probe set.

    Attributes:
        probes: The probe set.
        piece_length: Images of every piece but the last.
    """

    def __init__(self, probes: ProbeSet, length: int) -> None:
        """Use :func:`pieces_of`."""
        self.probes, self.piece_length = probes, length
        self.name = probes.name
        self.label_names = probes.label_names
        self.total = len(probes)
        self.count = -(-self.total // length)

    @property
    def fingerprint(self) -> str:
        """Of the probe set's fingerprint and the length of a piece."""
        return fingerprint("pieces", self.probes.fingerprint, self.piece_length)

    def length(self, piece: int) -> int:
        """Return the number of images of a piece."""
        check_piece(self, piece)
        return min(self.piece_length, self.total - piece * self.piece_length)

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
        """Read one piece; see :meth:`Pieces.open`."""
        length = self.length(piece)
        check_skip(self, piece, skip)
        first = piece * self.piece_length
        return Batches(
            items_of(self.probes, range(first + skip, first + length), start=skip),
            Reading(batch_size, workers, at_least, prepare or {}),
            total=length - skip,
            labelled=self.probes.labels is not None,
            start=skip,
        )


def pieces_of(probes: ProbeSet, *, length: int = PIECE_LENGTH) -> ProbePieces:
    """Cut a probe set into pieces of ``length`` images; the last one may be shorter.

    Raises:
        InputError: ``length`` is not in 1 to 2³² - 1.
    """
    if not 0 < length < KEYS_PER_PIECE:
        raise InputError(f"length of a piece must be in 1 to {KEYS_PER_PIECE - 1}, not {length}")
    return ProbePieces(probes, length)


def check_piece(pieces: Pieces, piece: int) -> None:
    """Refuse a piece that is not there.

    Raises:
        InputError: ``piece`` is out of range.
    """
    if not 0 <= piece < pieces.count:
        raise InputError(
            f"piece must be in 0 to {pieces.count - 1} of {pieces.name!r}, not {piece}"
        )


def check_skip(pieces: Pieces, piece: int, skip: int) -> None:
    """Refuse a piece that is not there, or a number of positions that it does not have.

    Raises:
        InputError: ``piece`` or ``skip`` is out of range.
    """
    length = pieces.length(piece)
    if skip < 0 or (length is not None and skip > length):
        most = "0 or more" if length is None else f"in 0 to {length}"
        raise InputError(f"skip must be {most} in piece {piece} of {pieces.name!r}, not {skip}")


def check_complete(pieces: Pieces, ends: Sequence[int]) -> None:
    """Refuse a source that gave another number of images than it said it has.

    Args:
        pieces: The source.
        ends: ``Batches.end`` of every piece after it was read, in order.

    Raises:
        InputError: ``ends`` has not one number per piece.
        UnreadableError: Their sum is not ``pieces.total`` (where that is known).
    """
    if len(ends) != pieces.count:
        raise InputError(f"{len(ends)} ends for the {pieces.count} pieces of {pieces.name!r}")
    if pieces.total is not None and sum(ends) != pieces.total:
        raise UnreadableError(
            f"{pieces.name!r} gave {sum(ends)} images, and says that it has {pieces.total}; "
            "it ended early or has changed"
        )
