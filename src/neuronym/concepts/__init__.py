"""Concept sets: the words and phrases that units are named by."""

from neuronym.concepts.attributes import attribute_words, canonical
from neuronym.concepts.base import TEMPLATES, ConceptSet
from neuronym.concepts.loading import BUILT_IN, from_words, load

__all__ = [
    "BUILT_IN",
    "TEMPLATES",
    "ConceptSet",
    "attribute_words",
    "canonical",
    "from_words",
    "load",
]
