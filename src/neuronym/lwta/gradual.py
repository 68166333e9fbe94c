"""From a dense network to a competitive one by small steps.

A trained network whose activations become competition at once is another network: all but one of U
units fall silent. Here the output of each site moves from the dense activation to
the competition's,

    y = (1 − α) · act(z) + α · ξ·z,

with the *share* α going from 0 (the dense network, exactly) to 1 (competition, exactly) over the
first steps of training. Winners are drawn, or are the largest, as in any
:class:`~neuronym.lwta.LWTA`; their noise enters with weight α. The weights follow while the
losers fade. ``docs/competition.md`` compares it with the abrupt change.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from neuronym.errors import InputError, unknown
from neuronym.lwta.convert import convert
from neuronym.lwta.functional import DEFAULT_TEMPERATURE
from neuronym.lwta.module import LWTA, lwta_modules
from neuronym.lwta.report import ConversionReport
from neuronym.lwta.rules import DEFAULT_RULES, Rules
from neuronym.lwta.survey import Example

__all__ = ["SHARES", "GradualLWTA", "begin", "blend", "finish", "set_share", "share_at"]


def checked_share(share: float) -> float:
    """Return ``share`` as a float if it is in [0, 1].

    Raises:
        InputError: It is not.
    """
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    if not number or not 0 <= share <= 1:
        raise InputError(f"share must be in [0, 1], not {share!r}")
    return float(share)


def blend(dense: Tensor, competitive: Tensor, share: float) -> Tensor:
    """Return ``(1 − share) · dense + share · competitive``; at 0 and 1 the tensor itself.

    Args:
        dense: ``act(z)``.
        competitive: ``ξ·z``, of the same shape.
        share: α in [0, 1].

    Raises:
        InputError: ``share`` is outside, or the shapes differ.
    """
    checked_share(share)
    if dense.shape != competitive.shape:
        raise InputError(
            f"dense and competitive outputs differ in shape: {tuple(dense.shape)} and "
            f"{tuple(competitive.shape)}"
        )
    if share == 0:
        return dense
    if share == 1:
        return competitive
    return (1 - share) * dense + share * competitive


class GradualLWTA(LWTA):
    """An LWTA module that is, for a share 1 − α, still the activation it replaces.

    Attributes:
        share: α in [0, 1]; may be changed between steps. With 0 no winner is looked for, unless a
            trace asks.
    """

    def __init__(
        self,
        activation: nn.Module,
        competitors: int,
        channel_dim: int = -1,
        *,
        temperature: float = DEFAULT_TEMPERATURE,
        mode: str = "auto",
        share: float = 0.0,
    ) -> None:
        """Wrap a copy of ``activation``, which must have no parameters and no buffers.

        Raises:
            InputError: It has some, or another argument is not allowed.
        """
        super().__init__(competitors, channel_dim, temperature=temperature, mode=mode)
        if activation.state_dict():
            raise InputError(
                f"{type(activation).__name__} has weights of its own, and cannot fade into "
                "competition without a change of the state dict"
            )
        self.share = checked_share(share)
        # Held in a tuple: a second conversion must not see a module to replace in here.
        self._dense = (_not_in_place(activation),)

    @property
    def activation(self) -> nn.Module:
        """The dense activation that fades."""
        return self._dense[0]

    @property
    def passes_winners(self) -> bool:
        """Whether the dense activation is gone, and the output is ``ξ·z``."""
        return self.share == 1 and super().passes_winners

    def train(self, mode: bool = True) -> GradualLWTA:
        """Set the mode here and in the dense activation."""
        super().train(mode)
        self.activation.train(mode)
        return self

    def forward(self, z: Tensor) -> Tensor:
        """Return ``(1 − α) · act(z) + α · ξ·z``, shaped like ``z``."""
        if self.share == 1:
            return super().forward(z)
        dense: Tensor = self.activation(z)
        if self.share == 0 and not self._recorders:
            return dense
        return blend(dense, super().forward(z), self.share)

    def hardened(self) -> LWTA:
        """Return the plain module that this one is at α = 1."""
        plain = LWTA(
            self.competitors, self.channel_dim, temperature=self.temperature, mode=self.mode
        )
        for name, value in self.__dict__.items():  # hooks, and what was set on this module
            if name.endswith("_hooks") or name in ("hands_winners", "relaxed", "edit"):
                plain.__dict__[name] = value
        return plain.train(self.training)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, share={self.share:g}, dense={self.activation}"


def _not_in_place(activation: nn.Module) -> nn.Module:
    """Return a copy that leaves its input, which competes too, as it is."""
    result = copy.deepcopy(activation)
    for part in result.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]
    return result


def begin(
    model: nn.Module,
    competitors: int,
    *,
    example: Example | None = None,
    skip: Sequence[str] = (),
    channel_dims: Mapping[str, int] | None = None,
    rules: Rules = DEFAULT_RULES,
) -> tuple[nn.Module, ConversionReport]:
    """Convert as :func:`neuronym.lwta.convert` does, into modules that begin dense (α = 0).

    The copy's outputs are those of ``model``, and so are its weights, buffers and the keys of its
    state dict. LWTA modules that ``model`` has already stay as they are.

    Raises:
        NeuronymError: As :func:`neuronym.lwta.convert`.
    """
    result, report = convert(
        model, competitors, example=example, skip=skip, channel_dims=channel_dims, rules=rules
    )
    for site in report.replaced:
        hard = result.get_submodule(site.name)
        soft = GradualLWTA(model.get_submodule(site.name), site.competitors, site.channel_dim)
        soft.train(hard.training)
        if not site.name:
            return soft, report
        for name in (site.name, *site.aliases):
            _put(result, name, soft)
    return result, report


def set_share(model: nn.Module, share: float) -> int:
    """Set α of every :class:`GradualLWTA` of ``model``; return how many there are.

    Raises:
        InputError: ``share`` is outside [0, 1].
    """
    value = checked_share(share)
    modules = [part for part in model.modules() if isinstance(part, GradualLWTA)]
    for module in modules:
        module.share = value
    return len(modules)


def finish(model: nn.Module) -> nn.Module:
    """Put a plain :class:`~neuronym.lwta.LWTA` in place of every gradual module.

    The model is changed in place and returned (a model that is one gradual module itself comes
    back as a new one). Weights and the state dict's keys do not change.
    """
    if isinstance(model, GradualLWTA):
        return model.hardened()
    fresh = {
        id(part): part.hardened()
        for part in lwta_modules(model).values()
        if isinstance(part, GradualLWTA)
    }
    for name, part in list(model.named_modules(remove_duplicate=False)):
        if id(part) in fresh:
            _put(model, name, fresh[id(part)])
    return model


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    model.get_submodule(parent)._modules[last] = module


def _linear(progress: float) -> float:
    return progress


def _cosine(progress: float) -> float:
    return (1 - math.cos(math.pi * progress)) / 2


SHARES: dict[str, Callable[[float], Any]] = {"linear": _linear, "cosine": _cosine}
"""α as a function of the progress in [0, 1]: in a straight line, or along half a cosine."""


def share_at(step: int, *, steps: int, shape: str = "linear") -> float:
    """Return α at a step: 0 at step 0, and 1 from step ``steps`` on.

    Args:
        step: From 0.
        steps: Length of the path; 0 is competition from the first step.
        shape: A key of :data:`SHARES`.

    Raises:
        UnknownNameError: There is no such shape.
        InputError: A number is negative.
    """
    if shape not in SHARES:
        raise unknown("shape of the share", shape, list(SHARES))
    if step < 0 or steps < 0:
        raise InputError(f"step and steps must be at least 0, not {step} and {steps}")
    return 1.0 if step >= steps else float(SHARES[shape](step / steps))
