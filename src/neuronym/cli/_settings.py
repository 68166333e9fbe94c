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
    """Read a setting's text by the type of its field."""
    hint = known[name]
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = typing.get_args(hint) if union else (hint,)
    if types.NoneType in kinds and text.lower() in ("none", ""):
        return None
    for kind in kinds:
        if typing.get_origin(kind) in (tuple, Sequence):
            of = typing.get_args(kind)[0]
            return tuple(
                _one(name, part.strip(), (of,)) for part in text.split(",") if part.strip()
            )
    return _one(name, text, kinds)


def _one(name: str, text: str, kinds: Sequence[Any]) -> bool | str | int | float:
    from neuronym.errors import InputError

    if bool in kinds:
        if text.lower() not in ("true", "false"):
            raise InputError(f"{name} must be true or false, not {text!r}")
        return text.lower() == "true"
    if str in kinds:
        return text
    whole = int in kinds and float not in kinds
    try:
        return int(text) if whole else float(text)
    except ValueError as error:
        number = "whole number" if whole else "number"
        raise InputError(f"{name} must be a {number}, not {text!r}") from error
