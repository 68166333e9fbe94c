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
from neuronym.lwta.finite import finite
from neuronym.lwta.functional import mask_from_winners
from neuronym.lwta.inference import Prediction, inference, predict_samples, sampling
from neuronym.lwta.module import LWTA, lwta_modules
from neuronym.lwta.report import ConversionReport, SparsityReport
from neuronym.lwta.rules import DEFAULT_RULES
from neuronym.lwta.schedules import set_temperature
from neuronym.lwta.sparse import sparsify, sparsity_report
from neuronym.lwta.trace import Competition, Trace, trace

__all__ = [
    "DEFAULT_RULES",
    "LWTA",
    "Competition",
    "ConversionReport",
    "Diagnosis",
    "LayerDiagnosis",
    "Prediction",
    "SparsityReport",
    "Trace",
    "active_fraction",
    "convert",
    "diagnose",
    "finite",
    "functional",
    "gradual",
    "inference",
    "kl_per_layer",
    "kl_to_uniform",
    "lwta_modules",
    "mask_from_winners",
    "negative_elbo",
    "predict_samples",
    "sampling",
    "set_temperature",
    "sparsify",
    "sparsity_report",
    "trace",
    "win_counts",
    "win_counts_of_trace",
    "win_entropy",
]
