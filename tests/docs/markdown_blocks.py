"""Fenced code blocks of a Markdown page, and what the comments above them ask for."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

FENCE = re.compile(r"^(?P<indent>\s*)(?P<fence>`{3,}|~{3,})\s*(?P<language>[\w+-]*)[^`]*$")
NO_RUN = re.compile(r"<!--\s*no-run:(?P<reason>.*?)-->")
PRINTS = re.compile(r"<!--\s*prints\s*-->")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        language: The word after the fence, ``""`` where there is none.
        code: Its text, without the indent of the fence.
        line: Line number of its first line of code, from 1.
        no_run: The reason why it is not run, else ``None``.
        prints: Whether it says what the Python block before it prints.
    """

    language: str
    code: str
    line: int
    no_run: str | None
    prints: bool


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page in order.

    A comment counts for a block when it is the last thing before the fence but for blank lines.

    Raises:
        ValueError: A fence is not closed, or a ``no-run`` gives no reason.
    """
    found: list[Block] = []
    lines = text.splitlines()
    above, index = "", 0
    while index < len(lines):
        opened = FENCE.match(lines[index])
        if opened is None:
            above = lines[index] if lines[index].strip() else above
            index += 1
            continue
        end = _closing(lines, index, opened["fence"])
        code = textwrap.dedent("\n".join(lines[index + 1 : end])) + "\n"
        found.append(
            Block(
                language=opened["language"].lower(),
                code=code,
                line=index + 2,
                no_run=_reason(above, index + 1),
                prints=PRINTS.search(above) is not None,
            )
        )
        above, index = "", end + 1
    return found


def _closing(lines: list[str], start: int, fence: str) -> int:
    for index in range(start + 1, len(lines)):
        line = lines[index].strip()
        if line.startswith(fence) and not line.strip(fence[0]):
            return index
    raise ValueError(f"line {start + 1}: the fence {fence} is not closed")


def _reason(above: str, line: int) -> str | None:
    asked = NO_RUN.search(above)
    if asked is None:
        return None
    if not asked["reason"].strip():
        raise ValueError(f"line {line}: no-run gives no reason")
    return asked["reason"].strip()
