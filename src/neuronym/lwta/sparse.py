"""Linear maps that read only the columns of the winners before them: ``sparsify``."""

from __future__ import annotations

import contextlib
import fnmatch
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronym.errors import InputError, unknown
from neuronym.lwta.columns import product
from neuronym.lwta.handover import Winners, note_on
from neuronym.lwta.module import LWTA, lwta_modules
from neuronym.lwta.report import SparseLayer, SparsityReport
from neuronym.lwta.survey import Example, arguments_of, copied, example_of

__all__ = ["SparseConv2d", "SparseLinear", "sparsify", "sparsity_report"]

Call: TypeAlias = tuple[tuple[Tensor, ...], dict[str, Tensor]]
_REPORT = "_neuronym_sparsity"


def _turned(weight: Tensor) -> Tensor:
    """Return the same values laid out column by column: ``columns(result)`` is contiguous."""
    flat = weight.reshape(weight.shape[0], -1).t().contiguous()
    turned: Tensor = flat.t().view(weight.shape)
    return turned


def _columns(weight: Tensor) -> Tensor:
    """Return the transposed weight ``(units, outputs)``; a view where it was turned."""
    return weight.view(weight.shape[0], -1).t() if weight.dim() == 2 else weight[:, :, 0, 0].t()


class _Sparse(nn.Module):
    """What the two layers share.

    The weight keeps its shape, name and values; only its memory is laid out column by column. It
    is the one copy, so that whatever changes it, such as ``load_state_dict`` or an optimiser,
    holds at once. In a state dict it is contiguous.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    @classmethod
    def of(cls, dense: nn.Module) -> Any:
        """Return a layer with the parameters, hooks and mode of ``dense``."""
        made = cls.__new__(cls)
        made.__dict__.update(dense.__dict__)
        made.weight.data = _turned(made.weight.data)
        return made

    def dense(self) -> nn.Module:
        """Return the ordinary layer with these parameters, hooks and mode."""
        kind = nn.Linear if isinstance(self, nn.Linear) else nn.Conv2d
        made = kind.__new__(kind)
        made.__dict__.update(self.__dict__)
        made.weight.data = made.weight.data.contiguous()
        return made

    def _product(self, y: Tensor) -> Tensor | None:
        """Return the product with the winners' columns, or ``None`` where it is not to be used."""
        won = note_on(y)
        if won is None or not self._may(y, won):
            return None
        if not _columns(self.weight).is_contiguous():  # someone gave it other memory
            self.weight.data = _turned(self.weight.data)
        bias = self.bias.detach() if self.bias is not None else None
        return product(y, won, _columns(self.weight.detach()), bias)

    def _may(self, y: Tensor, won: Winners) -> bool:
        weights = self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad)
        return not (
            self.training
            or (torch.is_grad_enabled() and weights)
            or torch.compiler.is_compiling()
            or torch.jit.is_tracing()
            or _autocast(y.device.type)
            or y.dtype != self.weight.dtype
            or (won.version is None and self._forward_pre_hooks)
        )

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if not keep_vars:
            destination[f"{prefix}weight"] = destination[f"{prefix}weight"].contiguous()


class SparseLinear(_Sparse, nn.Linear):
    """A linear layer that reads only the winners' columns where an LWTA layer says who won."""

    def forward(self, input: Tensor) -> Tensor:
        found = self._product(input)
        if found is None:
            return functional.linear(input, self.weight.contiguous(), self.bias)
        return found


class SparseConv2d(_Sparse, nn.Conv2d):
    """A 1×1 convolution that reads only the winners' columns where an LWTA layer names them."""

    def forward(self, input: Tensor) -> Tensor:
        found = self._product(input)
        if found is None:
            return self._conv_forward(input, self.weight.contiguous(), self.bias)
        return found


def _autocast(device: str) -> bool:
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # before torch 2.4 it takes no device
        return torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled()


def _sparse_class(module: nn.Module) -> type[_Sparse] | None:
    """Return the class that can take the place of a layer, or ``None``."""
    if module._forward_pre_hooks:  # such as weight normalisation, which computes the weight
        return None
    if type(module) is nn.Linear:
        return SparseLinear
    if type(module) is nn.Conv2d and _is_linear_map(module):
        return SparseConv2d
    return None


def _is_linear_map(conv: nn.Conv2d) -> bool:
    plain = set(conv.kernel_size) == set(conv.stride) == {1}
    return plain and conv.groups == 1 and set(conv.padding) == {0}


@dataclass
class _Candidate:
    """A layer that was given an LWTA layer's output; what its calls took, in milliseconds."""

    names: tuple[str, ...]
    module: nn.Module
    kind: type[_Sparse]
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
    autocast, and a graph that is being captured (compile, export) is evaluated densely, exactly as
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
        if isinstance(module, _Sparse):  # it is measured again
            _put(result, names, module.dense())
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
        _put(result, candidate.names, candidate.kind.of(candidate.module))
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
        _Candidate(names, module, kind)
        for names, module in _named(model)
        if (kind := _sparse_class(module)) is not None
    ]


def _inputs(model: nn.Module, example: Example) -> Call:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    positional, named = arguments_of(model, example, device)
    if not isinstance(example, Tensor) and not named and not isinstance(example[0], Tensor):
        noise = torch.Generator().manual_seed(0)
        shape, dtype = positional[0].shape, positional[0].dtype
        return (torch.randn(shape, generator=noise).to(device, dtype),), {}
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
    names = {module: name for name, module in modules.items()}
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
    if candidate.kind is SparseLinear:
        return won.axis == y.dim() - 1
    return won.axis == 1 and y.dim() == 4


def _time_call(candidate: _Candidate, y: Tensor, won: Winners, timer: _Timer) -> None:
    layer: Any = candidate.module
    weight, bias = layer.weight.detach(), layer.bias
    columns = _columns(_turned(weight))
    if candidate.kind is SparseLinear:
        dense, sparse = timer(
            y,
            lambda: functional.linear(y, weight, bias),
            lambda: product(y, won, columns, bias),
        )
    else:
        dense, sparse = timer(
            y,
            lambda: functional.conv2d(y, weight, bias),
            lambda: product(y, won, columns, bias),
        )
    candidate.calls += 1
    candidate.dense += dense * 1e3
    candidate.sparse += sparse * 1e3
    candidate.shapes.append(tuple(y.shape))


def _run(model: nn.Module, arguments: Call) -> None:
    """Run the copy in evaluation mode; its modes and the random state are as before."""
    before = [(module, module.training) for module in model.modules()]
    devices = [t.device for t in arguments[0] if t.device.type == "cuda"]
    try:
        model.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            model(*arguments[0], **arguments[1])
    except InputError:
        raise
    except Exception as error:
        shapes = [tuple(value.shape) for value in (*arguments[0], *arguments[1].values())]
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"the model does not run on an example of shape {', '.join(map(str, shapes))}: {first}"
        ) from error
    finally:
        for module, training in before:
            module.training = training


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
        faster = not only_faster or candidate.sparse < candidate.dense
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
