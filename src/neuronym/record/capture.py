"""Capture: one batch through a model, pooled activations and counts of its sites."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neuronym.activity import Activity
from neuronym.errors import InputError
from neuronym.masks import MaskReader, ReadMask
from neuronym.modes import evaluation
from neuronym.record.pooling import ChosenPooling, PoolingChoice, candidates_of, pooling_for
from neuronym.record.sites import Site

__all__ = ["Capture", "Captured", "positions_last"]


@dataclass(frozen=True, eq=False)
class Captured:
    """What one batch did at one site.

    Attributes:
        pooled: ``(images, units)`` float32.
        won: ``(units,)`` int64, positions that each unit won; ``None`` at a dense site.
        candidates: ``(images, units)`` bool, the units that may be the image winner of their
            block: those that won a position of the image or, where the site is pooled at a
            token, that token; ``None`` at a dense site.
        active: Entries over all units, images and positions that a mask let pass or, at a dense
            site, that are not zero.
        values: All of them.
    """

    pooled: npt.NDArray[np.float32]
    won: npt.NDArray[np.int64] | None
    candidates: npt.NDArray[np.bool_] | None
    active: int
    values: int


class _SiteState:
    def __init__(self, site: Site, pooling: ChosenPooling, competitors: int | None) -> None:
        self.site = site
        self.pooling = pooling
        self.competitors = competitors
        self.captured: Captured | None = None

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
        if self.competitors is not None:
            if mask is None or mask.shape != output.shape or mask.dtype != torch.bool:
                raise InputError(f"the reader of masks gave no mask of site {self.site.name!r}")
            won = positions_last(mask, self.site.channel_dim)
        activity = Activity()
        activity.add(output, None if won is None else mask)
        pooled = self.pooling.pool(activations, won)
        if pooled.shape != (images, self.site.units):
            raise InputError(
                f"pooling {self.pooling.name!r} must give (images, units) {expected[:2]}, "
                f"not {tuple(pooled.shape)}"
            )
        self.captured = Captured(
            pooled.to("cpu", torch.float32).numpy(),
            None if won is None else won.sum((0, 2)).cpu().numpy(),
            None if won is None else candidates_of(won, self.pooling.name).cpu().numpy(),
            activity.active,
            activity.values,
        )


class Capture:
    """Runs batches through a model and returns what they did at its sites.

    Use it as a context: hooks are there only inside, and are removed also after a failure; the
    model is in evaluation mode inside and as before afterwards.

    Args:
        module: The model; it runs where its parameters are.
        sites: From :func:`neuronym.record.find_sites`.
        pooling: See :func:`neuronym.record.pooling.pooling_for`.
        masks: Who won, for the sites that compete.
    """

    def __init__(
        self,
        module: nn.Module,
        sites: Sequence[Site],
        *,
        pooling: PoolingChoice = None,
        masks: MaskReader | None = None,
    ) -> None:
        self._module = module
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

    def __enter__(self) -> Capture:
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

    def run(self, inputs: Tensor) -> dict[str, Captured]:
        """Run one batch of inputs ``(images, ...)``; return site → what it did there.

        Raises:
            InputError: A site was not called as in the sample, or its output has another shape.
        """
        self._images, self._calls = len(inputs), {}
        for state in self._states:
            state.captured = None
        opened = self._masks.open() if self._masks else contextlib.nullcontext(None)
        with torch.no_grad(), opened as self._read:
            self._module(inputs.to(self._device))
        self._read = None
        found = {}
        for state in self._states:
            if state.captured is None:
                raise InputError(f"site {state.site.name!r} was not called for these images")
            found[state.site.name] = state.captured
        return found

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
