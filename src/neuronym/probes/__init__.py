"""Probe sets: the images that units are shown."""

from neuronym.probes.base import ProbeSet, Reducible
from neuronym.probes.batches import Batch, Batches, Skipped, batches
from neuronym.probes.decode import ImageLike, decode, picture_of, reduced_side, to_rgb
from neuronym.probes.loading import load
from neuronym.probes.memory import from_dataset, from_images, sampled, subset
from neuronym.probes.pieces import (
    KEYS_PER_PIECE,
    PIECE_LENGTH,
    Pieces,
    ProbePieces,
    check_complete,
    pieces_of,
)
from neuronym.probes.streams import load_pieces

__all__ = [
    "KEYS_PER_PIECE",
    "PIECE_LENGTH",
    "Batch",
    "Batches",
    "ImageLike",
    "Pieces",
    "ProbePieces",
    "ProbeSet",
    "Reducible",
    "Skipped",
    "batches",
    "check_complete",
    "decode",
    "from_dataset",
    "from_images",
    "load",
    "load_pieces",
    "picture_of",
    "pieces_of",
    "reduced_side",
    "sampled",
    "subset",
    "to_rgb",
]
