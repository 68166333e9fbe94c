"""Curves as an SVG, by hand: panels beside each other, one line per curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

__all__ = ["Line", "Panel", "svg"]

WIDTH, HEIGHT = 300, 240  # of a panel, pixels
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 30, 40
COLUMNS = 3
LEGEND = 26
COLOURS = {"deletion": "#b3261e", "insertion": "#1a6e3c", "random": "#6b6b6b"}
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Line:
    """A curve over shares from 0 to 1, evenly spaced; values lie in 0 to 1."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """A title and the curves below it."""

    title: str
    lines: Sequence[Line]


def svg(panels: Sequence[Panel], *, across: str, up: str) -> str:
    """Draw panels, at most three beside each other, with one legend for all.

    Args:
        panels: At least one.
        across: What the horizontal axis is.
        up: What the vertical axis is.
    """
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width, height = columns * WIDTH, rows * HEIGHT + LEGEND
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        f"<title>{escape(up)} by {escape(across)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, panel in enumerate(panels):
        x, y = index % columns * WIDTH, index // columns * HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel, across, up), "</g>"]
    for index, name in enumerate(names):
        x, y = LEFT + 96 * index, rows * HEIGHT + LEGEND // 2
        parts.append(f'<path d="M{x} {y}h22" stroke="{_colour(name)}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 28}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, across: str, up: str) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [f'<text x="{LEFT}" y="18" font-weight="bold">{escape(panel.title)}</text>']
    for tick in TICKS:
        x, y = _x(tick), _y(tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#e3e3e3"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>')
    middle = (TOP + bottom) / 2
    parts.append(
        f'<text x="{(LEFT + right) / 2}" y="{bottom + 31}" text-anchor="middle">'
        f"{escape(across)}</text>"
    )
    parts.append(
        f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(up)}</text>"
    )
    for line in panel.lines:
        last = len(line.values) - 1
        points = " ".join(
            f"{_x(index / last):.1f},{_y(value):.1f}" for index, value in enumerate(line.values)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{_colour(line.name)}" '
            f'stroke-width="2"><title>{escape(line.name)}</title></polyline>'
        )
    return parts


def _colour(name: str) -> str:
    return COLOURS.get(name, "#1f4e9c")


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - RIGHT - LEFT)


def _y(value: float) -> float:
    return HEIGHT - BOTTOM - value * (HEIGHT - BOTTOM - TOP)
