"""Linear maps that read only the columns of the winners before them: ``sparsify``."""

from __future__ import annotations

import contextlib
import fnmatch
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronym.devices import device_of
from neuronym.errors import InputError, unknown
from neuronym.lwta.columns import product
from neuronym.lwta.handover import Winners, note_on
from neuronym.lwta.module import lwta_modules
from neuronym.lwta.report import SparseLayer, SparsityReport
from neuronym.lwta.sparse_layers import (
    SparseConv2d,
    SparseLinear,
    columns_of,
    dense_layer,
    sparse_layer,
)
from neuronym.lwta.survey import Arguments, Example, arguments_of, copied, does_not_run, example_of
from neuronym.modes import evaluation

__all__ = ["sparsify", "sparsity_report"]

_REPORT = "_neuronym_sparsity"

_MARGIN = 0.95  # the sparse way must gain this much: timings of one moment wobble


def _can_be_sparse(module: nn.Module) -> bool:
    if module._forward_pre_hooks:  # such as weight normalisation, which computes the weight
        return False
    return type(module) is nn.Linear or (type(module) is nn.Conv2d and _is_linear_map(module))


def _is_linear_map(conv: nn.Conv2d) -> bool:
    plain = set(conv.kernel_size) == set(conv.stride) == {1}
    return plain and conv.groups == 1 and set(conv.padding) == {0}


@dataclass
class _Candidate:
    """A layer that was given an LWTA layer's output; what its calls took, in milliseconds."""

    names: tuple[str, ...]
    module: nn.Linear | nn.Conv2d
    sources: list[str] = field(default_factory=list)
    calls: int = 0
    dense: float = 0.0
    sparse: float = 0.0
    shapes: list[tuple[int, ...]] = field(default_factory=list)


def sparsify(
    model: nn.Module,
    *,
    example: Example | None = None,
    skip: Sequence[str] = (),
    rounds: int = 7,
    only_faster: bool = True,
) -> nn.Module:
    """Return a copy of ``model`` whose linear maps after an LWTA layer read the winners only.

    A copy runs once on ``example``, in evaluation mode and without gradients, with the present
    number of threads. Each linear layer and each 1×1 convolution (one group, stride 1, no padding)
    whose input is an LWTA layer's output, also through dropout and identities, is timed both ways
    on the very activations it is given, and is replaced where the sparse way is faster.
    :func:`sparsity_report` says which, with both times.

    The copy's outputs equal those of ``model`` to float tolerance, its state dict has the same
    keys and values, and the weights take no more memory. What needs gradients, training mode,
    autocast, and a graph that is being captured (compile, export) is evaluated densely, as
    before. Random winners (:func:`neuronym.lwta.inference`) are read sparsely too.

    Args:
        model: A competitive model on any device; see :func:`neuronym.lwta.convert`.
        example: A tensor (of the batch size that counts), a sequence of tensors, a mapping of
            keyword arguments, or the shape of one image such as ``(3, 224, 224)``, for which
            seeded noise is taken. Default: what the model says of itself.
        skip: Patterns of names (``"head*"``) to leave alone.
        rounds: How often each way is timed; the best time counts.
        only_faster: ``False`` replaces every such layer without timing it.

    Raises:
        InputError: The model has no LWTA layer, no linear map reads one, or it does not run on
            the example.
        UnknownNameError: A ``skip`` pattern matches no layer that could be replaced.
    """
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise InputError(f"rounds must be an int of at least 1, not {rounds!r}")
    if isinstance(skip, str):
        raise InputError(f"skip must be a list of patterns, not the string {skip!r}")
    if not lwta_modules(model):
        raise InputError("the model has no LWTA module: nothing to sparsify; convert it first")
    result = copied(model)
    for names, module in _named(result):
        if isinstance(module, (SparseLinear, SparseConv2d)):  # it is measured again
            _put(result, names, dense_layer(module))
    arguments = _inputs(model, example_of(model, example))
    candidates = _candidates(result)
    timer = _Timer(rounds if only_faster else 0)
    with _watched(result, candidates, timer):
        _run(result, arguments)
    reached = [candidate for candidate in candidates if candidate.calls]
    if not reached:
        raise InputError(_nothing(model, candidates))
    chosen, layers = _chosen(reached, skip, only_faster)
    fed = {name for candidate in chosen for name in candidate.sources}
    for name, module in lwta_modules(result).items():
        module.hands_winners = name in fed
    for candidate in chosen:
        _put(result, candidate.names, sparse_layer(candidate.module))
    setattr(result, _REPORT, SparsityReport(tuple(layers), torch.get_num_threads()))
    return result


def sparsity_report(model: nn.Module) -> SparsityReport:
    """Return what :func:`sparsify` found when it made ``model``.

    Raises:
        InputError: ``model`` was not made by it.
    """
    report = getattr(model, _REPORT, None)
    if not isinstance(report, SparsityReport):
        raise InputError("the model has no report: it was not made by neuronym.lwta.sparsify")
    return report


