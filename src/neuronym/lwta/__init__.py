"""Competition: stochastic local winner-takes-all in place of activation functions."""

from neuronym.lwta import functional, gradual
from neuronym.lwta.convert import convert
from neuronym.lwta.diagnostics import (
    Diagnosis,
    LayerDiagnosis,
    active_fraction,
    diagnose,
    win_counts,
    win_counts_of_trace,
    win_entropy,
)
from neuronym.lwta.elbo import kl_per_layer, kl_to_uniform, negative_elbo
from neuronym.lwta.functional import mask_from_winners
from neuronym.lwta.module import LWTA, lwta_modules, sampling
from neuronym.lwta.report import ConversionReport
from neuronym.lwta.rules import DEFAULT_RULES
from neuronym.lwta.schedules import set_temperature
from neuronym.lwta.trace import Competition, Trace, trace

__all__ = [
    "DEFAULT_RULES",
    "LWTA",
    "Competition",
    "ConversionReport",
    "Diagnosis",
    "LayerDiagnosis",
    "Trace",
    "active_fraction",
    "convert",
    "diagnose",
    "functional",
    "gradual",
    "kl_per_layer",
    "kl_to_uniform",
    "lwta_modules",
    "mask_from_winners",
    "negative_elbo",
    "sampling",
    "set_temperature",
    "trace",
    "win_counts",
    "win_counts_of_trace",
    "win_entropy",
]
