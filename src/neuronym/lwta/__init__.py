"""Competition: stochastic local winner-takes-all in place of activation functions."""

from neuronym.lwta import functional
from neuronym.lwta.elbo import kl_per_layer, kl_to_uniform, negative_elbo
from neuronym.lwta.functional import mask_from_winners
from neuronym.lwta.module import LWTA, lwta_modules, sampling
from neuronym.lwta.trace import Competition, Trace, trace

__all__ = [
    "LWTA",
    "Competition",
    "Trace",
    "functional",
    "kl_per_layer",
    "kl_to_uniform",
    "lwta_modules",
    "mask_from_winners",
    "negative_elbo",
    "sampling",
    "trace",
]
