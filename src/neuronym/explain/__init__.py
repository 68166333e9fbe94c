"""Why an image got its decision: winners, their names and their signed contributions."""

from neuronym.explain.contributions import Contributions, contributions
from neuronym.explain.many import ExplainSetOptions, explain_set
from neuronym.explain.multi import Place, SiteContributions, attribute_sites
from neuronym.explain.one import explain, explain_images, image_winners
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
    "ExplainSetOptions",
    "Place",
    "SiteBatch",
    "SiteContributions",
    "attribute_sites",
    "contribution_batches",
    "contributions",
    "explain",
    "explain_images",
    "explain_set",
    "image_winners",
]
