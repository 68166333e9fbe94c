"""The LWTA module: parameters in plain sight, no weights, no state."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from neuronym.errors import InputError, unknown
from neuronym.lwta import edited, engine, handover
from neuronym.lwta.edited import Editor, Handling
from neuronym.lwta.functional import (
    DEFAULT_TEMPERATURE,
    check_temperature,
    checked_axis,
    expected,
)
from neuronym.lwta.layout import check_competitors
from neuronym.lwta.noise import Part, draw_key
from neuronym.lwta.plain import Outcome, Rule

__all__ = ["LWTA", "lwta_modules"]

MODULE_MODES = ("auto", "sample", "argmax", "expected")


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
        mode: ``"auto"`` (by ``self.training``), ``"sample"``, ``"argmax"`` or ``"expected"``. In
            the last one every unit passes its share ``q·z``; a trace then names the most probable
            unit as the winner, and its mask does not tell which outputs are zero.
        hands_winners: Whether it leaves a note of the winners on its output, for a sparse linear
            map after it; :func:`neuronym.lwta.sparsify` sets it.
        relaxed: Whether the gradient of a sample is the straight-through one; else the drawn
            winners are taken as fixed.
        edit: What an edit does to its units, ``None`` elsewhere; see :mod:`neuronym.models.edits`.
            Copies and pickles carry it.
        part: Set for a forward that sees only a part of a larger batch; ``None`` elsewhere. Not
            kept by copies and pickles.
    """

    hands_winners: bool = False
    relaxed: bool = True
    edit: Editor | None = None

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
        self.part: Part | None = None
        self._recorders: tuple[Recorder, ...] = ()

    @property
    def samples(self) -> bool:
        """Whether the next call draws its winners at random."""
        return self.training if self.mode == "auto" else self.mode == "sample"

    @property
    def passes_winners(self) -> bool:
        """Whether the output is ``ξ·z``: the winners' values, and zero for every other unit."""
        return self.mode != "expected"

    def forward(self, z: Tensor) -> Tensor:
        """Return the winners' values and zeros (or the expectation), shaped like ``z``."""
        axis = checked_axis(z, self.competitors, self.channel_dim)
        key = draw_key() if self.samples else None
        offset = self.part.offset(z.numel()) if self.part else 0
        kl = any(recorder.wants_kl for recorder in self._recorders)
        rule = Rule(self.competitors, axis, self.temperature, key, kl, offset, self.relaxed)
        handling = None if self.edit is None else self.edit.handling(z, axis)
        if self.mode == "expected":
            return self._expected(z, rule, handling)
        outcome = engine.run(z, rule) if handling is None else edited.run(z, rule, handling)
        if self.hands_winners and not (handling is not None and handling.fills):
            handover.attach(self, outcome, rule)
        for recorder in self._recorders:
            recorder(z, outcome, key is not None)
        return outcome.y

    def _expected(self, z: Tensor, rule: Rule, handling: Handling | None) -> Tensor:
        if handling is not None:
            outcome = edited.expected(z, rule, handling)
        else:
            y = expected(z, self.competitors, channel_dim=self.channel_dim)
            if not self._recorders:
                return y
            outcome = engine.run(z, rule)._replace(y=y)
        for recorder in self._recorders:
            recorder(z, outcome, False)
        return outcome.y

    def extra_repr(self) -> str:
        mode = "" if self.mode == "auto" else f", mode={self.mode!r}"
        edit = "" if self.edit is None else f", edit={self.edit}"
        return (
            f"competitors={self.competitors}, channel_dim={self.channel_dim}, "
            f"temperature={self.temperature:g}{mode}{edit}"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the recorders of a running trace, and the part, out of copies and pickles."""
        return {**self.__dict__, "_recorders": (), "part": None}


def lwta_modules(model: nn.Module) -> dict[str, LWTA]:
    """Return the LWTA modules of ``model`` by name, each once (the root's name is ``""``)."""
    return {name: part for name, part in model.named_modules() if isinstance(part, LWTA)}
