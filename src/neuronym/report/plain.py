"""Plain words and plain numbers: how the report and the command line say what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from neuronym.results import Explanation, Winner

__all__ = [
    "Part",
    "count",
    "decimals",
    "duration",
    "fixed",
    "number",
    "parts",
    "percent",
    "sentence",
    "signed",
    "unit_name",
]

MINUS = "\u2212"
SPACE = "\u00a0"  # does not break: a number stays with its unit
_NAMES = 3  # names that a sentence gives in favour at most
_UNITS = 5  # units behind these names at most
_MAIN = 0.5  # share of everything in favour from which "mainly" is true


@dataclass(frozen=True)
class Part:
    """A stretch of a sentence.

    Attributes:
        text: What it says.
        kind: ``"text"``, the name of a ``"class"``, the name of a ``"unit"``, or a ``"number"``.
        unit: Index of the unit where ``kind`` is ``"unit"``.
    """

    text: str
    kind: Literal["text", "class", "unit", "number"] = "text"
    unit: int | None = None


def sentence(explanation: Explanation) -> str:
    """Say in one sentence why the target got its logit.

    For example ``Predicted “red circle” (97 %) mainly because of “red” (+2.14) and “round”
    (+1.40), against “square” (−0.60).`` The numbers are contributions in logits. "Mainly" is said
    only where the units named make up at least half of everything that speaks for the class.
    Where several units carry a name, each one's contribution stands behind it. A unit without a
    name is called ``unit 12``.
    """
    return "".join(
        f"“{part.text}”" if part.kind in ("class", "unit") and not _is_bare(part) else part.text
        for part in parts(explanation)
    )


def parts(explanation: Explanation) -> tuple[Part, ...]:
    """Return the stretches of :func:`sentence`, so that a page can set names apart."""
    favour, against = named(explanation)
    places = decimals(explanation)
    out = list(_lead(explanation))
    if not explanation.winners:
        return (*out, Part(f", and no unit of {explanation.site} passed anything on."))
    if favour:
        everything = sum(max(winner.contribution, 0.0) for winner in explanation.winners)
        share = sum(winner.contribution for winner in favour) / everything
        out.append(
            Part(" mainly because of " if share >= _MAIN else " with the most support from ")
        )
        out += _listed(favour, places)
    else:
        out.append(Part(" although no unit speaks for it"))
    if against:
        out.append(Part(", against "))
        out += _listed(against, places)
    out.append(Part("."))
    return tuple(out)


def named(explanation: Explanation) -> tuple[list[Winner], list[Winner]]:
    """Return the units that the sentence names: those in favour, and the one against.

    In favour are the fewest of the largest that make up half of all support, within five units
    and three names. A contribution that rounds to zero is not named.
    """
    smallest = 0.5 * 10.0 ** -decimals(explanation)
    ranked = sorted(explanation.winners, key=lambda winner: -winner.contribution)
    positive = [winner for winner in ranked if winner.contribution >= smallest]
    negative = [winner for winner in ranked if winner.contribution <= -smallest]
    everything = sum(max(winner.contribution, 0.0) for winner in ranked)
    favour: list[Winner] = []
    for winner in positive[:_UNITS]:
        enough = sum(other.contribution for other in favour) >= _MAIN * everything
        # One more is named if it is needed for half, or is nearly as large as the first.
        if favour and enough and winner.contribution < 0.5 * favour[0].contribution:
            break
        if len({unit_name(other) for other in (*favour, winner)}) > _NAMES:
            break
        favour.append(winner)
    return favour, negative[-1:]


def unit_name(winner: Winner) -> str:
    """Return the name of a winner, or ``unit 12`` where it has none."""
    return f"unit {winner.unit}" if winner.name is None else winner.name


def decimals(explanation: Explanation) -> int:
    """Return how many decimals show the largest contribution to three digits, 1 to 6."""
    sizes = [abs(winner.contribution) for winner in explanation.winners]
    largest = max((size for size in sizes if math.isfinite(size)), default=0.0)
    if largest <= 0.0:
        return 2
    return min(6, max(1, 2 - math.floor(math.log10(largest))))


def signed(value: float, places: int) -> str:
    """Format with a sign and fixed decimals: ``+2.10``, ``−0.60``; zero has no sign."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("+∞" if value > 0 else f"{MINUS}∞")
    text = f"{_rounded(abs(value), places):f}"
    if float(text) == 0.0:
        return text
    return ("+" if value > 0 else MINUS) + text


def fixed(value: float, places: int) -> str:
    """Format with fixed decimals and a true minus sign: ``2.10``, ``−0.60``."""
    return signed(value, places).removeprefix("+")


def number(value: float, digits: int = 3) -> str:
    """Format to ``digits`` significant digits: ``0.412``, ``−5.31``, ``1,536``, ``1.2e−5``."""
    if not math.isfinite(value):
        return signed(value, 0).removeprefix("+")
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if exponent < -4 or exponent > 8:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(power)}".replace("-", MINUS)
    return f"{_rounded(value, max(0, digits - 1 - exponent)):,f}".replace("-", MINUS)


def percent(share: float) -> str:
    """Format a share of 0 to 1: ``12.5 %``, ``<0.1 %``; ``0 %`` and ``100 %`` only if exact."""
    value = 100 * share
    if not math.isfinite(value):
        return number(value)
    if 0 < value < 0.05:
        return f"<0.1{SPACE}%"
    if 99.95 <= value < 100:
        return f">99.9{SPACE}%"
    text = f"{value:.0f}" if value in (0, 100) else f"{_rounded(value, 1):f}"
    return text.replace("-", MINUS) + f"{SPACE}%"


def count(value: float) -> str:
    """Format a count: ``54``, ``1,536``; one that is not whole keeps its decimals."""
    return f"{round(value):,}" if value == round(value) else number(value)


def duration(seconds: float) -> str:
    """Format seconds: ``0.42 s``, ``12 s``, ``2 min 41 s``, ``1 h 3 min``."""
    if seconds < 10:
        return f"{number(seconds, 2)}{SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{SPACE}min {whole % 60}{SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{SPACE}h {minutes % 60}{SPACE}min"


def _rounded(value: float, places: int) -> Decimal:
    """Round to decimals, ties away from zero, as the page's script does."""
    return Decimal(float(value)).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def _lead(explanation: Explanation) -> tuple[Part, ...]:
    target = explanation.target
    chance = Part(f" ({percent(target.probability)})")
    best = explanation.predictions[0] if explanation.predictions else target
    if best.index == target.index:
        return Part("Predicted "), Part(target.name, "class"), chance
    return (
        Part("Predicted "),
        Part(best.name, "class"),
        Part("; "),
        Part(target.name, "class"),
        Part(f" got {percent(target.probability)}"),
    )


def _listed(winners: Sequence[Winner], places: int) -> list[Part]:
    """Name each name once, with the contribution of every unit that carries it."""
    by_name: dict[str, list[Winner]] = {}
    for winner in winners:
        by_name.setdefault(unit_name(winner), []).append(winner)
    out: list[Part] = []
    for position, (name, group) in enumerate(by_name.items()):
        if position:
            out.append(Part(" and " if position == len(by_name) - 1 else ", "))
        values = ", ".join(signed(winner.contribution, places) for winner in group)
        out += [Part(name, "unit", group[0].unit), Part(" ("), Part(values, "number"), Part(")")]
    return out


def _is_bare(part: Part) -> bool:
    """Whether a unit has no name of its own, so that no quotation marks belong around it."""
    return part.kind == "unit" and part.text == f"unit {part.unit}"
