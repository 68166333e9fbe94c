"""Competition under an edit: units that cannot win, heirs that pass instead, changed outputs.

An edit acts at three points of ``y = ξ·z``. A unit that is *excluded* has the activation minus
infinity while the winner is looked for, and never in the product. An *heir* passes its own value
where another unit of its block won. At last an output may be multiplied or fixed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neuronym.errors import InputError
from neuronym.lwta import engine
from neuronym.lwta.layout import to_blocks
from neuronym.lwta.plain import Outcome, Rule, compute_dtype, noisy_blocks, onehot, winner_dtype
from neuronym.lwta.unit_rules import UnitRules

__all__ = ["Calls", "Editor", "Handling", "Layer", "expected", "run"]


class Calls:
    """Counts the calls of modules within one forward pass of the model that holds them.

    Outside a forward pass of that model (a part of it is called alone) every call is the first.
    """

    def __init__(self) -> None:
        self.inside = False
        self.counts: dict[str, int] = {}

    def begin(self, *_: object) -> None:
        """Forget the last forward pass (a forward pre-hook of the model)."""
        self.inside = True
        self.counts.clear()

    def end(self, *_: object) -> None:
        """Note that the forward pass is over (a forward hook of the model)."""
        self.inside = False

    def next(self, name: str) -> int:
        """Return the number of this call of a module, from 0."""
        number = self.counts.get(name, 0)
        if self.inside:
            self.counts[name] = number + 1
            return number
        return 0


@dataclass(frozen=True, eq=False)
class Layer:
    """What one edit does to one module.

    Attributes:
        name: Of the module in the model.
        rules: Number of the call → rules, one for all images or one per image.
        calls: Counts the module's calls.
        channel_dims: The dimension of a dense module's output that holds the units, as it was
            given: several must come out as the same.
        silent: Whether it may leave a block that passes nothing.
    """

    name: str
    rules: Mapping[int, Sequence[UnitRules]]
    calls: Calls
    channel_dims: tuple[int, ...] = ()
    silent: bool = False


@dataclass(frozen=True, eq=False)
class Handling:
    """Rules as tensors ``(rows, units)``, with one row for all images or one per image.

    Attributes:
        excluded: Bool, the units that cannot win.
        heirs: int64, who of the unit's block (0 … U - 1) passes where the unit wins.
        fixed, values: Bool, the outputs that are fixed, and to what.
        factors: What outputs are multiplied by.
        fills: Whether a unit may pass something where it did not win.
    """

    excluded: Tensor | None
    heirs: Tensor | None
    fixed: Tensor | None
    values: Tensor | None
    factors: Tensor | None
    fills: bool

    def search(self, z: Tensor, axis: int) -> Tensor:
        """Return the activations among which the winner is looked for."""
        if self.excluded is None:
            return z
        return z.masked_fill(_beside(self.excluded, z.dim(), axis), -math.inf)

    def output(self, y: Tensor, axis: int) -> Tensor:
        """Return the output with its changes."""
        if self.factors is not None:
            y = y * _beside(self.factors, y.dim(), axis)
        if self.fixed is not None and self.values is not None:
            y = torch.where(
                _beside(self.fixed, y.dim(), axis), _beside(self.values, y.dim(), axis), y
            )
        return y

    def passing(self, winners: Tensor, axis: int) -> Tensor:
        """Return who passes where ``winners`` won; both ``(…, B, …)`` in ``0 … U - 1``."""
        if self.heirs is None:
            return winners
        rows, units = self.heirs.shape
        blocks = winners.shape[axis]
        place = torch.arange(0, units, units // blocks, device=winners.device)
        index = winners.long() + place.view(-1, *[1] * (winners.dim() - axis - 1))
        if rows > 1:
            row = torch.arange(0, rows * units, units, device=winners.device)
            index = index + row.view(-1, *[1] * (winners.dim() - 1))
        return self.heirs.flatten()[index].to(winners.dtype)

    def moved(self, weights: Tensor, axis: int) -> Tensor:
        """Add the weights ``(…, B, U, …)`` of units to those of their heirs."""
        if self.heirs is None:
            return weights
        blocks, competitors = weights.shape[axis : axis + 2]
        heirs = _beside(self.heirs, weights.dim() - 1, axis)
        index = heirs.unflatten(axis, (blocks, competitors)).expand(weights.shape)
        return torch.zeros_like(weights).scatter_add(axis + 1, index, weights)


def _beside(table: Tensor, dims: int, axis: int) -> Tensor:
    """View ``(rows, units)`` so that it broadcasts with a tensor whose ``axis`` holds units."""
    shape = [1] * dims
    shape[axis] = table.shape[1]
    if len(table) > 1:
        shape[0] = len(table)
    return table.view(shape)


class Editor:
    """The edits of one module, in the order in which they were made."""

    def __init__(self, layers: Sequence[Layer], *, competitors: int | None) -> None:
        self.layers = tuple(layers)
        self.competitors = competitors
        self._made: dict[tuple[object, ...], Handling | None] = {}

    def __repr__(self) -> str:
        """Say what is done to which unit, so that two edits of one model differ when printed."""
        calls = sorted({call for layer in self.layers for call in layer.rules})
        return "; ".join(
            f"#{call} {_text(rules)}" for call in calls for rules in _composed(self._at(call))
        )

    def _at(self, call: int) -> list[Sequence[UnitRules]]:
        return [layer.rules[call] for layer in self.layers if call in layer.rules]

    def composed(self, call: int) -> UnitRules:
        """Return what is done in a call to the first image (to all where edits are not per image).

        Edits that are made side by side differ from image to image.
        """
        return next(iter(_composed(self._at(call))), UnitRules())

    def with_layer(self, layer: Layer) -> Editor:
        """Return the editor with one more edit.

        Raises:
            InputError: Both together leave a block with no unit that can win and pass something.
        """
        made = Editor((*self.layers, layer), competitors=self.competitors)
        if self.competitors is not None:
            for call in layer.rules:
                where = f"{layer.name}#{call}" if call else layer.name
                for rules in _composed(made._at(call)):
                    rules.check_blocks(
                        self.competitors, where=f"site {where!r}", silent=layer.silent
                    )
        return made

    def without(self, layer: Layer) -> Editor | None:
        """Return the editor without an edit, or ``None`` where none is left."""
        left = tuple(each for each in self.layers if each is not layer)
        return Editor(left, competitors=self.competitors) if left else None

    def handling(self, z: Tensor, axis: int) -> Handling | None:
        """Return what is done in this call, whose units are in dimension ``axis`` of ``z``.

        Raises:
            InputError: A unit is out of range, or the rows of a per-image edit do not fit.
        """
        numbers = tuple(layer.calls.next(layer.name) for layer in self.layers)
        frozen = torch.is_inference_mode_enabled()  # what is made in it serves no gradient
        key = (numbers, z.shape[axis], z.dtype, z.device, frozen)
        if key in self._made:
            made = self._made[key]
        else:
            found = [
                layer.rules[number]
                for layer, number in zip(self.layers, numbers, strict=True)
                if number in layer.rules
            ]
            made = self._make(found, z, axis)
            if not engine.capturing():  # a graph's tensors hold no numbers to keep
                self._made[key] = made
        rows = 1 if made is None else _rows(made)
        if rows > 1 and (axis == 0 or z.shape[0] != rows):
            raise InputError(
                f"{rows} edits side by side need {rows} images in the first dimension at "
                f"{self.layers[-1].name!r}, whose input is {tuple(z.shape)}; make one at a time"
            )
        return made

    def _make(self, found: Sequence[Sequence[UnitRules]], z: Tensor, axis: int) -> Handling | None:
        rules = _composed(found)
        units = z.shape[axis]
        largest = max((max(each.units, default=0) for each in rules), default=0)
        if largest >= units:
            raise InputError(
                f"site {self.layers[-1].name!r} has units 0 to {units - 1}, not {largest}"
            )
        made = _tables(rules, units, self.competitors)
        if all(each is None for each in made):
            return None
        excluded, heirs, fixed, values, factors = (
            None if each is None else torch.tensor(each, device=z.device) for each in made
        )
        values = None if values is None else values.to(z.dtype)
        factors = None if factors is None else factors.to(z.dtype)
        fills = any(value != 0 for each in rules for value in each.values.values())
        return Handling(excluded, heirs, fixed, values, factors, fills)


def _composed(found: Sequence[Sequence[UnitRules]]) -> list[UnitRules]:
    """Compose the rules of several edits, row by row."""
    rows = max((len(each) for each in found), default=0)
    composed = [UnitRules()] * rows
    for each in found:
        if len(each) not in (1, rows):
            raise InputError(f"{len(each)} and {rows} edits side by side do not fit")
        composed = [
            earlier.then(each[row if len(each) > 1 else 0]) for row, earlier in enumerate(composed)
        ]
    return composed


def _text(rules: UnitRules) -> str:
    parts = [f"excluded {sorted(rules.excluded)}"] if rules.excluded else []
    for name in ("heirs", "values", "factors"):
        table = getattr(rules, name)
        if table:
            parts.append(f"{name} {dict(sorted(table.items()))}")
    return ", ".join(parts) or "nothing"


def _rows(handling: Handling) -> int:
    tables = (handling.excluded, handling.heirs, handling.fixed, handling.factors)
    return max(len(table) for table in tables if table is not None)


def _tables(
    rules: Sequence[UnitRules], units: int, competitors: int | None
) -> tuple[npt.NDArray[np.generic] | None, ...]:
    """Return excluded, heirs, fixed, values and factors; ``None`` for what nothing uses."""
    rows = len(rules)
    excluded = np.zeros((rows, units), np.bool_)
    heirs = np.tile(np.arange(units), (rows, 1))
    fixed, values = np.zeros_like(excluded), np.zeros((rows, units))
    factors = np.ones_like(values)
    for row, each in enumerate(rules):
        excluded[row, sorted(each.excluded)] = True
        fixed[row, sorted(each.values)] = True
        for table, wanted in ((heirs, each.heirs), (values, each.values), (factors, each.factors)):
            table[row, list(wanted)] = list(wanted.values())
    inherits = any(each.heirs for each in rules) and competitors is not None
    return (
        excluded if excluded.any() else None,
        heirs % competitors if inherits and competitors else None,
        fixed if fixed.any() else None,
        values if fixed.any() else None,
        factors if (factors != 1).any() else None,
    )


def run(z: Tensor, rule: Rule, handling: Handling) -> Outcome:
    """Let the units of ``z`` compete by ``rule`` under an edit.

    ``winners`` are those that pass, heirs included. The divergence is that of the winners that
    pass from the uniform prior over all U competitors.
    """
    search = handling.search(z, rule.axis)
    if handling.heirs is None:
        outcome = engine.run(search, rule)
    elif _wants_relaxed(z, rule):
        outcome = _relaxed(z, search, rule, handling)
    else:
        outcome = _handed(z, search, rule, handling)
    return outcome._replace(y=handling.output(outcome.y, rule.axis))


def _wants_relaxed(z: Tensor, rule: Rule) -> bool:
    return rule.key is not None and rule.relaxed and z.requires_grad and torch.is_grad_enabled()


def _handed(z: Tensor, search: Tensor, rule: Rule, handling: Handling) -> Outcome:
    """Find the winners, and let their heirs pass; a gradient sees the winners as fixed."""
    with torch.no_grad():
        found = engine.run(search, replace(rule, kl=False)).winners
        winners = handling.passing(found, rule.axis)
        won = onehot(winners, rule.competitors, rule.axis).flatten(rule.axis, rule.axis + 1)
    y = torch.where(won, z, torch.zeros((), dtype=z.dtype, device=z.device))
    kl = _divergence(_chances(search, rule, handling), rule) if rule.kl else None
    return Outcome(y, winners, kl)


def _relaxed(z: Tensor, search: Tensor, rule: Rule, handling: Handling) -> Outcome:
    """Compete by the formula ``y = T(hard + soft − stop_gradient(soft))·z``, T handing over."""
    among = rule.axis + 1
    blocks = to_blocks(search, rule.competitors, rule.axis).to(compute_dtype(z.dtype))
    noisy = noisy_blocks(blocks, search, rule)
    hard = noisy.argmax(among)
    soft = torch.softmax(noisy / rule.temperature, among)
    won = onehot(hard, rule.competitors, rule.axis).to(soft.dtype)
    xi = handling.moved(won + (soft - soft.detach()), rule.axis)
    out = handling.moved(won + soft.detach(), rule.axis) == 0  # cannot pass: its limit is 0
    own = to_blocks(z, rule.competitors, rule.axis).to(soft.dtype).masked_fill(out, 0.0)
    y = (xi * own).flatten(rule.axis, among).to(z.dtype)
    winners = handling.passing(hard, rule.axis).to(winner_dtype(rule.competitors))
    kl = _divergence(_chances(search, rule, handling), rule) if rule.kl else None
    return Outcome(y, winners, kl)


def expected(z: Tensor, rule: Rule, handling: Handling) -> Outcome:
    """Return the expectation ``q·z`` of the output under an edit, and who is most likely to pass.

    The chance of an excluded unit is 0 and the rest of its block is normalised anew; an heir's
    chance is the sum of its own and that of the units whose place it takes.
    """
    search = handling.search(z, rule.axis)
    q = _chances(search, rule, handling)
    own = to_blocks(z, rule.competitors, rule.axis).to(q.dtype).masked_fill(q == 0, 0.0)
    y = (q * own).flatten(rule.axis, rule.axis + 1).to(z.dtype)
    if handling.heirs is None:
        winners = to_blocks(search, rule.competitors, rule.axis).argmax(rule.axis + 1)
    else:
        winners = q.argmax(rule.axis + 1)
    kl = _divergence(q, rule) if rule.kl else None
    winners = winners.to(winner_dtype(rule.competitors))
    return Outcome(handling.output(y, rule.axis), winners, kl)


def _chances(search: Tensor, rule: Rule, handling: Handling) -> Tensor:
    """Return ``(…, B, U, …)``: the chance of each unit to pass."""
    blocks = to_blocks(search, rule.competitors, rule.axis).to(compute_dtype(search.dtype))
    return handling.moved(torch.softmax(blocks, rule.axis + 1), rule.axis)


def _divergence(q: Tensor, rule: Rule) -> Tensor:
    """Sum over blocks of ``Σ_u q_u (log q_u + log U)``; a unit that cannot pass adds 0."""
    log_q = q.clamp_min(torch.finfo(q.dtype).tiny).log()
    return (q * (log_q + math.log(rule.competitors))).sum()
