"""The LWTA module: parameters in plain sight, no weights, no state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor, nn

from neuronym.errors import InputError, unknown
from neuronym.lwta import engine, handover
from neuronym.lwta.functional import (
    DEFAULT_TEMPERATURE,
    check_temperature,
    checked_axis,
)
from neuronym.lwta.layout import check_competitors
from neuronym.lwta.noise import draw_key
from neuronym.lwta.plain import Outcome, Rule

__all__ = ["LWTA", "lwta_modules", "sampling"]

MODULE_MODES = ("auto", "sample", "argmax")


class Recorder(Protocol):
    """What a running trace attaches to a module: called once per forward."""

    wants_kl: bool

    def __call__(self, z: Tensor, outcome: Outcome, sampled: bool) -> None: ...


class LWTA(nn.Module):
    """Stochastic local winner-takes-all in place of an activation function.

    In training a winner is drawn per block and position, with the straight-through gradient; the
    key of the noise comes from torch's default generator, one per call, so that
    ``torch.manual_seed`` rules it as it rules dropout. In evaluation the largest unit wins.
    See :func:`neuronym.lwta.functional.compete`.

    Attributes:
        competitors: U.
        channel_dim: The dimension that holds the units.
        temperature: τ of the relaxed sample; may be changed between steps.
        mode: ``"auto"`` (by ``self.training``), ``"sample"`` or ``"argmax"``.
        hands_winners: Whether it leaves a note of the winners on its output, for a sparse linear
            map after it; :func:`neuronym.lwta.sparsify` sets it.
    """

    hands_winners: bool = False

    def __init__(
        self,
        competitors: int,
        channel_dim: int = -1,
        *,
        temperature: float = DEFAULT_TEMPERATURE,
        mode: str = "auto",
    ) -> None:
        super().__init__()
        if isinstance(channel_dim, bool) or not isinstance(channel_dim, int):
            raise InputError(f"channel_dim must be an int, not {channel_dim!r}")
        if mode not in MODULE_MODES:
            raise unknown("mode", mode, MODULE_MODES)
        self.competitors = check_competitors(competitors)
        self.channel_dim = channel_dim
        self.temperature = check_temperature(temperature)
        self.mode = mode
        self._recorders: tuple[Recorder, ...] = ()

    @property
    def samples(self) -> bool:
        """Whether the next call draws its winners at random."""
        return self.training if self.mode == "auto" else self.mode == "sample"

    def forward(self, z: Tensor) -> Tensor:
        """Return the winners' values and zeros, shaped like ``z``."""
        axis = checked_axis(z, self.competitors, self.channel_dim)
        key = draw_key() if self.samples else None
        kl = any(recorder.wants_kl for recorder in self._recorders)
        rule = Rule(self.competitors, axis, self.temperature, key, kl)
        outcome = engine.run(z, rule)
        if self.hands_winners:
            handover.attach(self, outcome, rule)
        for recorder in self._recorders:
            recorder(z, outcome, key is not None)
        return outcome.y

    def extra_repr(self) -> str:
        mode = "" if self.mode == "auto" else f", mode={self.mode!r}"
        return (
            f"competitors={self.competitors}, channel_dim={self.channel_dim}, "
            f"temperature={self.temperature:g}{mode}"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the recorders of a running trace out of copies and pickles."""
        return {**self.__dict__, "_recorders": ()}


def lwta_modules(model: nn.Module) -> dict[str, LWTA]:
    """Return the LWTA modules of ``model`` by name, each once (the root's name is ``""``)."""
    return {name: part for name, part in model.named_modules() if isinstance(part, LWTA)}


@contextlib.contextmanager
def sampling(model: nn.Module) -> Iterator[nn.Module]:
    """Draw the winners at random inside the block, in evaluation too; then undo it.

    Raises:
        InputError: ``model`` has no LWTA module.
    """
    modules = list(lwta_modules(model).values())
    if not modules:
        raise InputError("the model has no LWTA module: nothing to sample")
    before = [module.mode for module in modules]
    try:
        for module in modules:
            module.mode = "sample"
        yield model
    finally:
        for module, mode in zip(modules, before, strict=True):
            module.mode = mode
