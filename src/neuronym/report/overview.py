"""What the overview shows: figures of the run, sites, frequent names and how to repeat it."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronym.report.figures import Bar, Figure, make_figures, seconds_bars, truth_bars
from neuronym.results import Atlas, SiteInfo, Unit

__all__ = ["Overview", "SiteRow", "make_overview"]

_BINS = 24
_FREQUENT = 24
_CLEAREST = 8


@dataclass(frozen=True)
class SiteRow:
    """A row of the table of sites; ``scores`` are bar heights of 0 to 1, lowest score first."""

    site: SiteInfo
    named: int
    distinct: int
    live: int
    median: float | None
    scores: tuple[float, ...]

    @property
    def blocks(self) -> int | None:
        """Blocks of competitors, or ``None`` for a dense site."""
        return self.site.units // self.site.competitors if self.site.competitors else None


@dataclass(frozen=True)
class Overview:
    """Everything of the overview that is not a picture."""

    title: str
    lede: str
    figures: tuple[Figure, ...]
    truth: tuple[Bar, ...]
    sites: tuple[SiteRow, ...]
    score_range: tuple[float, float] | None
    clearest: tuple[Unit, ...]
    frequent: tuple[tuple[str, int], ...]
    similarity: str | None
    command: str | None
    provenance: tuple[tuple[str, str], ...]
    seconds: tuple[Bar, ...]


def make_overview(
    atlas: Atlas,
    summary: Mapping[str, Any],
    *,
    title: str | None,
    truth: Sequence[Mapping[str, Any]],
) -> Overview:
    """Collect what the overview shows; what is not known is left out.

    Raises:
        InputError: A field of ``summary`` is not a number where one belongs.
    """
    scores = [unit.score for unit in atlas.units if _finite(unit.score)]
    span = (min(scores), max(scores)) if scores else None  # type: ignore[type-var]
    return Overview(
        title=title or _title(atlas),
        lede=_lede(atlas),
        figures=make_figures(atlas, summary),
        truth=truth_bars(summary, truth),
        sites=tuple(_site_row(atlas, site, span) for site in atlas.sites),
        score_range=span,  # type: ignore[arg-type]
        clearest=_clearest(atlas),
        frequent=_frequent(atlas),
        similarity=_spec(atlas.provenance, "similarity"),
        command=_command(atlas.provenance),
        provenance=tuple(_flat(atlas.provenance)),
        seconds=seconds_bars(summary),
    )


def _title(atlas: Atlas) -> str:
    model = _spec(atlas.provenance, "model")
    return f"The neurons of {model}" if model else "The neurons of a network"


def _lede(atlas: Atlas) -> str:
    total = len(atlas.units)
    named = sum(unit.name is not None for unit in atlas.units)
    places = f"{len(atlas.sites)} site{'s' if len(atlas.sites) != 1 else ''}"
    out = f"{named:,} of {total:,} units at {places} have a name."
    chance = sum(unit.unnamed == "not significant" for unit in atlas.units)
    if chance:
        verb = "is" if chance == 1 else "are"
        out += f" {chance:,} {verb} unnamed because the best name may be chance."
    sources = {"images": "images", "concepts": "concepts", "vision_text": "vision-text model"}
    known = [
        f"{label} {spec}"
        for key, label in sources.items()
        if (spec := _spec(atlas.provenance, key)) is not None
    ]
    return f"{out} Made with {', '.join(known)}." if known else out


def _site_row(atlas: Atlas, site: SiteInfo, span: tuple[Any, Any] | None) -> SiteRow:
    units = atlas.of_site(site.name)
    scores = np.array([unit.score for unit in units if _finite(unit.score)], dtype=np.float64)
    heights: tuple[float, ...] = ()
    if span and len(scores):
        low, high = span if span[1] > span[0] else (span[0] - 0.5, span[0] + 0.5)
        counts, _ = np.histogram(scores, bins=_BINS, range=(low, high))
        heights = tuple(float(count) for count in counts / counts.max())
    names = [unit.name for unit in units if unit.name is not None]
    return SiteRow(
        site=site,
        named=len(names),
        distinct=len(set(names)),
        live=sum(unit.live for unit in units),
        median=float(np.median(scores)) if len(scores) else None,
        scores=heights,
    )


def _clearest(atlas: Atlas) -> tuple[Unit, ...]:
    """Return the units of highest score, each name once."""
    best: dict[str, Unit] = {}
    named = [unit for unit in atlas.units if unit.name is not None and _finite(unit.score)]
    for unit in sorted(named, key=lambda unit: -(unit.score or 0.0)):
        best.setdefault(str(unit.name), unit)
        if len(best) == _CLEAREST:
            break
    return tuple(best.values())


def _frequent(atlas: Atlas) -> tuple[tuple[str, int], ...]:
    counts = Counter(unit.name for unit in atlas.units if unit.name is not None)
    return tuple((name, times) for name, times in counts.most_common(_FREQUENT) if times > 1)


def _command(provenance: Mapping[str, Any]) -> str | None:
    """Return the command that repeats the run, where the atlas holds all that it needs."""
    given = provenance.get("command")
    if isinstance(given, str) and given.strip():
        return given
    names = ("model", "images", "concepts", "vision_text", "sites", "similarity")
    options = {name: _spec(provenance, name) for name in names}
    if None in options.values():
        return None
    words = [
        f"--{key.replace('_', '-')} {shlex.quote(str(v))}"
        for key, v in {**options, **_choices(provenance)}.items()
    ]
    return " ".join(["neuronym dissect", *words, "--out DIR"])


def _choices(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of significance and longer names that are not the usual ones."""
    tested = provenance.get("significance")
    found: dict[str, Any] = {}
    if isinstance(tested, Mapping):
        found = {
            "significance": 0 if tested.get("level") is None else tested["level"],
            "null_draws": tested.get("null_draws"),
            "fdr": tested.get("fdr"),
        }
    for key in ("permutations", "linear", "compose", "seed"):
        found[key] = provenance.get(key)
    usual = {
        "significance": 0.05,
        "null_draws": 1000,
        "fdr": "bh",
        "permutations": 0,
        "linear": 0,
        "compose": 1,
        "seed": 0,
    }
    return {key: value for key, value in found.items() if value is not None and value != usual[key]}


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested provenance as rows of dotted key and text."""
    out: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            out += _flat(item, f"{name}.")
        elif isinstance(item, (list, tuple)):
            out.append((name, ", ".join(map(str, item))))
        elif item is not None and name not in ("command", "schema"):
            out.append((name, str(item)))
    return out


def _spec(provenance: Mapping[str, Any], key: str) -> str | None:
    """Return the SPEC of a part of the run: a text, or a mapping that holds one."""
    value = provenance.get(key)
    if isinstance(value, Mapping):
        value = value.get("spec", value.get("name"))
    return value if isinstance(value, str) and value.strip() else None


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