def _named(model: nn.Module) -> list[tuple[tuple[str, ...], nn.Module]]:
    """Return each module below ``model`` once, with all its names."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if name:
            names.setdefault(module, []).append(name)
    return [(tuple(found), module) for module, found in names.items()]


def _put(model: nn.Module, names: Sequence[str], layer: nn.Module) -> None:
    for name in names:
        parent, _, last = name.rpartition(".")
        model.get_submodule(parent)._modules[last] = layer


def _candidates(model: nn.Module) -> list[_Candidate]:
    return [
        _Candidate(names, module)
        for names, module in _named(model)
        if isinstance(module, (nn.Linear, nn.Conv2d)) and _can_be_sparse(module)
    ]


def _inputs(model: nn.Module, example: Example) -> Arguments:
    device = device_of(model)
    positional, named = arguments_of(model, example, device)
    if not isinstance(example, (Tensor, Mapping)) and isinstance(example[0], int):
        noise = torch.Generator().manual_seed(0)
        zeros = positional[0]
        return (torch.randn(zeros.shape, generator=noise).to(zeros),), {}
    return positional, named


class _Timer:
    """Times both ways of a layer in turns."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def __call__(self, y: Tensor, dense: Callable[[], Tensor], sparse: Callable[[], Tensor]) -> Any:
        """Return the best seconds of both; NaN where nothing was to be timed."""
        best = [math.inf, math.inf] if self.rounds else [math.nan, math.nan]
        for number in range(self.rounds + 1 if self.rounds else 0):  # the first one warms up
            for place, run in enumerate((dense, sparse)):
                began = time.perf_counter()
                run()
                if y.device.type == "cuda":
                    torch.cuda.synchronize(y.device)
                if number:
                    best[place] = min(best[place], time.perf_counter() - began)
        return best


@contextlib.contextmanager
def _watched(model: nn.Module, candidates: Sequence[_Candidate], timer: _Timer) -> Iterator[None]:
    """Let every LWTA layer note its winners, and time the candidates that are given a note."""
    modules = lwta_modules(model)
    names: dict[nn.Module, str] = {module: name for name, module in modules.items()}
    handles = []

    def observe(candidate: _Candidate) -> Any:
        def hook(_: nn.Module, positional: tuple[Any, ...]) -> None:
            y = positional[0] if positional else None
            won = note_on(y) if isinstance(y, Tensor) else None
            if isinstance(y, Tensor) and won is not None and _fits(candidate, y, won):
                _time_call(candidate, y, won, timer)
                candidate.sources.append(names[won.source])

        return hook

    try:
        for module in modules.values():
            module.hands_winners = True
        handles = [c.module.register_forward_pre_hook(observe(c)) for c in candidates]
        yield
    finally:
        for handle in handles:
            handle.remove()


def _fits(candidate: _Candidate, y: Tensor, won: Winners) -> bool:
    """Whether the units that competed are those that the layer multiplies."""
    if isinstance(candidate.module, nn.Linear):
        return won.axis == y.dim() - 1
    return won.axis == 1 and y.dim() == 4


def _time_call(candidate: _Candidate, y: Tensor, won: Winners, timer: _Timer) -> None:
    layer = candidate.module
    weight, bias = layer.weight.detach(), layer.bias
    columns = columns_of(weight)
    apply = functional.linear if isinstance(layer, nn.Linear) else functional.conv2d
    dense, sparse = timer(y, lambda: apply(y, weight, bias), lambda: product(y, won, columns, bias))
    candidate.calls += 1
    candidate.dense += dense * 1e3
    candidate.sparse += sparse * 1e3
    candidate.shapes.append(tuple(y.shape))


def _run(model: nn.Module, arguments: Arguments) -> None:
    """Run the copy in evaluation mode; its modes and the random state are as before."""
    devices = [t.device for t in arguments[0] if t.device.type == "cuda"]
    try:
        with evaluation(model), torch.no_grad(), torch.random.fork_rng(devices=devices):
            model(*arguments[0], **arguments[1])
    except InputError:
        raise
    except Exception as error:
        raise does_not_run(arguments, error) from error


def _nothing(model: nn.Module, candidates: Sequence[_Candidate]) -> str:
    seen = ", ".join(candidate.names[0] for candidate in candidates[:3]) or "none"
    return (
        f"nothing to sparsify in {type(model).__name__}: no linear layer or 1x1 convolution is "
        f"given an LWTA layer's output itself (it has {len(candidates)} that could be: {seen})"
    )


def _chosen(
    reached: Sequence[_Candidate], skip: Sequence[str], only_faster: bool
) -> tuple[list[_Candidate], list[SparseLayer]]:
    every = [name for candidate in reached for name in candidate.names]
    for pattern in skip:
        if not fnmatch.filter(every, pattern):
            raise unknown("layer pattern in skip", pattern, every)
    chosen, layers = [], []
    for candidate in reached:
        skipped = any(fnmatch.filter(candidate.names, pattern) for pattern in skip)
        faster = not only_faster or candidate.sparse < _MARGIN * candidate.dense
        if faster and not skipped:
            chosen.append(candidate)
        layers.append(
            SparseLayer(
                name=candidate.names[0],
                competition=candidate.sources[0],
                shapes=tuple(candidate.shapes),
                dense_ms=None if math.isnan(candidate.dense) else candidate.dense,
                sparse_ms=None if math.isnan(candidate.sparse) else candidate.sparse,
                sparse=faster and not skipped,
                reason="skipped" if skipped else "" if faster else "not faster",
            )
        )
    return chosen, layers
