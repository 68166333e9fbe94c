"""The one parser of concept lists."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from neuronym.errors import InputError, UnreadableError
from neuronym.files import existing

__all__ = ["Parsed", "distinct", "parse", "read"]


@dataclass(frozen=True)
class Parsed:
    """Words of a list, in order, and how many repeated ones were dropped."""

    words: tuple[str, ...]
    duplicates: int


def distinct(words: list[str]) -> Parsed:
    """Tidy words and keep the first of each, without regard to case.

    Unicode is brought to its composed form (NFC), and runs of white space become one space.
    """
    tidy = (" ".join(unicodedata.normalize("NFC", word).split()) for word in words)
    first: dict[str, str] = {}
    count = 0
    for word in tidy:
        if word:
            count += 1
            first.setdefault(word.casefold(), word)
    return Parsed(tuple(first.values()), count - len(first))


def parse(data: bytes, *, name: str) -> Parsed:
    """Parse a list of concepts: UTF-8, one per line.

    A byte order mark is accepted. White space around a line, blank lines, and lines that start
    with ``#`` are ignored. A word that repeats an earlier one is dropped and counted.

    Args:
        data: The bytes of the list.
        name: What an error calls it.

    Raises:
        UnreadableError: It is not UTF-8 text; the text says in which line.
        InputError: It holds no concept.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UnreadableError(
            f"concepts {name!r} are not UTF-8: byte 0x{data[error.start]:02x} in line {line} "
            f"(byte {error.start} of the file); save the file as UTF-8"
        ) from error
    lines = text.splitlines()
    for number, content in enumerate(lines, start=1):
        if "\x00" in content:
            raise UnreadableError(f"concepts {name!r} are not text: zero byte in line {number}")
    parsed = distinct([line for line in lines if not line.lstrip().startswith("#")])
    if not parsed.words:
        raise InputError(f"concepts {name!r} hold no word; write one word or phrase per line")
    return parsed


def read(path: str | Path) -> Parsed:
    """Read a list of concepts from a file.

    Raises:
        MissingError: The file does not exist.
        UnreadableError, InputError: As in :func:`parse`.
    """
    path = existing(path, what="concept file")
    if path.is_dir():
        raise InputError(f"concepts {str(path)!r} is a folder; give a text file")
    return parse(path.read_bytes(), name=str(path))
