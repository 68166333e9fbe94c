"""Who wins, how often, and how evenly: measured from winners, never from values."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuronym.activity import Activity
from neuronym.errors import InputError
from neuronym.lwta.functional import checked_winners
from neuronym.lwta.module import LWTA, lwta_modules
from neuronym.lwta.trace import Competition, Trace, trace
from neuronym.modes import evaluation

__all__ = [
    "Diagnosis",
    "LayerDiagnosis",
    "Tally",
    "active_fraction",
    "diagnose",
    "watch_activity",
    "win_counts",
    "win_counts_of_trace",
    "win_entropy",
]


def win_counts(winners: Tensor, competitors: int, *, channel_dim: int = -1) -> Tensor:
    """Count the wins of each unit over all positions and images.

    Args:
        winners: Integers in ``0 … U - 1``; dimension ``channel_dim`` holds B blocks.
        competitors: U.
        channel_dim: The dimension of the blocks.

    Returns:
        ``(B, U)`` int64; each row adds up to the number of positions times images.

    Raises:
        InputError: A winner is outside the range, or the dimension does not exist.
    """
    index, axis = checked_winners(winners, competitors, channel_dim)
    flat = index.movedim(axis, -1).reshape(-1, index.shape[axis])
    blocks = flat.shape[1]
    unit = flat + torch.arange(blocks, device=flat.device) * competitors
    counts = torch.bincount(unit.flatten(), minlength=blocks * competitors)
    return counts.view(blocks, competitors)


def win_counts_of_trace(trace: Trace) -> dict[str, Tensor]:
    """Return :func:`win_counts` per module, the calls of one module added up.

    Calls of one module with different numbers of blocks are counted under ``name#call``.

    Args:
        trace: Made with ``keep="winners"``.

    Raises:
        InputError: The trace kept no winners.
    """
    counts: dict[str, Tensor] = {}
    for key, competition in _keyed(trace):
        found = win_counts(
            competition.winners, competition.competitors, channel_dim=competition.channel_dim
        )
        counts[key] = counts[key] + found if key in counts else found
    return counts


def _keyed(trace: Trace) -> Iterator[tuple[str, Competition]]:
    """Yield each competition under its module's name, or ``name#call`` where blocks differ."""
    for name, competitions in trace.by_name().items():
        shared = len({competition.blocks for competition in competitions}) == 1
        for competition in competitions:
            yield (name if shared else f"{name}#{competition.call}"), competition


def win_entropy(counts: Tensor, *, normalised: bool = True) -> Tensor:
    """Return the entropy of each block's win rates.

    Args:
        counts: ``(blocks, competitors)`` numbers of wins.
        normalised: Divide by ``log U``: 0 where one unit always wins, 1 where all win equally
            often. Otherwise in nats.

    Returns:
        ``(blocks,)`` float64; NaN for a block without wins.

    Raises:
        InputError: ``counts`` is not two-dimensional with at least two competitors.
    """
    if counts.dim() != 2 or counts.shape[1] < 2:
        raise InputError(
            f"counts must be (blocks, competitors) with at least 2 competitors, "
            f"not {tuple(counts.shape)}"
        )
    rates = counts.double() / counts.sum(1, keepdim=True)
    entropy = -torch.xlogy(rates, rates).sum(1)
    return entropy / math.log(counts.shape[1]) if normalised else entropy


def active_fraction(trace: Trace) -> float:
    """Return the share of (unit, position) pairs that the masks let pass, over all calls.

    It is counted on the masks, not computed as 1/U.

    Args:
        trace: Made with ``keep="winners"``.

    Raises:
        InputError: The trace is empty or kept no winners.
    """
    if not len(trace):
        raise InputError("the trace is empty: run the model inside `with trace(model)`")
    counted = Activity()
    for competition in trace:
        mask = competition.mask
        counted.add(mask, mask)
    fraction = counted.fraction
    if fraction is None:
        raise InputError("the trace holds no positions: the batch was empty")
    return fraction


@contextlib.contextmanager
def watch_activity(model: nn.Module, sites: Sequence[str]) -> Iterator[dict[str, Activity]]:
    """Count the active entries of modules' outputs in the forward passes inside the block.

    An LWTA module is counted by its mask. One that passes more than winners (the expectation of
    its output, or in part still its dense activation) is counted as a dense site is, by the
    values that are not zero.

    Args:
        model: Any module.
        sites: Names of modules that return one tensor.

    Returns:
        Site → what was counted, filled while the block runs.
    """
    counts = {site: Activity() for site in sites}
    parts = {site: model.get_submodule(site) for site in counts}
    competes = any(isinstance(part, LWTA) for part in parts.values())
    with contextlib.ExitStack() as stack:
        record = stack.enter_context(trace(model, keep="winners")) if competes else Trace()
        for name, module in parts.items():

            def count(part: nn.Module, _: Any, y: Tensor, *, site: str = name) -> None:
                masks = isinstance(part, LWTA) and part.passes_winners
                counts[site].add(y, record[-1].mask if masks else None)
                record.clear()  # not to grow with the number of batches

            stack.callback(module.register_forward_hook(count).remove)
        yield counts


