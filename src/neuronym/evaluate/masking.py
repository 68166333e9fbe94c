"""Run a network with chosen units of one site at zero."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neuronym import lwta
from neuronym.calls import split_call
from neuronym.errors import InputError
from neuronym.evaluate.replay import Prefix, can_replay, replayed
from neuronym.explain.contributions import attribution, replaced_output, units_first
from neuronym.modes import evaluation

__all__ = ["Intact", "MaskedRuns", "Place", "intact_pass", "masked", "place_of"]

TRIED_RUNS, TRIED_IMAGES = 8, 3  # how many are compared before replay is given up


@dataclass(frozen=True)
class Place:
    """Where units are silenced.

    Attributes:
        name: The site's name; ``"relu#1"`` is the second call of ``relu``.
        channel_dim: The dimension of the site's output that holds the units.
        competes: Whether one unit of each block wins, and the others pass zero.
    """

    name: str
    channel_dim: int
    competes: bool

    @property
    def module(self) -> str:
        """Name of the module in the model."""
        return split_call(self.name)[0]

    @property
    def call(self) -> int:
        """Which call of the module counts, from 0."""
        return split_call(self.name)[1]


@dataclass(frozen=True)
class Intact:
    """What the whole network says about some images, and what a site did.

    Attributes:
        logits: ``(images, classes)`` float64.
        targets: ``(images,)`` int64, the predicted classes.
        contributions: ``(images, units)`` float64, summed over positions, to the predicted logit.
        activations: ``(images, units)`` float64, summed over positions.
        winners: ``(images, units)`` bool: at a competitive site the units that won a position, at
            a dense site those that fired (an activation other than zero) at one.
    """

    logits: npt.NDArray[np.float64]
    targets: npt.NDArray[np.int64]
    contributions: npt.NDArray[np.float64]
    activations: npt.NDArray[np.float64]
    winners: npt.NDArray[np.bool_]


def place_of(module: nn.Module, name: str, channel_dim: int) -> Place:
    """Return where a site lies in a model.

    Raises:
        InputError: The module at the site draws its winners at random, so that two runs differ.
    """
    competing = lwta.lwta_modules(module)
    for other, part in competing.items():
        if part.mode == "sample":
            raise InputError(
                f"module {other!r} draws its winners (mode 'sample'), so that two runs differ; "
                "set its mode to 'auto'"
            )
    part_here = competing.get(split_call(name)[0])
    return Place(name, channel_dim, part_here is not None and part_here.passes_winners)


def intact_pass(module: nn.Module, inputs: Tensor, place: Place) -> Intact:
    """Run the network as it is; winners come from the mask of this very pass.

    Args:
        module: A classifier whose output is ``(images, classes)``.
        inputs: ``(images, ...)`` where the module lies.
        place: The site.

    Raises:
        InputError: There is no such site, or its output has no units of each image.
    """
    opened = lwta.trace(module, keep="winners") if place.competes else contextlib.nullcontext()
    with opened as trace:
        found = attribution(module, inputs, site=place.module, call=place.call)
    activations = units_first(found.activation, place.channel_dim)
    if trace is None:
        winners = (activations != 0).any(-1)
    else:
        record = trace.by_name()[place.module][place.call]
        winners = units_first(record.mask, record.channel_dim).any(-1)
    values = units_first(found.activation * found.gradient, place.channel_dim)
    return Intact(
        logits=found.logits.double().cpu().numpy(),
        targets=found.targets.cpu().numpy(),
        contributions=values.double().sum(-1).cpu().numpy(),
        activations=activations.double().sum(-1).cpu().numpy(),
        winners=winners.cpu().numpy(),
    )


class MaskedRuns:
    """Runs images many times, each time with other units of a site at zero.

    What comes before the site runs once per image where that gives the same logits; this is
    tried on the first image, and on the next ones if it fails there, because a near tie may be
    won by another unit in a batch of another size. Otherwise the whole network runs every time.

    Attributes:
        replays: Whether it runs once per image; ``None`` while that is not known.
    """

    def __init__(self, module: nn.Module, place: Place, *, batch_size: int) -> None:
        """Say where units are silenced.

        Args:
            module: The classifier; its mode and hooks are as before after every call.
            place: The site.
            batch_size: Runs per forward pass.
        """
        self.module = module
        self.place = place
        self.batch_size = batch_size
        self.replays: bool | None = None
        self._failures = 0

    def __call__(self, image: Tensor, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Run one image once per row of a mask.

        Args:
            image: ``(...)`` one input, where the module lies.
            keep: ``(runs, units)``, false where a unit's output is set to zero at every position.

        Returns:
            ``(runs, classes)`` float64 logits.
        """
        mask = torch.from_numpy(keep).to(image.device)
        with evaluation(self.module), torch.no_grad():
            if self.replays is None:
                self._try(image, mask[: min(TRIED_RUNS, self.batch_size)])
            prefix = Prefix(self.module, image[None], self.place.module) if self.replays else None
            parts = [self._run(image, part, prefix) for part in mask.split(self.batch_size)]
        return torch.cat(parts).double().cpu().numpy()

    def _run(self, image: Tensor, keep: Tensor, prefix: Prefix | None) -> Tensor:
        inputs = image[None].expand(len(keep), *image.shape).clone()
        again = contextlib.nullcontext() if prefix is None else replayed(prefix, len(keep))
        with again, masked(self.module, self.place, keep):
            logits: Tensor = self.module(inputs)
        return logits

    def _try(self, image: Tensor, keep: Tensor) -> None:
        if not can_replay(self.module, self.place.call):
            self.replays = False
            return
        prefix = Prefix(self.module, image[None], self.place.module)
        whole = self._run(image, keep, None)
        try:
            part = self._run(image, keep, prefix)
        except (RuntimeError, ValueError, TypeError):
            self.replays = False  # a part's output does not fit this many images
            return
        scale = max(1.0, float(whole.abs().max()))
        if part.shape == whole.shape and bool((part - whole).abs().max() <= 1e-4 * scale):
            self.replays = True
            return
        self._failures += 1
        self.replays = False if self._failures == TRIED_IMAGES else None


@contextlib.contextmanager
def masked(module: nn.Module, place: Place, keep: Tensor) -> Iterator[None]:
    """Multiply a site's output by a mask inside the block; the hook is gone afterwards.

    Args:
        module: The network.
        place: The site.
        keep: ``(images, units)`` bool.
    """

    def hide(output: Tensor) -> Tensor:
        shape = [1] * output.dim()
        shape[0], shape[place.channel_dim] = keep.shape
        return output * keep.view(shape).to(output.dtype)

    layer = module.get_submodule(place.module)
    with replaced_output(layer, place.module, place.call, hide):
        yield
