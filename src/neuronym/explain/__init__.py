"""Why one image got its decision: winners, their names and their signed contributions."""

from neuronym.explain.contributions import Contributions, contributions
from neuronym.explain.one import (
    Examination,
    ExplainOptions,
    examine,
    explain,
    explain_images,
    explain_sites,
    image_winners,
)
from neuronym.explain.places import Grid, PositionMap
from neuronym.explain.select import asks_for_several, select_sites

__all__ = [
    "Contributions",
    "Examination",
    "ExplainOptions",
    "Grid",
    "PositionMap",
    "asks_for_several",
    "contributions",
    "examine",
    "explain",
    "explain_images",
    "explain_sites",
    "image_winners",
    "select_sites",
]
