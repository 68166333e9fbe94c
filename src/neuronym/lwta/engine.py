"""One entry to the competition: picks the path and connects it to autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuronym.lwta import plain
from neuronym.lwta.plain import Outcome, Rule

__all__ = ["run"]


class _Compete(torch.autograd.Function):
    """Saves the activations, the packed winners and the key; recomputes the rest."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, rule: Rule) -> tuple[Tensor, Tensor, Tensor | None]:
        outcome = plain.forward(z, rule)
        ctx.rule = rule
        ctx.save_for_backward(z, outcome.winners)
        ctx.mark_non_differentiable(outcome.winners)
        ctx.set_materialize_grads(False)
        return tuple(outcome)  # type: ignore[return-value]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor | None, _: None, grad_kl: Tensor | None
    ) -> tuple[Tensor | None, None]:
        if grad is None and grad_kl is None:
            return None, None
        z, winners = ctx.saved_tensors
        return plain.backward(z, winners, grad, grad_kl, ctx.rule), None


def run(z: Tensor, rule: Rule) -> Outcome:
    """Let the units of ``z`` compete by ``rule`` (already checked)."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return plain.literal(z, rule)
    if isinstance(rule.key, Tensor):
        rule = Rule(rule.competitors, rule.axis, rule.temperature, int(rule.key), rule.kl)
    if torch.is_grad_enabled() and z.requires_grad:
        return Outcome(*_Compete.apply(z, rule))
    return plain.forward(z, rule)
