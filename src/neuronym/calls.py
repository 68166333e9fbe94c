"""The numbers in names: ``relu#1`` is the second call of ``relu``."""

from __future__ import annotations

__all__ = ["is_index", "split_call"]


def is_index(text: str) -> bool:
    """Whether a text is an index from 0: plain digits, the only ones that all of ours read."""
    return text.isascii() and text.isdecimal()  # int() refuses others, such as a raised 3


def split_call(name: str) -> tuple[str, int]:
    """Split a site's name or pattern into that of its module and the number of the call.

    ``"relu#1"`` → ``("relu", 1)``; without a literal number the call is 0.
    """
    head, mark, call = name.rpartition("#")
    return (head, int(call)) if mark and is_index(call) else (name, 0)
