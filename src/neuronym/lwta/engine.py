"""One entry to the competition: picks the path and connects it to autograd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuronym.lwta import fused, plain
from neuronym.lwta.plain import Outcome, Rule

__all__ = ["run"]


class _Compete(torch.autograd.Function):
    """Saves the activations, the packed winners and the key; recomputes the rest."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, rule: Rule, path: Any) -> tuple[Tensor, Tensor, Tensor | None]:
        outcome = path.forward(z, rule)
        ctx.rule, ctx.path = rule, path
        ctx.save_for_backward(z, outcome.winners)
        ctx.mark_non_differentiable(outcome.winners)
        ctx.set_materialize_grads(False)
        return tuple(outcome)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor | None, _: None, grad_kl: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        if grad is None and grad_kl is None:
            return None, None, None
        z, winners = ctx.saved_tensors
        return ctx.path.backward(z, winners, grad, grad_kl, ctx.rule), None, None


def capturing() -> bool:
    """Whether a graph is captured or a function transformed: plain operations are wanted."""
    return (
        torch.compiler.is_compiling()
        or bool(torch._C._get_tracing_state())
        or torch._C._are_functorch_transforms_active()
    )


def run(z: Tensor, rule: Rule) -> Outcome:
    """Let the units of ``z`` compete by ``rule`` (already checked).

    Fused kernels serve float32 on the CPU; half precision there is computed in float32.
    ``torch.compile``, ``torch.export`` (also on its way to ONNX), ``torch.jit.trace`` and function
    transforms see plain operations: the formula where winners are drawn, a comparison and a choice
    where the largest wins. Everything else runs plain operations that keep only activations,
    winners and key for the backward pass.
    """
    if capturing():
        return plain.forward(z, rule) if rule.key is None else plain.literal(z, rule)
    if isinstance(rule.key, Tensor):
        rule = replace(rule, key=int(rule.key))
    if z.dtype in (torch.bfloat16, torch.float16) and z.device.type == "cpu":
        wide = run(z.float(), rule)
        return wide._replace(y=wide.y.to(z.dtype))
    if not fused.supports(z, rule):
        return _run(z, rule, plain)
    readable = fused.dense(z, rule.axis)
    outcome = _run(readable, rule, fused)
    if readable is not z and z.is_contiguous():
        return outcome._replace(y=outcome.y.contiguous())
    return outcome


def _run(z: Tensor, rule: Rule, path: Any) -> Outcome:
    if torch.is_grad_enabled() and z.requires_grad:
        return Outcome(*_Compete.apply(z, rule, path))
    outcome: Outcome = path.forward(z, rule)
    return outcome
