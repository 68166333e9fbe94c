"""How a command takes a class: by its name, or by its index."""

from __future__ import annotations

from collections.abc import Iterable

from neuronym.calls import is_index

__all__ = ["class_of"]


def class_of(text: str, names: Iterable[str] | None) -> int | str:
    """Return what a person wrote for a class: its name if there is such a class, else its index.

    Classes may be called ``"0"``, ``"1"``, ``"10"`` …, in another order than that of their
    indices; so the name comes first, in any case of its letters. Digits that are no name are an
    index. What is neither is returned as it is, to be refused with the nearest names.

    Args:
        text: What was written.
        names: The names of the classes, ``None`` where they have none.
    """
    if text.lower() in {name.lower() for name in names or ()}:
        return text
    return int(text) if is_index(text) else text
