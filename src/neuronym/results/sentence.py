"""A plain sentence about an explanation, every number of which is in its table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from neuronym.results.numbers import percent, signed

if TYPE_CHECKING:
    from neuronym.results.explanation import Explanation, Winner

__all__ = ["Part", "decimals", "named", "parts", "sentence", "unit_name"]

_NAMES = 3  # names that a sentence gives in favour at most
_MORE_UNITS = 2  # units behind these names beyond their number
_MAIN = 0.5  # share of everything in favour from which "mainly" is true
_LOST = 0.1  # share of what is to be explained from which an error is told


@dataclass(frozen=True)
class Part:
    """A stretch of a sentence.

    Attributes:
        text: What it says.
        kind: ``"text"``, the name of a ``"class"``, the name of a ``"unit"``, or a ``"number"``.
        unit: Index of the unit where ``kind`` is ``"unit"``.
        named: Whether a unit has a name of its own, around which quotation marks belong.
    """

    text: str
    kind: Literal["text", "class", "unit", "number"] = "text"
    unit: int | None = None
    named: bool = True


def sentence(explanation: Explanation, *, most: int = _NAMES) -> str:
    """Say in one sentence why the target got its logit, or why it lies above another.

    For example ``Predicted “red circle” (97 %) mainly because of “red” (+2.14) and “round”
    (+1.40), against “square” (−0.60).`` The numbers are contributions in logits. "Mainly" is said
    only where the units named make up at least half of everything that speaks for the class;
    where they do not, the sentence says that no unit stands out and how much the largest are of
    it. Where several units carry a name, each one's contribution stands behind it; they are not
    summed. A unit without a name is called ``the unnamed unit 12``, and behind one whose
    activation is negative stands ``below zero``, because a name says when a unit is high. A second
    sentence gives the completeness error where it is at least a tenth of what is to be explained.

    Args:
        explanation: Of one image.
        most: Names in favour at most, at least 1.
    """
    return "".join(
        f"“{part.text}”" if part.kind in ("class", "unit") and part.named else part.text
        for part in parts(explanation, most=most)
    )


def parts(explanation: Explanation, *, most: int = _NAMES) -> tuple[Part, ...]:
    """Return the stretches of :func:`sentence`, so that a page can set names apart."""
    favour, against = named(explanation, most=most)
    places = decimals(explanation)
    out = list(_lead(explanation, places))
    if not explanation.winners:
        return (*out, Part(f", and no unit of {explanation.site} passed anything on."))
    if favour:
        everything = explanation.support if _sign(explanation) > 0 else explanation.opposition
        share = sum(winner.contribution for winner in favour) / everything
        if share >= _MAIN:
            out += [Part(" mainly because of "), *_listed(favour, places)]
        else:
            out += _no_single(favour, places, everything)
    else:
        out.append(Part(" although no unit speaks for it"))
    if against:
        out.append(Part(", against "))
        out += _listed(against, places)
    out.append(Part("."))
    return (*out, *_lost(explanation, places))


def named(explanation: Explanation, *, most: int = _NAMES) -> tuple[list[Winner], list[Winner]]:
    """Return the units that the sentence names: those in favour, and the one against.

    In favour are the fewest of the largest that make up half of all support, within ``most``
    names and two units more. A contribution that rounds to zero is not named. Where a difference
    of two logits is negative, in favour means in favour of the other class.
    """
    way = _sign(explanation)
    smallest = 0.5 * 10.0 ** -decimals(explanation)
    ranked = sorted(explanation.winners, key=lambda winner: -way * winner.contribution)
    positive = [winner for winner in ranked if way * winner.contribution >= smallest]
    negative = [winner for winner in ranked if way * winner.contribution <= -smallest]
    everything = abs(explanation.support if way > 0 else explanation.opposition)
    favour: list[Winner] = []
    for winner in positive[: most + _MORE_UNITS]:
        enough = abs(sum(other.contribution for other in favour)) >= _MAIN * everything
        # One more is named if it is needed for half, or is nearly as large as the first.
        if favour and enough and abs(winner.contribution) < 0.5 * abs(favour[0].contribution):
            break
        if len({unit_name(other) for other in (*favour, winner)}) > most:
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


def _sign(explanation: Explanation) -> int:
    """Return -1 where a difference of two logits is negative, else 1."""
    return -1 if explanation.against is not None and explanation.explained < 0 else 1


def _lead(explanation: Explanation, places: int) -> tuple[Part, ...]:
    target, rival = explanation.target, explanation.against
    best = explanation.predictions[0] if explanation.predictions else target
    if rival is not None:
        preferred, other = (target, rival) if _sign(explanation) > 0 else (rival, target)
        first = () if best.index == preferred.index else (Part("Predicted "), _class(best.name))
        return (
            *((*first, Part("; prefers ")) if first else (Part("Prefers "),)),
            _class(preferred.name),
            Part(" to "),
            _class(other.name),
            Part(" ("),
            Part(signed(explanation.explained, places), "number"),
            Part(")"),
        )
    chance = percent(target.probability)
    if best.index == target.index:
        return Part("Predicted "), _class(target.name), Part(f" ({chance})")
    lead = (Part("Predicted "), _class(best.name), Part("; "), _class(target.name))
    return (*lead, Part(f" got {chance}"))


def _class(name: str) -> Part:
    return Part(name, "class")


def _no_single(favour: Sequence[Winner], places: int, everything: float) -> list[Part]:
    """Say that no few units make up half of what speaks for it, and how much the largest are."""
    share = percent(sum(winner.contribution for winner in favour) / everything)
    total = Part(signed(everything, places), "number")
    those = _listed(favour, places)
    if len(favour) == 1:
        lead, link = "; no unit stands out: the largest, ", f", is {share} of the "
    else:
        lead, link = "; no unit stands out: the largest are ", f", together {share} of the "
    return [Part(lead), *those, Part(link), total, Part(" in favour")]


def _lost(explanation: Explanation, places: int) -> tuple[Part, ...]:
    """Say how much of the logit the list leaves out, where that is much."""
    error = explanation.completeness_error
    total = sum(winner.contribution for winner in explanation.winners)
    gained = explanation.explained - explanation.baseline
    smallest = 0.5 * 10.0**-places
    if not abs(error) >= max(_LOST * max(abs(total), abs(gained)), smallest):
        return ()
    what = "logit" if explanation.against is None else "difference"
    return (
        Part(" The list does not account for "),
        Part(signed(error, places), "number"),
        Part(f" of the {what} (completeness error)."),
    )


def _listed(winners: Sequence[Winner], places: int) -> list[Part]:
    """Name each name once, with the contribution of every unit that carries it.

    A name says when a unit is high, so that one below zero is told apart.
    """
    by_name: dict[tuple[str, bool], list[Winner]] = {}
    for winner in winners:
        by_name.setdefault((unit_name(winner), winner.activation < 0), []).append(winner)
    out: list[Part] = []
    for position, group in enumerate(by_name.values()):
        if position:
            out.append(Part(" and " if position == len(by_name) - 1 else ", "))
        values = ", ".join(signed(winner.contribution, places) for winner in group)
        low = " below zero" if group[0].activation < 0 else ""
        out += [_unit(group[0]), Part(f"{low} ("), Part(values, "number"), Part(")")]
    return out


def _unit(winner: Winner) -> Part:
    if winner.name is None:
        return Part(f"the unnamed unit {winner.unit}", "unit", winner.unit, named=False)
    return Part(winner.name, "unit", winner.unit)
