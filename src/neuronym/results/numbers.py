"""Plain numbers: how the report and the command line write what was measured."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

__all__ = ["MINUS", "SPACE", "count", "duration", "fixed", "number", "percent", "signed"]

MINUS = "\u2212"
SPACE = "\u00a0"  # does not break: a number stays with its unit


def signed(value: float, places: int) -> str:
    """Format with a sign and fixed decimals: ``+2.10``, ``−0.60``; zero has no sign."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("+∞" if value > 0 else f"{MINUS}∞")
    text = f"{_rounded(abs(value), places):f}"
    if float(text) == 0.0:
        return text
    return ("+" if value > 0 else MINUS) + text


def fixed(value: float, places: int) -> str:
    """Format with fixed decimals and a true minus sign: ``2.10``, ``−0.60``."""
    return signed(value, places).removeprefix("+")


def number(value: float, digits: int = 3) -> str:
    """Format to ``digits`` significant digits: ``0.412``, ``−5.31``, ``1,536``, ``1.2e−5``."""
    if not math.isfinite(value):
        return signed(value, 0).removeprefix("+")
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if exponent < -4 or exponent > 8:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(power)}".replace("-", MINUS)
    return f"{_rounded(value, max(0, digits - 1 - exponent)):,f}".replace("-", MINUS)


def percent(share: float) -> str:
    """Format a share of 0 to 1: ``12.5 %``, ``<0.1 %``; ``0 %`` and ``100 %`` only if exact."""
    value = 100 * share
    if not math.isfinite(value):
        return number(value)
    if 0 < value < 0.05:
        return f"<0.1{SPACE}%"
    if 99.95 <= value < 100:
        return f">99.9{SPACE}%"
    text = f"{value:.0f}" if value in (0, 100) else f"{_rounded(value, 1):f}"
    return text.replace("-", MINUS) + f"{SPACE}%"


def count(value: float) -> str:
    """Format a count: ``54``, ``1,536``; one that is not whole keeps its decimals."""
    return f"{round(value):,}" if value == round(value) else number(value)


def duration(seconds: float) -> str:
    """Format seconds: ``0.42 s``, ``12 s``, ``2 min 41 s``, ``1 h 3 min``."""
    if seconds < 10:
        return f"{number(seconds, 2)}{SPACE}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{SPACE}min {whole % 60}{SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{SPACE}h {minutes % 60}{SPACE}min"


def _rounded(value: float, places: int) -> Decimal:
    """Round to decimals, ties away from zero, as the page's script does."""
    return Decimal(float(value)).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