@dataclass(frozen=True)
class LayerDiagnosis:
    """How one LWTA module competes.

    Attributes:
        name: The module's name (``name#call`` where its calls have different numbers of blocks).
        units: Units, B · U.
        competitors: U.
        decisions: Positions times images, over all calls: how often each block was decided.
        dead_units: Units that never won.
        entropy: Entropy of the win rates of each block over ``log U``: 0 where one unit always
            wins, 1 where all win equally often.
        active_fraction: Share of the module's outputs, over all its calls, that are active; see
            :func:`watch_activity`.
        kl: KL of the winners from the uniform prior, in nats per image.
    """

    name: str
    units: int
    competitors: int
    decisions: int
    dead_units: int
    entropy: tuple[float, ...]
    active_fraction: float
    kl: float

    @property
    def mean_entropy(self) -> float:
        """Mean of :attr:`entropy` over the blocks."""
        return sum(self.entropy) / len(self.entropy)


@dataclass(frozen=True)
class Diagnosis:
    """How the LWTA modules of a model compete over some images.

    Attributes:
        images: How many.
        layers: In the order of their first calls.
    """

    images: int
    layers: tuple[LayerDiagnosis, ...]

    @property
    def units(self) -> int:
        """Units of all layers."""
        return sum(layer.units for layer in self.layers)

    @property
    def dead_units(self) -> int:
        """Units of all layers that never won."""
        return sum(layer.dead_units for layer in self.layers)

    @property
    def kl(self) -> float:
        """KL of all layers, in nats per image."""
        return math.fsum(layer.kl for layer in self.layers)

    @property
    def active_fraction(self) -> float:
        """Share of the layers' outputs that are active, each weighed by its size."""
        sizes = [layer.units * layer.decisions for layer in self.layers]
        pairs = zip(self.layers, sizes, strict=True)
        return math.fsum(layer.active_fraction * size for layer, size in pairs) / sum(sizes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        layers = [{**asdict(layer), "entropy": list(layer.entropy)} for layer in self.layers]
        return {"images": self.images, "layers": layers}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Diagnosis:
        """Build from what :meth:`to_dict` gave."""
        layers = [
            LayerDiagnosis(**{**layer, "entropy": tuple(layer["entropy"])})
            for layer in value["layers"]
        ]
        return cls(int(value["images"]), tuple(layers))


class Tally:
    """Adds up what a diagnosis needs, batch by batch, in memory of the size of the units.

    Attributes:
        images: Added so far.
    """

    def __init__(self) -> None:
        self.images = 0
        self._wins: dict[str, Tensor] = {}
        self._kl: dict[str, float] = {}
        self._activity: dict[str, Activity] = {}

    @contextlib.contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Count one batch: run the model once inside the block.

        Raises:
            InputError: ``model`` has no LWTA module.
        """
        with (
            trace(model, keep=("kl", "winners")) as record,
            watch_activity(model, list(lwta_modules(model))) as counts,
        ):
            yield
        if len(record) and record.inputs:
            self._add(record)
            self._count(counts)

    def _add(self, record: Trace) -> None:
        self.images += record.inputs
        for name, wins in win_counts_of_trace(record).items():
            wins = wins.cpu()
            self._wins[name] = self._wins[name] + wins if name in self._wins else wins
        for key, competition in _keyed(record):
            if competition.kl is not None:
                self._kl[key] = self._kl.get(key, 0.0) + float(competition.kl.detach())

    def _count(self, counts: Mapping[str, Activity]) -> None:
        for site, activity in counts.items():
            self._activity.setdefault(site, Activity()).merge(activity)

    def merge(self, other: Tally) -> None:
        """Add what another tally of the same model has counted."""
        self.images += other.images
        for name, wins in other._wins.items():
            self._wins[name] = self._wins[name] + wins if name in self._wins else wins
        for name, kl in other._kl.items():
            self._kl[name] = self._kl.get(name, 0.0) + kl
        self._count(other._activity)

    def diagnosis(self) -> Diagnosis:
        """Return what was counted.

        Raises:
            InputError: No image was.
        """
        if not self.images:
            raise InputError("there is nothing to diagnose: no image went through the model")
        layers = []
        for name, wins in self._wins.items():
            site = name.partition("#")[0]
            layers.append(
                LayerDiagnosis(
                    name=name,
                    units=wins.numel(),
                    competitors=wins.shape[1],
                    decisions=int(wins[0].sum()),
                    dead_units=int((wins == 0).sum()),
                    entropy=tuple(win_entropy(wins).tolist()),
                    active_fraction=self._activity[site].fraction or 0.0,
                    kl=self._kl[name] / self.images,
                )
            )
        return Diagnosis(self.images, tuple(layers))


@torch.no_grad()
def diagnose(model: nn.Module, batches: Iterable[Tensor]) -> Diagnosis:
    """Measure how the LWTA modules of a model compete, with the winners of evaluation.

    Args:
        model: Takes a batch; the mode of each of its modules is put back.
        batches: Inputs of the model, (N, …) each, on its device. They are read one at a time.

    Raises:
        InputError: The model has no LWTA module, or there is no batch.
    """
    tally = Tally()
    with evaluation(model):
        for batch in batches:
            with tally.watch(model):
                model(batch)
    return tally.diagnosis()
