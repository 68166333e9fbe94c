"""Small atlases, and ways to read a page."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from neuronym.report import write_report
from neuronym.results import Atlas, SiteInfo, Unit

STATIC = Path(str(files("neuronym.report"))) / "static"


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return dict(json.loads(found.group(1)))


def visible(text: str) -> str:
    """The text of a page without its data, scripts, styles and tags."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.DOTALL)
    text = re.sub(r"</?(bdi|a|em|strong)\b[^>]*>", "", text)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def unit(index: int, **changes: Any) -> Unit:
    row = Unit("head", index, index // 2, "red", 0.4, None, ("pink",), (0.3,), 0.5, 0.5, (), ())
    return replace(row, **changes)


def small(folder: Path | None = None, **changes: Any) -> Atlas:
    """Four units in two blocks, without images."""
    site = SiteInfo("head", 4, -1, 2, "winner", 1)
    whole = {"sites": (site,), "units": tuple(unit(i) for i in range(4)), "images": {}}
    return Atlas(**{**whole, "provenance": {}, "folder": folder, **changes})


def page(atlas: Atlas, out: Path, **more: Any) -> str:
    return write_report(atlas, out, **more).read_text(encoding="utf-8")
