"""Which modules ``convert`` replaces: an ordered list of pairs, first match wins.

A pair is (type, action). The type is a class, matched with its subclasses, or the bare name of a
class, so that libraries need not be imported. The action is ``"replace"``, or ``"keep"`` for the
module *and everything inside it*.

Kept by default are gates, whose outputs weigh other units and are not units themselves:
squeeze-and-excitation and its relatives as a whole (with the activation between their two
projections), gated linear units, and sigmoids; further tanh (used as a squashing output). An
activation that has weights of its own, such as PReLU, is kept whatever the rules say, as a
conversion must not change the state dict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from torch import nn

from neuronym.errors import InputError, unknown

__all__ = ["ACTIONS", "DEFAULT_RULES", "FUNCTIONS", "Rules", "action_for", "checked_rules"]

ACTIONS = ("replace", "keep")
Rules: TypeAlias = Sequence[tuple[type[nn.Module] | str, str]]

_GATES = (
    *("SqueezeExcitation", "SqueezeExcite", "SEModule", "SEWithNorm", "EffectiveSEModule"),
    *("EcaModule", "CecaModule", "GlobalContext", "GatherExcite", "CbamModule", "LightCbamModule"),
    *("SplitAttn", "SelectiveKernel", "GluMlp", "SwiGLU", "SwiGLUPacked", "GatedMlp"),
)
_REPLACED: tuple[type[nn.Module] | str, ...] = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Hardswish, nn.Softplus),
    *("Swish", "SwishMe", "SwishJit", "HardSwish", "HardSwishMe", "HardSwishJit"),
    *("HardMish", "HardMishMe", "HardMishJit", "MishMe", "MishJit", "Mish"),
    *(
        "GELU",
        "GELUTanh",
        "QuickGELU",
        "QuickGELUActivation",
        "NewGELUActivation",
        "GELUActivation",
    ),
    *("FastGELUActivation", "SiLUActivation", "ReLUSquaredActivation", "SquaredReLU"),
)

DEFAULT_RULES: Rules = (
    *((gate, "keep") for gate in _GATES),
    *((activation, "replace") for activation in _REPLACED),
    *((kept, "keep") for kept in (nn.PReLU, "StarReLU", nn.Sigmoid, nn.Hardsigmoid, nn.Tanh)),
    *((kept, "keep") for kept in ("Sigmoid", "HardSigmoid", "HardSigmoidMe", "Tanh")),
)
"""The rules of :func:`neuronym.lwta.convert`. To change them, put pairs in front:
``[(nn.Sigmoid, "replace"), *DEFAULT_RULES]``."""

FUNCTIONS = frozenset(
    {
        *("relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "rrelu", "rrelu_", "elu", "elu_"),
        *("selu", "selu_", "celu", "celu_", "gelu", "silu", "mish", "hardswish", "softplus"),
    }
)
"""Names of functional activations that ``convert`` reports, as it cannot replace them."""


def checked_rules(rules: Iterable[tuple[object, object]]) -> Rules:
    """Return ``rules`` as a list of valid pairs.

    Raises:
        InputError: An entry is not a pair of a module class (or its name) and an action.
        UnknownNameError: An action is neither of the two.
    """
    found: list[tuple[type[nn.Module] | str, str]] = []
    for entry in rules:
        if not (isinstance(entry, tuple) and len(entry) == 2):
            raise InputError(f"a rule must be a pair (type or class name, action), not {entry!r}")
        kind, action = entry
        if not (isinstance(kind, str) or (isinstance(kind, type) and issubclass(kind, nn.Module))):
            raise InputError(f"a rule's type must be a module class or its name, not {kind!r}")
        if action not in ACTIONS:
            raise unknown("action of a rule", str(action), ACTIONS)
        found.append((kind, str(action)))
    return found


def action_for(module: nn.Module, rules: Rules) -> str | None:
    """Return the action of the first rule that matches ``module``, or ``None``."""
    for kind, action in rules:
        if type(module).__name__ == kind if isinstance(kind, str) else isinstance(module, kind):
            return action
    return None
