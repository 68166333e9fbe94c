"""Why one image got its decision: winners, their names and their signed contributions."""

from neuronym.explain.contributions import Contributions, contributions
from neuronym.explain.one import explain, explain_images, image_winners

__all__ = ["Contributions", "contributions", "explain", "explain_images", "image_winners"]
