"""The contact sheet: every shown winner with its name, its numbers and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from neuronym.explain.colours import diverging, sequential
from neuronym.results import Explanation, Winner
from neuronym.results.numbers import MINUS, SPACE, number, percent, signed
from neuronym.results.sentence import decimals

__all__ = ["Card", "draw_sheet"]

_PANEL = 176
_GAP = 8
_MARGIN = 28
_COLUMNS = 2
_TEXT = 44  # height of a card's two lines
_PAPER, _INK, _SOFT = (252, 252, 250), (24, 24, 28), (104, 104, 112)
_FOR, _AGAINST = (176, 84, 0), (20, 84, 170)
_CARD = 3 * _PANEL + 2 * _GAP
_WIDTH = 2 * _MARGIN + _COLUMNS * _CARD + (_COLUMNS - 1) * 2 * _GAP * 2
_PICTURE = 240
_BAR = (180, 12)


@dataclass(frozen=True, eq=False)
class Card:
    """A winner and its pictures: ``"activation"``, ``"contribution"`` and perhaps ``"crop"``."""

    winner: Winner
    panels: Mapping[str, Image.Image]


def draw_sheet(
    explanation: Explanation,
    picture: Image.Image,
    cards: Sequence[Card],
    *,
    scale: float,
    no_crops: str | None,
) -> Image.Image:
    """Draw the sheet.

    Args:
        explanation: Whose sentence stands above.
        picture: What the network saw.
        cards: The winners, largest first.
        scale: Contribution, in logits, of the strongest colour.
        no_crops: Why there are none, else ``None``.
    """
    rows = -(-len(cards) // _COLUMNS)
    card = _TEXT + _PANEL + 3 * _GAP
    head = _MARGIN + _PICTURE + 3 * _GAP
    sheet = Image.new("RGB", (_WIDTH, head + rows * card + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _head(sheet, draw, explanation, picture, scale=scale, no_crops=no_crops, count=len(cards))
    places = decimals(explanation)
    for place, each in enumerate(cards):
        row, column = divmod(place, _COLUMNS)
        corner = (_MARGIN + column * (_CARD + 4 * _GAP), head + row * card)
        _card(sheet, draw, each, corner, places)
    return sheet


def _head(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    explanation: Explanation,
    picture: Image.Image,
    *,
    scale: float,
    no_crops: str | None,
    count: int,
) -> None:
    shown = _fitted(picture, _PICTURE)
    sheet.paste(shown, (_MARGIN, _MARGIN))
    x, y = _MARGIN + _PICTURE + 3 * _GAP, _MARGIN - 4
    room = sheet.width - x - _MARGIN
    for line in _wrapped(_known(explanation.sentence()), _font(21), room, most=5):
        draw.text((x, y), line, fill=_INK, font=_font(21))
        y += 28
    rows, columns = explanation.grid or (1, 1)
    note = (
        f"The {count} largest of {len(explanation.winners)} winners at {explanation.site}. "
        f"Maps are interpolated from {rows} x {columns} positions; a unit looks beyond its "
        "position's cell. Outlined: where it is strongest; cut out on the right, with its "
        "surroundings."
    )
    note += f" No crops: {no_crops}." if no_crops else ""
    y += 4
    for line in _wrapped(note, _font(14), room, most=4):
        draw.text((x, y), line, fill=_SOFT, font=_font(14))
        y += 19
    y = _MARGIN + _PICTURE - 34
    ends = ("0", "its own largest")
    _legend(sheet, draw, (x, y), "activation", ends, sequential(np.linspace(0, 1, _BAR[0])))
    ends = (_known(signed(-scale, 2)), f"{signed(scale, 2)} logits per position")
    colours = diverging(np.linspace(-1, 1, _BAR[0]))
    _legend(sheet, draw, (x + 360, y), "contribution, one scale for all", ends, colours)


def _legend(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    title: str,
    ends: tuple[str, str],
    colours: np.ndarray,
) -> None:
    x, y = corner
    draw.text((x, y - 20), title, fill=_SOFT, font=_font(14))
    left = x + round(draw.textlength(ends[0], font=_font(13))) + 6
    draw.text((x, y - 2), ends[0], fill=_SOFT, font=_font(13))
    strip = np.broadcast_to((colours * 255).astype(np.uint8), (_BAR[1], *colours.shape))
    sheet.paste(Image.fromarray(np.ascontiguousarray(strip), "RGB"), (left, y))
    draw.text((left + _BAR[0] + 6, y - 2), ends[1], fill=_SOFT, font=_font(13))


def _card(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    card: Card,
    corner: tuple[int, int],
    places: int,
) -> None:
    x, y = corner
    winner = card.winner
    value = _known(signed(winner.contribution, places))
    width = draw.textlength(value, font=_font(19))
    name = winner.name or f"(unnamed) unit {winner.unit}"
    colour = _FOR if winner.contribution >= 0 else _AGAINST
    room = _CARD - round(width) - 12
    draw.text((x, y), _shortened(name, _font(19), room), fill=_INK, font=_font(19))
    draw.text((x + _CARD - width, y), value, fill=colour, font=_font(19))
    small = f"unit {winner.unit}, activation {number(winner.activation)}"
    if winner.win_rate is not None:
        small += f", won {percent(winner.win_rate)}"
    if winner.name is None and winner.candidate is not None:
        small += f", best candidate “{winner.candidate}”"
    small = _known(small)
    draw.text((x, y + 24), _shortened(small, _font(13), _CARD), fill=_SOFT, font=_font(13))
    for place, name in enumerate(("activation", "contribution", "crop")):
        if name in card.panels:
            panel = _fitted(card.panels[name], _PANEL)
            sheet.paste(panel, (x + place * (_PANEL + _GAP), y + _TEXT))


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    """Shrink or enlarge to ``side``, over paper where the picture is not square."""
    factor = side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    made = picture.resize(size, Image.Resampling.LANCZOS)
    paper = Image.new("RGB", (side, side), _PAPER)
    paper.paste(made, ((side - size[0]) // 2, (side - size[1]) // 2))
    return paper


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _known(text: str) -> str:
    """Replace the characters of numbers that the built-in font lacks."""
    return text.replace(SPACE, " ").replace(MINUS, "-")


def _wrapped(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int, *, most: int
) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    if len(lines) > most:
        rest = " ".join(lines[most - 1 :])
        lines = [*lines[: most - 1], _shortened(rest, font, room)]
    return lines


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text.rstrip() + "…"
