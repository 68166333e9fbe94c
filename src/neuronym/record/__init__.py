"""Recording: sites, poolings, and the activations of a probe set in a store."""

from neuronym.masks import MaskReader
from neuronym.record.capture import Capture, Captured, positions_last
from neuronym.record.pooling import DEFAULTS, POOLINGS, Pooling, PoolingChoice, pooling_for
from neuronym.record.recorder import Recorder, SiteStats, Transform
from neuronym.record.recording import Plan, Recording, RecordOptions, feed, record
from neuronym.record.sites import Site, Sites, find_sites

__all__ = [
    "DEFAULTS",
    "POOLINGS",
    "Capture",
    "Captured",
    "MaskReader",
    "Plan",
    "Pooling",
    "PoolingChoice",
    "RecordOptions",
    "Recorder",
    "Recording",
    "Site",
    "SiteStats",
    "Sites",
    "Transform",
    "feed",
    "find_sites",
    "pooling_for",
    "positions_last",
    "record",
]
