"""Run a throwaway copy of a model once and see what its activation modules are given."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neuronym.channels import ChannelTracker
from neuronym.devices import device_of
from neuronym.errors import InputError
from neuronym.lwta.report import FunctionalCall
from neuronym.lwta.rules import DEFAULT_RULES, FUNCTIONS, Rules, action_for

__all__ = [
    "Arguments",
    "Call",
    "Example",
    "Survey",
    "arguments_of",
    "copied",
    "does_not_run",
    "example_of",
    "survey",
]

Arguments: TypeAlias = tuple[tuple[Tensor, ...], dict[str, Tensor]]
"""What a model is called with: by position and by name."""

Example: TypeAlias = Tensor | Sequence[int] | Sequence[Tensor] | Mapping[str, Tensor]


@dataclass(frozen=True)
class Call:
    """One call of an activation module.

    Attributes:
        shape: Of its input.
        dimension: Where the units of the input are; ``None`` where no layer tells, or where the
            layers disagree.
        disputed: Whether they disagree.
    """

    shape: tuple[int, ...]
    dimension: int | None
    disputed: bool = False


@dataclass
class Survey:
    """Calls of each observed module by name, and the functional activations."""

    calls: dict[str, list[Call]] = field(default_factory=dict)
    functional: Counter[tuple[str, str]] = field(default_factory=Counter)

    def functional_calls(self) -> tuple[FunctionalCall, ...]:
        return tuple(
            FunctionalCall(module, function, calls)
            for (module, function), calls in self.functional.items()
        )


class _Functions(TorchFunctionMode):
    """Counts activations that are computed by a function in the forward of another module.

    It also tells the tracker where ``linear`` wrote its units, which torch may carry out by
    operations that do not show it (a batched product of an expanded input).
    """

    def __init__(
        self, found: Survey, stack: list[tuple[str, bool]], tracker: ChannelTracker
    ) -> None:
        super().__init__()
        self.found = found
        self.stack = stack
        self.tracker = tracker

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in FUNCTIONS:
            module, known = self.stack[-1] if self.stack else ("", False)
            if not known:
                self.found.functional[module, name.rstrip("_")] += 1
        result = func(*args, **(kwargs or {}))
        if name == "linear" and isinstance(result, Tensor):
            self.tracker.declare(result, result.dim() - 1)
        return result


def copied(model: nn.Module, *, meta: bool = False) -> nn.Module:
    """Return a deep copy, with ``meta`` one whose parameters and buffers take no memory.

    Raises:
        InputError: The model holds something that cannot be copied.
    """
    memo: dict[int, Any] = {}
    if meta:
        for parameter in model.parameters():
            shadow = torch.empty_like(parameter, device="meta", requires_grad=False)
            memo[id(parameter)] = nn.Parameter(shadow, requires_grad=False)
        for buffer in model.buffers():
            memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    try:
        return copy.deepcopy(model, memo)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"the {type(model).__name__} cannot be copied: {error}") from error


def survey(model: nn.Module, names: Sequence[str], *, example: Example, rules: Rules) -> Survey:
    """Run a copy of ``model`` in evaluation mode and record the calls of the named modules.

    It runs on the meta device, where nothing is computed; a model that cannot (because it looks
    at values) runs on its own device instead. The model itself is not touched.

    Raises:
        InputError: The model does not run on the example.
    """
    try:
        return _run(copied(model, meta=True), names, arguments_of(model, example, "meta"), rules)
    except InputError:
        raise
    except Exception:  # whatever a model does not support on the meta device
        device = device_of(model)
    arguments = arguments_of(model, example, device)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            return _run(copied(model), names, arguments, rules)
    except InputError:
        raise
    except Exception as error:
        raise does_not_run(arguments, error) from error


def does_not_run(arguments: Arguments, error: Exception) -> InputError:
    """Return the error that says on what a model does not run, and why."""
    shapes = [tuple(value.shape) for value in (*arguments[0], *arguments[1].values())]
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(
        f"the model does not run on an example of shape {', '.join(map(str, shapes))}: {first}"
    )


def example_of(model: nn.Module, example: Example | None) -> Example:
    """Return the example, or the input size that the model declares.

    Raises:
        InputError: There is neither.
    """
    if example is not None:
        return example
    for attribute in ("pretrained_cfg", "default_cfg"):
        config = getattr(model, attribute, None)
        size = config.get("input_size") if isinstance(config, Mapping) else None
        if size:
            return tuple(int(value) for value in size)
    size = getattr(model, "input_size", None)
    if isinstance(size, (tuple, list)) and all(isinstance(value, int) for value in size):
        return tuple(size)
    raise InputError(
        f"{type(model).__name__} does not say its input size; "
        "give example=, a tensor or the shape of one image such as (3, 224, 224)"
    )


def arguments_of(model: nn.Module, example: Example, device: torch.device | str) -> Arguments:
    """Return the example as arguments on ``device``."""

    def moved(value: Tensor) -> Tensor:
        return value.detach().to(device)

    if isinstance(example, Tensor):
        return (moved(example),), {}
    if isinstance(example, Mapping):
        return (), {name: moved(value) for name, value in example.items()}
    values = list(example)
    if values and all(isinstance(value, Tensor) for value in values):
        return tuple(moved(value) for value in values if isinstance(value, Tensor)), {}
    sizes = [value for value in values if isinstance(value, int) and value > 0]
    if not values or len(sizes) != len(values):
        raise InputError(
            f"example must be a tensor, tensors, or the shape of one image such as (3, 224, 224), "
            f"not {example!r}"
        )
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return (torch.zeros(1, *sizes, dtype=next(floats, torch.float32), device=device),), {}


def _run(
    model: nn.Module,
    names: Sequence[str],
    arguments: Arguments,
    rules: Rules,
) -> Survey:
    found = Survey({name: [] for name in names})
    stack: list[tuple[str, bool]] = []
    tracker = ChannelTracker(broadcast=True)
    model.eval()
    for name, module in model.named_modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
        known = action_for(module, rules) or action_for(module, DEFAULT_RULES)
        _watch(module, (name, known is not None), stack)
        if name in found.calls:
            _observe(module, found.calls[name], tracker)
    with torch.no_grad(), _Functions(found, stack, tracker), tracker:
        model(*arguments[0], **arguments[1])
    return found


def _watch(module: nn.Module, entry: tuple[str, bool], stack: list[tuple[str, bool]]) -> None:
    module.register_forward_pre_hook(lambda *_: stack.append(entry))
    module.register_forward_hook(lambda *_: void(stack.pop()))


def void(_: object) -> None:
    """Return nothing, as a hook must that leaves the output alone."""


def _observe(module: nn.Module, calls: list[Call], tracker: ChannelTracker) -> None:
    def note(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        value = next((v for v in (*positional, *named.values()) if isinstance(v, Tensor)), None)
        if value is not None:
            known, disputed = tracker.origin(value), tracker.disputed(value)
            dimension = None if known is None or disputed else known.channel
            calls.append(Call(tuple(value.shape), dimension, disputed))

    module.register_forward_pre_hook(note, with_kwargs=True)
