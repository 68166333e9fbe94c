"""Find units: by a text, by their names, by example images, and by what else is like them."""

from neuronym.search.image import ImageMatch, UnitFiring, match_image
from neuronym.search.names import NameHit, match_name
from neuronym.search.similar import SimilarUnit, similar_units
from neuronym.search.text import TextMatch, UnitMatch, match_text, match_texts

__all__ = [
    "ImageMatch",
    "NameHit",
    "SimilarUnit",
    "TextMatch",
    "UnitFiring",
    "UnitMatch",
    "match_image",
    "match_name",
    "match_text",
    "match_texts",
    "similar_units",
]
