"""A trace: what the LWTA modules of a model did, one record per call."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from torch import Tensor, nn

from neuronym.errors import InputError, unknown
from neuronym.lwta.functional import mask_from_winners
from neuronym.lwta.module import LWTA, lwta_modules
from neuronym.lwta.plain import Outcome

__all__ = ["KEEPS", "Competition", "Trace", "trace"]

KEEPS = ("kl", "winners", "logits")


@dataclass(frozen=True, eq=False)
class Competition:
    """One call of one LWTA module.

    Attributes:
        name: The module's name in the model.
        call: Number of this call among the module's calls in the trace, from 0.
        channel_dim: The dimension of the units, non-negative.
        competitors: U.
        shape: Shape of the activations.
        sampled: Whether the winners were drawn (else they are the argmax).
        kl: With ``keep="kl"``: the KL of q from the uniform prior in nats, summed over blocks,
            positions and the batch; 0-dimensional, differentiable in training.
        packed_winners: With ``keep="winners"``: as :attr:`winners`, in the smallest dtype.
        logits: With ``keep="logits"``: the activations z that competed, with their graph.
    """

    name: str
    call: int
    channel_dim: int
    competitors: int
    shape: tuple[int, ...]
    sampled: bool
    kl: Tensor | None = None
    packed_winners: Tensor | None = None
    logits: Tensor | None = None

    @property
    def blocks(self) -> int:
        """B, the number of blocks."""
        return self.shape[self.channel_dim] // self.competitors

    @property
    def batch(self) -> int:
        """Size of the first dimension (1 where that is the channel dimension)."""
        return self.shape[0] if self.channel_dim else 1

    @property
    def positions(self) -> int:
        """Positions per entry of the first dimension: tokens, or pixels of the map."""
        return math.prod(self.shape) // max(1, self.batch * self.shape[self.channel_dim])

    @property
    def winners(self) -> Tensor:
        """The winner of each block, int64 in ``0 … U - 1``; ``channel_dim`` holds B blocks.

        Raises:
            InputError: The trace did not keep winners.
        """
        if self.packed_winners is None:
            raise InputError(f"the trace of {self.name!r} kept no winners; use keep='winners'")
        return self.packed_winners.long()

    @property
    def mask(self) -> Tensor:
        """The boolean mask of the winning units, shaped like the activations.

        Raises:
            InputError: The trace did not keep winners.
        """
        return mask_from_winners(self.winners, self.competitors, channel_dim=self.channel_dim)


class Trace(Sequence[Competition]):
    """The competitions of a model in the order of their calls.

    Attributes:
        inputs: Images (entries of the batch) that went through the traced model; 0 while none
            did, as when only a part of it was called.
    """

    def __init__(self) -> None:
        self._competitions: list[Competition] = []
        self._calls: Counter[str] = Counter()
        self.inputs = 0

    @overload
    def __getitem__(self, index: int) -> Competition: ...

    @overload
    def __getitem__(self, index: slice) -> list[Competition]: ...

    def __getitem__(self, index: int | slice) -> Competition | list[Competition]:
        return self._competitions[index]

    def __len__(self) -> int:
        return len(self._competitions)

    def __repr__(self) -> str:
        return f"Trace({len(self)} competitions of {len(self.by_name())} modules)"

    def by_name(self) -> dict[str, list[Competition]]:
        """Return the competitions grouped by the module's name."""
        groups: dict[str, list[Competition]] = {}
        for competition in self:
            groups.setdefault(competition.name, []).append(competition)
        return groups

    def clear(self) -> None:
        """Forget all competitions and inputs, to use the trace for another batch."""
        self._competitions.clear()
        self._calls.clear()
        self.inputs = 0


class _Recorder:
    """Appends a record to a trace at each call of one module."""

    def __init__(self, target: Trace, name: str, module: LWTA, keep: frozenset[str]) -> None:
        self.target = target
        self.name = name
        self.module = module
        self.keep = keep
        self.wants_kl = "kl" in keep

    def __call__(self, z: Tensor, outcome: Outcome, sampled: bool) -> None:
        earlier = self.target._calls[self.name]
        self.target._calls[self.name] += 1
        self.target._competitions.append(
            Competition(
                name=self.name,
                call=earlier,
                channel_dim=self.module.channel_dim % z.dim(),
                competitors=self.module.competitors,
                shape=tuple(z.shape),
                sampled=sampled,
                kl=outcome.kl if self.wants_kl else None,
                packed_winners=outcome.winners if "winners" in self.keep else None,
                logits=z if "logits" in self.keep else None,
            )
        )


class _Inputs:
    """A forward pre-hook of the traced model that counts images; its copies do nothing."""

    def __init__(self, target: Trace) -> None:
        self.target = target

    def __call__(
        self, model: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        values = (*positional, *named.values())
        first = next((value for value in values if isinstance(value, Tensor)), None)
        if first is not None and first.dim() and not isinstance(model, LWTA):
            self.target.inputs += first.shape[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return _copied_hook, ()


def _copied_hook() -> Any:
    return _nothing


def _nothing(*_: object) -> None:
    """Do nothing: what the hook of a running trace is in a copy of the model."""


def _checked_keep(keep: str | Iterable[str]) -> frozenset[str]:
    kept = frozenset([keep] if isinstance(keep, str) else keep)
    for name in kept:
        if name not in KEEPS:
            raise unknown("thing to keep", name, KEEPS)
    return kept


@contextlib.contextmanager
def trace(model: nn.Module, *, keep: str | Iterable[str] = "kl") -> Iterator[Trace]:
    """Record every call of an LWTA module of ``model`` inside the block.

    A module that is used twice in a forward gives two records. Traces may be nested. When the
    block ends, also by an error, the model is as before. Copies and pickles that are made inside
    the block do not carry the trace.

    Args:
        model: Any module that contains LWTA modules.
        keep: What each record keeps, one name or several: ``"kl"`` (a number, computed in the
            same pass as the competition), ``"winners"`` (one byte per block up to U = 256),
            ``"logits"`` (the activations themselves). An empty list keeps shapes only.

    Raises:
        InputError: ``model`` has no LWTA module.
        UnknownNameError: ``keep`` names something else.
    """
    kept = _checked_keep(keep)
    modules = lwta_modules(model)
    if not modules:
        raise InputError("the model has no LWTA module: nothing to trace; convert it first")
    record = Trace()

    added = [(module, _Recorder(record, name, module, kept)) for name, module in modules.items()]
    handle = model.register_forward_pre_hook(_Inputs(record), with_kwargs=True)
    try:
        for module, recorder in added:
            module._recorders = (*module._recorders, recorder)
        yield record
    finally:
        handle.remove()
        for module, recorder in added:
            module._recorders = tuple(each for each in module._recorders if each is not recorder)
