"""Changes as a person types them: ``SITE/UNIT``, with commas, ranges and ``=VALUE``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neuronym.calls import is_index

if TYPE_CHECKING:
    from neuronym.models import Change

__all__ = ["action_of", "changes", "units_of"]

_DIGITS = 6
"""Of the index of a unit: no layer has a million, and a range is written out unit by unit."""


def units_of(text: str, *, option: str) -> dict[str, list[int]]:
    """Read ``act/3``, ``act/3,5-7`` or ``act/3,head.act/1`` as site → units.

    Raises:
        InputError: It is not of that form, or no layer has that many units.
    """
    from neuronym.errors import InputError

    found: dict[str, dict[int, None]] = {}
    site = ""
    for part in text.split(","):
        head, slash, tail = part.strip().rpartition("/")
        site = head if slash else site
        first, dash, last = tail.partition("-")
        if not site or not is_index(first) or (dash and not is_index(last)):
            raise InputError(
                f"{option} takes SITE/UNIT, such as act/3, act/3,5 or act/3-7, not {text!r}"
            )
        begin, end = _unit(first, option), _unit(last if dash else first, option)
        if end < begin:
            raise InputError(f"{option} {text!r}: the range {tail} runs backwards")
        found.setdefault(site, {}).update(dict.fromkeys(range(begin, end + 1)))
    return {name: list(units) for name, units in found.items()}


def changes(
    silence: Sequence[str], hand_over: Sequence[str], force: Sequence[str], scale: Sequence[str]
) -> list[Change]:
    """Read the texts of the four options.

    Raises:
        InputError: One is not of the form that its option takes.
    """
    from neuronym.errors import InputError
    from neuronym.models import Change

    made = []
    for text in silence:
        for site, units in units_of(text, option="--silence").items():
            made.append(Change(site, tuple(units), "silence"))
    for text in hand_over:
        where, equals, rival = text.partition("=")
        if equals and not is_index(rival):
            raise InputError(f"--hand-over takes SITE/UNIT or SITE/UNIT=RIVAL, not {text!r}")
        to = _unit(rival, "--hand-over") if equals else None
        for site, units in units_of(where, option="--hand-over").items():
            made.append(Change(site, tuple(units), "hand_over", to=to))
    for text in force:
        where, equals, value = text.partition("=")
        number = _number(value, "--force", text, "SITE/UNIT=VALUE") if equals else None
        for site, units in units_of(where, option="--force").items():
            made.append(Change(site, tuple(units), "force", value=number))
    for text in scale:
        where, _, value = text.partition("=")
        number = _number(value, "--scale", text, "SITE/UNIT=FACTOR")
        for site, units in units_of(where, option="--scale").items():
            made.append(Change(site, tuple(units), "scale", factor=number))
    return made


def action_of(text: str) -> tuple[str, float | None]:
    """Read ``silence``, ``hand_over`` or ``scale=F`` as an action and its factor.

    Raises:
        UnknownNameError: It is another one.
        InputError: ``scale`` has no factor, or another action has one.
    """
    from neuronym.errors import InputError, unknown

    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in ("silence", "hand_over", "scale"):
        raise unknown("action for --do", text, ["silence", "hand_over", "scale=FACTOR"])
    if name == "scale":
        return name, _number(value, "--do", text, "scale=FACTOR")
    if equals:
        raise InputError(f"--do {name} takes no value, not {text!r}")
    return name, None


def _unit(text: str, option: str) -> int:
    from neuronym.errors import InputError

    digits = text.lstrip("0")
    if len(digits) > _DIGITS:
        raise InputError(
            f"{option}: no layer has a unit {text[:20]}{'...' if text[20:] else ''}; the largest "
            f"index that is read is {10**_DIGITS - 1}"
        )
    return int(digits or "0")


def _number(value: str, option: str, text: str, form: str) -> float:
    from neuronym.errors import InputError

    try:
        return float(value)
    except ValueError as error:
        raise InputError(f"{option} takes {form} with a number, not {text!r}") from error
