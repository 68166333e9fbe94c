"""Probe sets: the images that units are shown."""

from neuronym.probes.base import ProbeSet
from neuronym.probes.batches import Batch, Batches, Skipped, batches
from neuronym.probes.decode import decode, to_rgb
from neuronym.probes.loading import load
from neuronym.probes.memory import from_dataset, from_images, subset

__all__ = [
    "Batch",
    "Batches",
    "ProbeSet",
    "Skipped",
    "batches",
    "decode",
    "from_dataset",
    "from_images",
    "load",
    "subset",
    "to_rgb",
]
