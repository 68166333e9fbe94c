"""Recording: one pass over a probe set, pooled activations and counts of every site."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from neuronym.activity import Activity
from neuronym.errors import InputError
from neuronym.modes import evaluation
from neuronym.probes import Batch
from neuronym.record.pooling import ChosenPooling, PoolingChoice, pooling_for
from neuronym.record.sites import Site
from neuronym.store import StoreWriter

__all__ = ["MaskReader", "Recorder", "SiteStats", "Transform", "positions_last"]

INDICES = "indices"
"""Name of the array of places in the probe set."""

Transform = Callable[[Image.Image], Tensor]
ReadMask = Callable[[str, int], "Tensor | None"]


@dataclass(frozen=True)
class MaskReader:
    """How to learn who won; the caller gives it, so that recording knows no competition.

    Attributes:
        competitors: Module name → U, for every module that competes.
        open: Returns a context in which forward passes run; it yields a function
            ``(module name, call) → mask`` that is called right after that module's call and
            returns a bool tensor shaped like its output, true where a unit won.
    """

    competitors: Mapping[str, int]
    open: Callable[[], AbstractContextManager[ReadMask]]


@dataclass(frozen=True)
class SiteStats:
    """What was counted at one site over all images.

    Attributes:
        fired: ``(units,)`` int64, images on which the pooled activation is above zero.
        won: ``(units,)`` int64, positions that the unit won; ``None`` at a dense site.
        active: Entries over all units, images and positions that a mask let pass or, at a dense
            site, that are not zero.
        values: All of them.
    """

    fired: npt.NDArray[np.int64]
    won: npt.NDArray[np.int64] | None
    active: int
    values: int


class _SiteState:
    def __init__(self, site: Site, pooling: ChosenPooling, competitors: int | None) -> None:
        self.site = site
        self.pooling = pooling
        self.competitors = competitors
        self.fired = torch.zeros(site.units, dtype=torch.int64)
        self.won = torch.zeros(site.units, dtype=torch.int64) if competitors else None
        self.activity = Activity()
        self.pooled: Tensor | None = None

    def take(self, output: object, mask: Tensor | None, images: int) -> None:
        """Pool and count one call's output."""
        if not isinstance(output, Tensor):
            raise InputError(f"site {self.site.name!r} returned a {type(output).__name__}")
        activations = positions_last(output.detach(), self.site.channel_dim)
        expected = (images, self.site.units, self.site.positions)
        if activations.shape != expected:
            raise InputError(
                f"site {self.site.name!r} gave {tuple(activations.shape)} (images, units, "
                f"positions), expected {expected}: all images must reach the model in one size"
            )
        won = None
        if self.won is not None:
            if mask is None or mask.shape != output.shape or mask.dtype != torch.bool:
                raise InputError(f"the reader of masks gave no mask of site {self.site.name!r}")
            won = positions_last(mask, self.site.channel_dim)
            self.won += won.sum((0, 2)).cpu()
        self.activity.add(output, None if self.won is None else mask)
        pooled = self.pooling.pool(activations, won)
        if pooled.shape != (images, self.site.units):
            raise InputError(
                f"pooling {self.pooling.name!r} must give (images, units) {expected[:2]}, "
                f"not {tuple(pooled.shape)}"
            )
        pooled = pooled.to("cpu", torch.float32)
        self.fired += (pooled > 0).sum(0)
        self.pooled = pooled

    def stats(self) -> SiteStats:
        won = None if self.won is None else self.won.numpy()
        return SiteStats(self.fired.numpy(), won, self.activity.active, self.activity.values)


class Recorder:
    """Runs batches through a model and hands pooled activations of its sites to a store.

    Use it as a context: hooks are there only inside, and are removed also after a failure; the
    model is in evaluation mode inside and as before afterwards. Every batch of
    :func:`neuronym.probes.batches` that is added appends rows to the array of each site and to the
    array of places in the probe set.

    Args:
        module: The model; it runs where its parameters are.
        sites: From :func:`neuronym.record.find_sites`.
        transform: One PIL image → one input tensor.
        writer: Of a new store.
        pooling: See :func:`neuronym.record.pooling.pooling_for`.
        masks: Who won, for the sites that compete.
    """

    def __init__(
        self,
        module: nn.Module,
        sites: Sequence[Site],
        *,
        transform: Transform,
        writer: StoreWriter,
        pooling: PoolingChoice = None,
        masks: MaskReader | None = None,
    ) -> None:
        self._module = module
        self._transform = transform
        self._writer = writer
        self._masks = masks
        self._read: ReadMask | None = None
        self._images = 0
        self._calls: dict[str, int] = {}
        self._stack = contextlib.ExitStack()
        self._states = []
        for site in sites:
            competitors = masks.competitors.get(site.module) if masks else None
            chosen = pooling_for(pooling, site, competes=competitors is not None)
            self._states.append(_SiteState(site, chosen, competitors))
        self._at = {(state.site.module, state.site.call): state for state in self._states}
        first = next(module.parameters(), None)
        self._device = first.device if first is not None else torch.device("cpu")

    def __enter__(self) -> Recorder:
        parts = dict(self._module.named_modules())
        try:
            self._stack.enter_context(evaluation(self._module))
            for name in dict.fromkeys(state.site.module for state in self._states):
                handle = parts[name].register_forward_hook(
                    lambda _, __, output, name=name: self._hook(name, output)
                )
                self._stack.callback(handle.remove)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def add(self, batch: Batch) -> None:
        """Run one batch and append its rows.

        Raises:
            InputError: A site was not called as in the sample, or its output has another shape.
        """
        inputs = torch.stack([self._transform(image) for image in batch.images])
        self._images, self._calls = len(inputs), {}
        for state in self._states:
            state.pooled = None
        opened = self._masks.open() if self._masks else contextlib.nullcontext(None)
        with torch.no_grad(), opened as self._read:
            self._module(inputs.to(self._device))
        self._read = None
        for state in self._states:
            if state.pooled is None:
                raise InputError(f"site {state.site.name!r} was not called for these images")
            self._writer.append(array_name(state.site.name), state.pooled.numpy())
        self._writer.append(INDICES, batch.indices)

    def stats(self) -> dict[str, SiteStats]:
        """Site → what was counted so far."""
        return {state.site.name: state.stats() for state in self._states}

    def _hook(self, name: str, output: object) -> None:
        call = self._calls.get(name, 0)
        self._calls[name] = call + 1
        state = self._at.get((name, call))
        if state is not None:
            competes = self._read is not None and state.competitors is not None
            mask = self._read(name, call) if competes and self._read else None
            state.take(output, mask, self._images)


def positions_last(output: Tensor, channel_dim: int) -> Tensor:
    """Return a site's output as ``(images, units, positions)``."""
    moved = output.movedim(channel_dim, 1)
    return moved.flatten(2) if moved.dim() > 2 else moved[:, :, None]


def array_name(site: str) -> str:
    """Return the name of the array that holds a site's pooled activations."""
    return f"activations/{site}"


def counts_name(site: str) -> str:
    """Return the name of the array that holds a site's counts per unit."""
    return f"counts/{site}"
