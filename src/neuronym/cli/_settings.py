"""``--set NAME=VALUE``: a setting's text read by the type of its field."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

__all__ = ["pairs"]


def pairs(other: Sequence[str], kind: type[Any], what: str) -> dict[str, Any]:
    """Read ``NAME=VALUE`` texts as fields of the dataclass ``kind``.

    Raises:
        InputError: A text has no ``=``, or its value does not fit the field.
        UnknownNameError: There is no such field.
    """
    from neuronym.errors import InputError, unknown

    known = typing.get_type_hints(kind)
    names = [each.name for each in fields(kind)]
    values = {}
    for pair in other:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"--set takes NAME=VALUE, not {pair!r}")
        if name not in names:
            raise unknown(what, name, names)
        values[name] = _value(name, text, known)
    return values


def _value(name: str, text: str, known: Mapping[str, Any]) -> Any:
    from neuronym.errors import InputError

    kinds = typing.get_args(known[name]) or (known[name],)
    if types.NoneType in kinds and text.lower() in ("none", ""):
        return None
    if bool in kinds:
        if text.lower() not in ("true", "false"):
            raise InputError(f"{name} must be true or false, not {text!r}")
        return text.lower() == "true"
    if str in kinds:
        return text
    try:
        if name == "input_size":
            return tuple(int(part) for part in text.split(","))
        return int(text) if int in kinds and float not in kinds else float(text)
    except ValueError as error:
        raise InputError(f"{name} must be a number, not {text!r}") from error
