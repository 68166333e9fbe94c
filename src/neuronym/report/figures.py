"""Headline figures, counts against the truth and times: what a run's summary says, as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuronym.errors import InputError
from neuronym.results import Atlas
from neuronym.results.numbers import SPACE, count, duration, percent

__all__ = ["Bar", "Figure", "make_figures", "seconds_bars", "truth_bars"]


@dataclass(frozen=True)
class Bar:
    """A labelled bar; ``share`` of 0 to 1 is its length."""

    label: str
    text: str
    share: float
    note: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Figure:
    """One headline number with what it counts."""

    label: str
    value: str
    note: str
    bars: tuple[Bar, ...] = ()
    dots: int = 0


def make_figures(atlas: Atlas, summary: Mapping[str, Any]) -> tuple[Figure, ...]:
    """Return the headline figures that atlas and summary hold; nothing is invented."""
    out = [figure for figure in (_accuracy(summary), _active(atlas, summary)) if figure]
    distinct = len({unit.name for unit in atlas.units if unit.name is not None})
    named = sum(unit.name is not None for unit in atlas.units)
    live = sum(unit.live for unit in atlas.units)
    out.append(
        Figure(
            "Units with a name",
            f"{named:,}",
            f"of {len(atlas.units):,} units; {live:,} won or fired at least once; "
            f"{distinct:,} different names",
        )
    )
    selective, right = (_amount(summary, f"units.{key}") for key in ("selective", "right"))
    if selective and right is not None:
        out.append(
            Figure(
                "Names that are right",
                percent(right / selective),
                f"{count(right)} of the {count(selective)} selective units, checked "
                f"against the true attributes{_interval(summary, 'units.right')}",
            )
        )
    return tuple(out)


def _accuracy(summary: Mapping[str, Any]) -> Figure | None:
    ours = _amount(summary, "accuracy.competitive")
    dense = _amount(summary, "accuracy.dense")
    bars = [
        Bar(label, percent(value), value, strong=label == "competitive")
        for label, value in (("competitive", ours), ("dense twin", dense))
        if value is not None
    ]
    if not bars:
        return None
    if ours is None or dense is None:
        return Figure("Accuracy", bars[0].text, bars[0].label, tuple(bars))
    points = 100 * (ours - dense)
    if ours == dense:
        note = "the same as its dense twin"
    elif abs(points) < 0.05:
        note = "within 0.05 points of its dense twin"
    else:
        note = f"{abs(points):.1f} points {'above' if points > 0 else 'below'} its dense twin"
    return Figure("Accuracy", percent(ours), note + _task(summary), tuple(bars))


def _task(summary: Mapping[str, Any]) -> str:
    """Return what is classified and on how many images it was measured, where that is known."""
    task, classes = summary.get("task"), _amount(summary, "classes")
    images = _amount(summary, "scenes.test")
    parts = [f"task: {task}"] if isinstance(task, str) and task else []
    parts += [f"{count(classes)} classes"] if classes else []
    parts += [f"{count(images)} test images"] if images else []
    return f"; {', '.join(parts)}" if parts else ""


def _interval(summary: Mapping[str, Any], name: str) -> str:
    """Return the 95 % interval of a share, where the summary holds one."""
    shares = summary.get("shares")
    share = shares.get(name) if isinstance(shares, Mapping) else None
    ends = share.get("interval") if isinstance(share, Mapping) else None
    if not isinstance(ends, Sequence) or len(ends) != 2:
        return ""
    if not all(isinstance(end, (int, float)) and math.isfinite(end) for end in ends):
        return ""
    return f" (95{SPACE}% interval {percent(ends[0])} to {percent(ends[1])})"


def _active(atlas: Atlas, summary: Mapping[str, Any]) -> Figure | None:
    active = _amount(summary, "active_fraction")
    competitors = _amount(summary, "competitors")
    sites = [site for site in atlas.sites if site.competitors]
    if active is None and len(sites) == 1:
        active, competitors = sites[0].active_fraction, sites[0].competitors
    if active is None:
        return None
    rivals = round(competitors) if competitors else 0
    note = f"one winner in each block of {rivals} competitors" if rivals else "of the units"
    dense = _amount(summary, "active_fraction_dense")
    if dense is not None:
        note += f"; {percent(dense)} in its dense twin"
    return Figure("Active at each position", percent(active), note, dots=min(rivals, 32))


def truth_bars(summary: Mapping[str, Any], truth: Sequence[Mapping[str, Any]]) -> tuple[Bar, ...]:
    """Return how many units were checked, live, selective and right, as far as it is known."""
    live, selective, right = (
        _amount(summary, f"units.{key}") for key in ("live", "selective", "right")
    )
    everything = _amount(summary, "units.all") or float(len(truth)) or None
    rows = [
        ("checked", everything, "", None),
        ("live", live, "of them won (at a dense site: fired) at least once", everything),
        ("selective", selective, "of the live: an attribute of the images sets them apart", live),
        ("right", right, "of the selective: the name is that attribute", selective),
    ]
    known = [value for _, value, _, _ in rows if value is not None]
    if len(known) < 2:
        return ()
    longest = max(*known, 1.0)
    out = []
    for label, value, meaning, whole in rows:
        if value is None:
            continue
        note = f"{percent(value / whole)} {meaning}" if whole else ""
        out.append(Bar(label, count(value), value / longest, note, label == "right"))
    return tuple(out)


def seconds_bars(summary: Mapping[str, Any]) -> tuple[Bar, ...]:
    """Return how long each stage took, longest bar for the longest time."""
    seconds = summary.get("seconds")
    if not isinstance(seconds, Mapping):
        return ()
    times = {str(key): _amount(summary, f"seconds.{key}") for key in seconds}
    longest = max((value for value in times.values() if value), default=0.0)
    return tuple(
        Bar(key.replace("_", " "), duration(value), value / longest if longest else 0.0)
        for key, value in times.items()
        if value is not None
    )


def _amount(summary: Mapping[str, Any], path: str) -> float | None:
    """Return the number at ``a.b``, ``None`` where it is absent, or raise InputError."""
    value: Any = summary
    for key in path.split("."):
        if not isinstance(value, Mapping):
            raise InputError(f"summary's {path!r} cannot be read: {value!r} is not a mapping")
        value = value.get(key)
        if value is None:
            return None
    good = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or value < 0:
        raise InputError(f"summary's {path!r} must be a number of at least 0, not {value!r}")
    return float(value)
