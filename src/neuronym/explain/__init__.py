"""Why one image got its decision: winners, their names and their signed contributions."""

from neuronym.explain.contributions import Contributions, contributions

__all__ = ["Contributions", "contributions"]
