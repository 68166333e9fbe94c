"""The data that the page's script reads: columns of numbers and shared strings, as safe JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neuronym.errors import InputError
from neuronym.report.options import ReportOptions
from neuronym.report.pictures import Picture, PictureFolder
from neuronym.results import Atlas, Unit

__all__ = ["atlas_payload", "check_truth", "script_json"]

_DIGITS = 7  # significant digits of a number in the page: two rounds of rounding rarely meet


def script_json(value: object) -> str:
    """Return JSON that is safe inside a ``<script>`` element of an HTML page.

    ``<``, ``>`` and ``&`` are escaped, so that no text in it can close the element or open a
    comment; everything outside ASCII is escaped too, so that no encoding can change its meaning.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def atlas_payload(
    atlas: Atlas,
    pictures: PictureFolder,
    *,
    options: ReportOptions,
    truth: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return plain JSON types for every unit, and copy the thumbnails that they show.

    Units are columns of equal length. Names are indices into ``words`` (−1: none), top images
    are indices into ``images`` (each ``[source, label, id]``; the source is ``null`` where the
    atlas has no readable thumbnail).
    """
    words = _Table()
    images = _Table()
    units = atlas.units
    columns = {
        "site": _indices(units, [site.name for site in atlas.sites]),
        "unit": [unit.unit for unit in units],
        "block": [-1 if unit.block is None else unit.block for unit in units],
        "name": [words.index(unit.name) for unit in units],
        "score": [_short(unit.score) for unit in units],
        "p": [_short(unit.p_value) for unit in units],
        "q": [_short(unit.q_value) for unit in units],
        "unnamed": [unit.unnamed for unit in units],
        "linear": [_linear(unit) for unit in units],
        "formula": [_formula(unit) for unit in units],
        "fire": [_short(unit.firing_rate) for unit in units],
        "win": [_short(unit.win_rate) for unit in units],
        "others": [[words.index(name) for name in unit.runner_up_names] for unit in units],
        "otherScores": [[_short(value) for value in unit.runner_up_scores] for unit in units],
        "top": [[images.index(i) for i in unit.top_images[: options.top_images]] for unit in units],
        "activation": [
            [_short(value) for value in unit.top_activations[: options.top_images]]
            for unit in units
        ],
    }
    sites = [
        {
            "name": site.name,
            "competitors": site.competitors,
            "positions": site.positions,
        }
        for site in atlas.sites
    ]
    out: dict[str, Any] = {"sites": sites, "units": columns, "words": words.values}
    out["images"] = [_image(atlas, pictures, key, options) for key in images.values]
    if truth:
        out["truth"] = _truth_columns(atlas, truth)
    return out


def _linear(unit: Unit) -> dict[str, Any] | None:
    fit = unit.linear
    if fit is None:
        return None
    return {
        "terms": [[word, _short(w)] for word, w in zip(fit.concepts, fit.weights, strict=True)],
        "r": _short(fit.correlation),
        "single": fit.single,
        "singleR": _short(fit.single_correlation),
    }


def _formula(unit: Unit) -> dict[str, Any] | None:
    formula = unit.formula
    if formula is None:
        return None
    return {
        "text": formula.text,
        "auroc": _short(formula.auroc),
        "share": _short(formula.share),
        "single": formula.single,
        "singleAuroc": _short(formula.single_auroc),
    }


class _Table:
    """Distinct strings in the order in which they were first asked for."""

    def __init__(self) -> None:
        self.values: list[str] = []
        self._index: dict[str, int] = {}

    def index(self, value: str | None) -> int:
        if value is None:
            return -1
        if value not in self._index:
            self._index[value] = len(self.values)
            self.values.append(value)
        return self._index[value]


def _indices(units: Iterable[Unit], names: Sequence[str]) -> list[int]:
    order = {name: index for index, name in enumerate(names)}
    try:
        return [order[unit.site] for unit in units]
    except KeyError as error:
        raise InputError(
            f"a unit belongs to site {error.args[0]!r}, which the atlas does not list; "
            f"its sites: {', '.join(names) or 'none'}"
        ) from error


def _image(
    atlas: Atlas, pictures: PictureFolder, key: str, options: ReportOptions
) -> list[str | int | None]:
    image = atlas.images.get(key)
    found: Picture | None = None
    if image is not None and image.thumbnail is not None and atlas.folder is not None:
        found = pictures.thumbnail(atlas.folder, image.thumbnail, size=options.thumbnail_size)
    label = image.label if image is not None else None
    return [found.source if found else None, label, key, int(bool(found and found.tiny))]


def check_truth(rows: object, atlas: Atlas) -> list[Mapping[str, Any]]:
    """Check the measured truth of units and return its rows.

    Each row has ``site``, ``unit``, ``attribute`` (or ``best_attribute``), ``auroc`` (0 to 1) and
    ``right``; ``selective`` is optional.

    Raises:
        InputError: A row lacks a field, has one of another type, or names a unit that is not
            in the atlas.
    """
    if not isinstance(rows, Sequence) or isinstance(rows, (str, bytes)):
        raise InputError(f"summary's truth must be a list of rows, not {type(rows).__name__}")
    keys = {unit.key for unit in atlas.units}
    for position, row in enumerate(rows):
        where = f"summary's truth, row {position}"
        if not isinstance(row, Mapping):
            raise InputError(f"{where} must be a mapping, not {type(row).__name__}")
        key = f"{row.get('site')}/{row.get('unit')}"
        if key not in keys:
            raise InputError(f"{where} names unit {key!r}, which the atlas does not have")
        if not isinstance(_attribute(row), str):
            raise InputError(f"{where} ({key}) must have 'attribute', a text")
        auroc = row.get("auroc")
        if isinstance(auroc, bool) or not isinstance(auroc, (int, float)) or not 0 <= auroc <= 1:
            raise InputError(f"{where} ({key}) must have 'auroc' of 0 to 1, not {auroc!r}")
        for name in ("right", "selective"):
            if not isinstance(row.get(name, False), bool):
                raise InputError(f"{where} ({key}): {name!r} must be true or false")
    return list(rows)


def _attribute(row: Mapping[str, Any]) -> Any:
    return row.get("attribute", row.get("best_attribute"))


def _truth_columns(atlas: Atlas, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    by_key = {f"{row['site']}/{row['unit']}": row for row in rows}
    found = [by_key.get(unit.key) for unit in atlas.units]
    return {
        "attribute": [row and _attribute(row) for row in found],
        "auroc": [row and _short(row["auroc"]) for row in found],
        "selective": [row and row.get("selective") for row in found],
        "right": [row and row.get("right") for row in found],
    }


def _short(value: float | None) -> float | None:
    """Round to a few significant digits; what is not a finite number becomes ``null``."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{float(value):.{_DIGITS}g}")
