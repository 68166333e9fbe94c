"""How far the straight-through gradient is from the gradient of the exact expectation."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from neuronym.errors import InputError
from neuronym.lwta.functional import DEFAULT_TEMPERATURE, checked_axis, compete

__all__ = ["Bias", "exact_gradient", "straight_through_bias"]

MOST_OUTCOMES = 4096


@dataclass(frozen=True)
class Bias:
    """The mean straight-through gradient against the exact one.

    Attributes:
        exact: Gradient of ``E_q[objective(ξ·z)]``, ``(K,)``.
        estimate: Mean of the straight-through gradients over the samples, ``(K,)``.
        relative: ``‖estimate − exact‖ / ‖exact‖``.
        cosine: Cosine of the angle between the two.
        standard_error: Norm of the estimate's standard error over ``‖exact‖``: the part of
            ``relative`` that more samples would remove is of this size.
        samples: Number of samples.
    """

    exact: Tensor
    estimate: Tensor
    relative: float
    cosine: float
    standard_error: float
    samples: int


def exact_gradient(z: Tensor, objective: Callable[[Tensor], Tensor], *, competitors: int) -> Tensor:
    """Return the gradient at ``z`` of ``Σ_ξ q(ξ) objective(ξ·z)``, over all outcomes ξ.

    Args:
        z: ``(K,)`` activations of one position.
        objective: ``(N, K)`` outputs → ``(N,)`` values.
        competitors: U; there are ``U ** (K / U)`` outcomes, at most 4096.

    Raises:
        InputError: There are more outcomes, or ``z`` is not one-dimensional.
    """
    _check(z, competitors)
    blocks = z.numel() // competitors
    if competitors**blocks > MOST_OUTCOMES:
        raise InputError(
            f"{blocks} blocks of {competitors} have {competitors**blocks} outcomes; "
            f"at most {MOST_OUTCOMES} can be added up"
        )
    leaf = z.detach().double().requires_grad_()
    outcomes = torch.tensor(
        list(itertools.product(range(competitors), repeat=blocks)), device=z.device
    )
    hard = torch.nn.functional.one_hot(outcomes, competitors).double().flatten(1)
    log_q = torch.log_softmax(leaf.view(blocks, competitors), 1).flatten()
    chance = (hard @ log_q).exp()
    (gradient,) = torch.autograd.grad((chance * objective(hard * leaf)).sum(), leaf)
    return gradient


def straight_through_bias(
    z: Tensor,
    objective: Callable[[Tensor], Tensor],
    *,
    competitors: int,
    temperature: float = DEFAULT_TEMPERATURE,
    samples: int = 100_000,
    generator: torch.Generator | None = None,
) -> Bias:
    """Measure the bias of the straight-through gradient of ``E_q[objective(ξ·z)]`` at ``z``.

    Args:
        z: ``(K,)`` activations of one position.
        objective: ``(N, K)`` outputs → ``(N,)`` values, in float64.
        competitors: U.
        temperature: τ of the relaxed sample.
        samples: Number of samples, at least 2.
        generator: Source of the noise's key.

    Raises:
        InputError: As in :func:`exact_gradient`, or ``samples`` is below 2.
    """
    if samples < 2:
        raise InputError(f"samples must be at least 2, not {samples}")
    exact = exact_gradient(z, objective, competitors=competitors)
    leaf = z.detach().double().expand(samples, -1).clone().requires_grad_()
    y = compete(leaf, competitors, temperature=temperature, generator=generator)
    (gradients,) = torch.autograd.grad(objective(y).sum(), leaf)
    estimate = gradients.mean(0)
    error = gradients.std(0) / samples**0.5
    size = exact.norm()
    return Bias(
        exact=exact,
        estimate=estimate,
        relative=float((estimate - exact).norm() / size),
        cosine=float(torch.cosine_similarity(estimate, exact, dim=0)),
        standard_error=float(error.norm() / size),
        samples=samples,
    )


def _check(z: Tensor, competitors: int) -> None:
    if z.dim() != 1:
        raise InputError(f"z must be one position, (K,), not of shape {tuple(z.shape)}")
    checked_axis(z, competitors, 0)
