"""What an edit does to the units of one site, as data that composes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from neuronym.errors import InputError

__all__ = ["UnitRules"]


@dataclass(frozen=True)
class UnitRules:
    """What is done to the units of one site.

    Attributes:
        excluded: Units that cannot win.
        heirs: Unit → unit of its block that passes where it would have won.
        values: Unit → number that its output becomes at every position, won or not.
        factors: Unit → number that its output is multiplied by.
    """

    excluded: frozenset[int] = frozenset()
    heirs: Mapping[int, int] = field(default_factory=dict)
    values: Mapping[int, float] = field(default_factory=dict)
    factors: Mapping[int, float] = field(default_factory=dict)

    def then(self, later: UnitRules) -> UnitRules:
        """Return what both do, ``later`` to a network that these rules have changed already."""
        excluded = set(self.excluded | later.excluded)
        heirs = dict(later.heirs) | {u: later.heirs.get(v, v) for u, v in self.heirs.items()}
        while gone := {u for u, v in heirs.items() if v in excluded and u not in excluded}:
            excluded |= gone  # whose heir cannot win cannot win either
        values = {u: v * later.factors.get(u, 1.0) for u, v in self.values.items()}
        values |= later.values
        units = (self.factors.keys() | later.factors.keys()) - values.keys()
        factors = {u: self.factors.get(u, 1.0) * later.factors.get(u, 1.0) for u in units}
        kept = {u: v for u, v in heirs.items() if u not in excluded and u != v}
        return UnitRules(frozenset(excluded), kept, values, factors)

    @property
    def units(self) -> frozenset[int]:
        """Every unit that they name."""
        named = [self.excluded, self.heirs, self.heirs.values(), self.values, self.factors]
        return frozenset(unit for group in named for unit in group)

    def able(self, block: int, competitors: int) -> frozenset[int]:
        """Return the units of a block that can pass: where they win, or another one does."""
        units = range(block * competitors, (block + 1) * competitors)
        return frozenset(self.heirs.get(u, u) for u in units if u not in self.excluded)

    def check_blocks(self, competitors: int, *, where: str, silent: bool = False) -> None:
        """Check that each block keeps a unit that can win and, unless ``silent``, pass something.

        Raises:
            InputError: One does not; the text names ``where`` and the block.
        """
        for block in sorted({unit // competitors for unit in self.units}):
            units = range(block * competitors, (block + 1) * competitors)
            able = self.able(block, competitors)
            if not able:
                raise InputError(
                    f"{where}: no unit of block {block} (units {units[0]} to {units[-1]}) could "
                    "win; leave at least one of them"
                )
            mute = all(0 in (self.values.get(u, 1), self.factors.get(u, 1)) for u in able)
            if mute and not silent:
                raise InputError(
                    f"{where}: every unit of block {block} (units {units[0]} to {units[-1]}) that "
                    "can win would be silent; leave at least one of them"
                )
