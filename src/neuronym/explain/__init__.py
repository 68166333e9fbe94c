"""Why an image got its decision: winners, their names and their signed contributions."""

from neuronym.explain.contributions import Contributions, contributions
from neuronym.explain.many import ExplainSetOptions, explain_set
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
from neuronym.explain.stream import (
    ContributionBatch,
    ContributionBatches,
    SiteBatch,
    contribution_batches,
)

__all__ = [
    "ContributionBatch",
    "ContributionBatches",
    "Contributions",
    "Examination",
    "ExplainOptions",
    "ExplainSetOptions",
    "Grid",
    "PositionMap",
    "SiteBatch",
    "asks_for_several",
    "contribution_batches",
    "contributions",
    "examine",
    "explain",
    "explain_images",
    "explain_set",
    "explain_sites",
    "image_winners",
    "select_sites",
]
