"""Fit the small arrays of the pocket vision-text model."""

from neuronym.fit_pocket.card import write_figures
from neuronym.fit_pocket.fit import KIND, fit_pocket
from neuronym.fit_pocket.settings import FitSettings
from neuronym.fit_pocket.vocabulary import held_out, held_out_photo
from neuronym.fit_pocket.wordnet import WordNet

__all__ = [
    "KIND",
    "FitSettings",
    "WordNet",
    "fit_pocket",
    "held_out",
    "held_out_photo",
    "write_figures",
]
