"""From what flowed to findings: shares, chance, intervals, false discoveries, ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from neuronym.audit.collect import Flow, Groups, Pass
from neuronym.audit.options import AuditOptions
from neuronym.audit.statistics import (
    chance_p_values,
    difference,
    mean_of_each,
    smallest_p_value,
)
from neuronym.false_discovery import q_values
from neuronym.results import Estimate, Finding, Shown

__all__ = ["Asked", "faint_notes", "findings_of"]

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CHANCE, _INTERVALS = 0, 1  # the streams of random numbers


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked: the concerns, the images that show them, and the options.

    Attributes:
        concerns: Names, in the order of the columns.
        class_names: Of the model, or ``None``.
        groups: Which images show what.
        options: Of the audit.
        classes: Indices of the classes that are judged; empty for all.
    """

    concerns: Sequence[str]
    class_names: Sequence[str] | None
    groups: Groups
    options: AuditOptions
    classes: frozenset[int] = frozenset()

    def class_name(self, index: int) -> str:
        """Return the name of a class."""
        return self.class_names[index] if self.class_names else f"class {index}"


def findings_of(seen: Pass, asked: Asked) -> tuple[Finding, ...]:
    """Judge every class, concern and site where a unit matches; the ranked ones come first.

    Ranked by the lower end of the interval of the excess share, those whose q-value is not above
    the level before the others.
    """
    rows = [
        row
        for number, flow in enumerate(seen.flows)
        for row in _Site(flow, number, seen.targets, asked).findings()
    ]
    return tuple(_ranked(rows, asked.options))


def faint_notes(seen: Pass, findings: Sequence[Finding], asked: Asked) -> list[str]:
    """Name the concerns of which no single finding could be significant, whatever they carry.

    The smallest p-value that the random sets can give is put in place of the concern's smallest
    one, all others stay, and the q-value is compared with the level.
    """
    options = asked.options
    tested = [row for row in findings if row.p_value is not None]
    p_values = np.array([row.p_value for row in tested], float)
    notes = []
    for flow in seen.flows:
        units, site = flow.units, flow.units.site.name
        for column in np.flatnonzero(units.matched.any(1)).tolist():
            name, matched = asked.concerns[column], units.matched[column]
            rows = [i for i, row in enumerate(tested) if (row.concern, row.site) == (name, site)]
            if not rows or min(tested[i].q_value or 0.0 for i in rows) <= options.level:
                continue
            least = smallest_p_value(matched, units.strata[column], draws=options.draws)
            best = min(rows, key=lambda i: p_values[i])
            at_best = p_values.copy()
            at_best[best] = min(least, at_best[best])
            if q_values(at_best, method=options.fdr)[best] > options.level:
                count = int(matched.sum())
                notes.append(
                    f"{name!r} is carried by {count} unit{'s' * (count > 1)} of {site!r}: the "
                    "smallest p-value that random sets of that size can give is "
                    f"{least:.2g}, too large for one significant finding among {len(tested)}; "
                    "see its excess and contrast, or judge fewer classes and concerns"
                )
    return notes


