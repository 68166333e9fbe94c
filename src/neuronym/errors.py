"""The errors that Neuronym raises.

Each one derives from :class:`NeuronymError` and from the builtin that a caller expects, and its
text is one line: what was wrong, what is allowed, and the nearest match where there is one. The
command line prints that line and ends with status 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "DivisibilityError",
    "FolderInUseError",
    "InputError",
    "MissingError",
    "NeuronymError",
    "UnavailableError",
    "UnknownNameError",
    "UnreadableError",
    "nearest",
    "unknown",
]


class NeuronymError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(NeuronymError, ValueError):
    """An argument has a value that is not allowed."""


class UnknownNameError(NeuronymError, LookupError, ValueError):
    """A name is not among the known ones (also a ``LookupError``)."""


class DivisibilityError(InputError):
    """The number of competitors does not divide the number of channels."""


class MissingError(NeuronymError, FileNotFoundError):
    """A file or folder does not exist."""


class UnreadableError(NeuronymError, ValueError):
    """A file exists and is not what it should be (truncated, another format, another schema)."""


class FolderInUseError(NeuronymError, FileExistsError):
    """An output folder already holds something that must not be overwritten."""


class UnavailableError(NeuronymError, RuntimeError):
    """Something optional is missing here: a package, a hub, a network, a device."""


def nearest(value: str, allowed: Iterable[str], *, count: int = 3) -> list[str]:
    """Return up to ``count`` of the ``allowed`` strings that look most like ``value``."""
    by_lower = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(value.lower(), list(by_lower), n=count, cutoff=0.4)
    return [by_lower[name] for name in close]


def unknown(kind: str, value: str, allowed: Sequence[str], *, show: int = 12) -> UnknownNameError:
    """Build the error for a name that is not known.

    Args:
        kind: What the name stands for, e.g. ``"similarity"``.
        value: The name that was given.
        allowed: Every name that would have been accepted.
        show: How many allowed names the message lists before it says how many more there are.
    """
    listed = ", ".join(allowed[:show]) or "none"
    more = f" and {len(allowed) - show} more" if len(allowed) > show else ""
    close = nearest(value, allowed, count=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UnknownNameError(f"unknown {kind} {value!r}; known: {listed}{more}.{hint}")
