"""Sketches: what recording keeps instead of matrices; all of it merges in any order."""

from neuronym.record.sketches.moments import ImageMoments
from neuronym.record.sketches.sample import Sample
from neuronym.record.sketches.site import Counted, SiteShape, SiteSketch, Won

__all__ = ["Counted", "ImageMoments", "Sample", "SiteShape", "SiteSketch", "Won"]