@dataclass(frozen=True, eq=False)
class _Site:
    """One site, and all that is needed to judge it.

    Attributes:
        flow: What flowed.
        number: Of the site, for its random numbers.
        targets: ``(images,)``.
        asked: What is asked.
    """

    flow: Flow
    number: int
    targets: Ints
    asked: Asked

    @cached_property
    def numbers(self) -> dict[str, Doubles]:
        """``share``, ``excess`` and ``logits``: ``(images, concerns)``."""
        joined = self.flow.joined()
        return {name: joined[name].astype(np.float64) for name in ("share", "excess", "logits")}

    @cached_property
    def columns(self) -> list[int]:
        """The concerns that a unit of the site matches."""
        found: list[int] = np.flatnonzero(self.flow.units.matched.any(1)).tolist()
        return found

    @cached_property
    def members(self) -> dict[int, Ints]:
        """Class → its images on which anything positive flowed."""
        some, wanted = np.concatenate(self.flow.some), self.asked.classes
        found = {
            index: np.flatnonzero((self.targets == index) & some)
            for index in np.unique(self.targets).tolist()
            if not wanted or index in wanted
        }
        return {index: images for index, images in found.items() if len(images)}

    def findings(self) -> Iterator[Finding]:
        """Yield the findings, not yet ranked."""
        if not self.columns:
            return
        p_values = self.p_values()
        for index, images in self.members.items():
            seed = [self.asked.options.seed, _INTERVALS, self.number, index]
            generator = np.random.default_rng(seed)
            estimates = self.estimates(images, generator)
            for place, column in enumerate(self.columns):
                yield replace(
                    self.finding(index, images, column, tuple(each[place] for each in estimates)),
                    contrast=self.contrast(images, column, generator),
                    p_value=p_values.get((index, column)),
                )

    def finding(
        self, index: int, images: Ints, column: int, estimates: tuple[Estimate, ...]
    ) -> Finding:
        """Return what needs no random numbers, beside the estimates."""
        share, excess, logits = estimates
        groups = self.asked.groups
        return Finding(
            concern=self.asked.concerns[column],
            site=self.flow.units.site.name,
            index=index,
            class_name=self.asked.class_name(index),
            units=int(self.flow.units.matched[column].sum()),
            images=len(images),
            share=share,
            expected=share.value - excess.value,
            excess=excess,
            logits=logits,
            contrast=None,
            images_with=int(groups.shows[images, column].sum()),
            images_without=int(groups.lacks[images, column].sum()),
            p_value=None,
            q_value=None,
            shown=self.shown(images, column),
        )

    def p_values(self) -> dict[tuple[int, int], float]:
        """(Class, concern) → p-value of the share against random sets of units."""
        options, members = self.asked.options, self.members
        judged = [index for index in members if len(members[index]) >= options.min_images]
        found: dict[tuple[int, int], float] = {}
        if not judged:
            return found
        means = np.stack([self.flow.sums[index] / len(members[index]) for index in judged])
        for column in self.columns:
            values = chance_p_values(
                means,
                self.flow.units.matched[column],
                self.flow.units.strata[column],
                draws=options.draws,
                generator=np.random.default_rng([options.seed, _CHANCE, self.number, column]),
            )
            found |= {(index, column): float(p) for index, p in zip(judged, values, strict=True)}
        return found

    def estimates(self, images: Ints, generator: np.random.Generator) -> list[list[Estimate]]:
        """Share, excess and logits of every concern, the images drawn together for all."""
        parts = [each[images][:, self.columns] for each in self.numbers.values()]
        made = mean_of_each(
            np.concatenate(parts, axis=1), draws=self.asked.options.bootstrap, generator=generator
        )
        count = len(self.columns)
        return [made[start : start + count] for start in range(0, len(made), count)]

    def contrast(
        self, images: Ints, column: int, generator: np.random.Generator
    ) -> Estimate | None:
        """Share on images that show the concern minus on those that do not, where there are."""
        share, options = self.numbers["share"][images, column], self.asked.options
        shows, lacks = (
            group[images, column] for group in (self.asked.groups.shows, self.asked.groups.lacks)
        )
        if min(shows.sum(), lacks.sum()) < options.min_images:
            return None
        return difference(share[shows], share[lacks], draws=options.bootstrap, generator=generator)

    def shown(self, images: Ints, column: int) -> tuple[Shown, ...]:
        """The images with the largest contribution, the largest first."""
        logits, share = (self.numbers[name][images, column] for name in ("logits", "share"))
        best = np.argsort(-logits, kind="stable")[: self.asked.options.top_images].tolist()
        ids = self.asked.groups.ids
        return tuple(Shown(ids[images[row]], float(logits[row]), float(share[row])) for row in best)


def _ranked(rows: Sequence[Finding], options: AuditOptions) -> list[Finding]:
    tested = [row for row in rows if row.p_value is not None]
    rates = q_values(np.array([row.p_value for row in tested], float), method=options.fdr)
    judged = [replace(row, q_value=rate) for row, rate in zip(tested, rates.tolist(), strict=True)]
    judged.sort(key=lambda row: ((row.q_value or 0.0) > options.level, -row.excess.low))
    ranked = [replace(row, rank=place) for place, row in enumerate(judged, 1)]
    return ranked + [row for row in rows if row.p_value is None]
