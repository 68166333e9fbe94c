"""Probe sets: the images that units are shown."""

from neuronym.probes.base import ProbeSet

__all__ = ["ProbeSet"]
