"""The divergence from the uniform prior and the negative ELBO, as functions of a trace."""

from __future__ import annotations

import math

from torch import Tensor

from neuronym.errors import InputError
from neuronym.lwta.layout import to_blocks
from neuronym.lwta.plain import compute_dtype, divergence
from neuronym.lwta.trace import Competition, Trace

__all__ = ["kl_per_layer", "kl_to_uniform", "negative_elbo"]


def _kl_sum(competition: Competition) -> Tensor:
    """Return the KL of one competition in nats, summed over blocks, positions and the batch."""
    if competition.kl is not None:
        return competition.kl
    z = competition.logits
    if z is None:
        raise InputError(
            f"the trace of {competition.name!r} kept neither 'kl' nor 'logits'; "
            "trace with keep='kl'"
        )
    among = competition.channel_dim + 1
    blocks = to_blocks(z.to(compute_dtype(z.dtype)), competition.competitors, among - 1)
    return divergence(blocks, among)


def _divided(competition: Competition, inputs: int) -> Tensor:
    return _kl_sum(competition) / max(1, inputs or competition.batch)


def kl_per_layer(trace: Trace, *, batch: int | None = None) -> dict[str, Tensor]:
    """Return each module's KL of q from the uniform prior, in nats per image.

    ``KL = Σ_positions Σ_b Σ_u q[b,u] (log q[b,u] + log U)`` with ``q = softmax_u(z)`` (no noise,
    no temperature), averaged over the batch. Calls of one module are added.

    Args:
        trace: From :func:`neuronym.lwta.trace` with ``keep="kl"`` (or ``"logits"``).
        batch: Number of images that the sum is divided by. Default: the images that went through
            the traced model, or, where only a part was called, the first dimension of each call.

    Returns:
        Module name → 0-dimensional tensor, at least 0 up to rounding, at most
        ``positions · B · log U``; differentiable where the trace was made with gradients.

    Raises:
        InputError: The trace kept nothing to compute it from, or ``batch`` is below 1.
    """
    if batch is not None and batch < 1:
        raise InputError(f"batch must be at least 1, not {batch}")
    layers: dict[str, Tensor] = {}
    for competition in trace:
        value = _divided(competition, batch or trace.inputs)
        before = layers.get(competition.name)
        layers[competition.name] = value if before is None else before + value
    return layers


def kl_to_uniform(trace: Trace, *, batch: int | None = None) -> Tensor:
    """Return the KL of q from the uniform prior in nats: the sum of :func:`kl_per_layer`.

    It is summed over blocks, positions and layers and averaged over the batch.

    Raises:
        InputError: The trace is empty, or as in :func:`kl_per_layer`.
    """
    layers = list(kl_per_layer(trace, batch=batch).values())
    if not layers:
        raise InputError("the trace is empty: run the model inside `with trace(model)`")
    total = layers[0]
    for value in layers[1:]:
        total = total + value.to(total.device)
    return total


def negative_elbo(
    cross_entropy: Tensor, trace: Trace, *, kl_weight: float = 1.0, batch: int | None = None
) -> Tensor:
    """Return ``cross_entropy + kl_weight · KL``, the loss that training minimises.

    Args:
        cross_entropy: Minus the log-likelihood in nats, averaged over the batch, of the forward
            that ``trace`` recorded (one sample of the winners).
        trace: The competitions of that forward.
        kl_weight: Scale of the divergence, at least 0; 1 is the evidence lower bound, and 0
            switches the term off (the divergence is then not needed in the trace).
        batch: As in :func:`kl_per_layer`.

    Raises:
        InputError: ``kl_weight`` is negative or not finite, or as in :func:`kl_to_uniform`.
    """
    if not 0 <= kl_weight < math.inf:
        raise InputError(f"kl_weight must be a finite number of at least 0, not {kl_weight!r}")
    if kl_weight == 0:
        return cross_entropy
    return cross_entropy + kl_weight * kl_to_uniform(trace, batch=batch).to(cross_entropy.device)
