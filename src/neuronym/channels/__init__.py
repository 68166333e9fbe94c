"""Which dimension of a tensor holds the units, followed from what computed it."""

from __future__ import annotations

from neuronym.channels.rules import Origin
from neuronym.channels.tracker import ChannelTracker

__all__ = ["ChannelTracker", "Origin"]
