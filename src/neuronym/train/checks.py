"""What the settings of a training and of a head have in common: ranges, and reading them back."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from neuronym.errors import InputError, unknown

__all__ = [
    "COUNT",
    "NOT_NEGATIVE",
    "PART",
    "POSITIVE",
    "SEED",
    "SHARE",
    "Check",
    "check_ranges",
    "read_settings",
]

Check = tuple[Callable[[Any], bool], str]
"""Whether a number fits, and the range in words."""

POSITIVE: Check = (lambda value: value > 0, "above 0")
COUNT: Check = (lambda value: value >= 1 and value == int(value), "a whole number of at least 1")
SHARE: Check = (lambda value: 0 <= value < 1, "in [0, 1)")
PART: Check = (lambda value: 0 <= value <= 1, "in [0, 1]")
NOT_NEGATIVE: Check = (lambda value: value >= 0, "at least 0")
SEED: Check = (
    lambda value: value >= 0 and value == int(value),
    "a whole number of at least 0",
)

Settings = TypeVar("Settings")


def check_ranges(
    settings: object, ranges: Mapping[str, Check], *, optional: Container[str] = ()
) -> None:
    """Check the numbers of a settings object; those in ``optional`` may be ``None``.

    Raises:
        InputError: A field is not a finite number of its range.
    """
    for name, (fits, text) in ranges.items():
        value = getattr(settings, name)
        if value is None and name in optional:
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not fits(value):
            raise InputError(f"{name} must be {text}, not {value!r}")


def read_settings(kind: type[Settings], value: Mapping[str, Any], *, what: str) -> Settings:
    """Build a settings dataclass from a mapping of its fields.

    Raises:
        UnknownNameError: A field is not known; ``what`` says of what.
    """
    names = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    for name in value:
        if name not in names:
            raise unknown(what, name, names)
    return kind(**value)
