"""From what flowed to findings: shares, chance, intervals, false discoveries, ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from neuronym.audit.collect import Flow, Groups, Pass
from neuronym.audit.options import AuditOptions
from neuronym.audit.statistics import chance_p_values, difference, mean_of_each
from neuronym.false_discovery import q_values
from neuronym.results import Estimate, Finding, Shown

__all__ = ["findings_of"]

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def findings_of(
    seen: Pass,
    groups: Groups,
    names: Sequence[str],
    class_names: Sequence[str] | None,
    options: AuditOptions,
) -> tuple[Finding, ...]:
    """Judge every class, concern and site where a unit matches; the ranked ones come first.

    Ranked by the lower end of the interval of the excess share, those whose q-value is not above
    the level before the others.
    """
    rows: list[Finding] = []
    for number, flow in enumerate(seen.flows):
        rows += _of_site(flow, number, seen, groups, names, class_names, options)
    return tuple(_ranked(rows, options))


@dataclass(frozen=True, eq=False)
class _Site:
    """One site's flow, joined over batches."""

    name: str
    share: Doubles
    excess: Doubles
    logits: Doubles
    some: Bools


def _of_site(
    flow: Flow,
    number: int,
    seen: Pass,
    groups: Groups,
    names: Sequence[str],
    class_names: Sequence[str] | None,
    options: AuditOptions,
) -> Iterator[Finding]:
    joined = flow.joined()
    share, excess, logits = (
        joined[key].astype(np.float64) for key in ("share", "excess", "logits")
    )
    site = _Site(flow.units.site.name, share, excess, logits, joined["some"].astype(bool))
    columns = np.flatnonzero(flow.units.matched.any(1))
    members = {
        index: np.flatnonzero((seen.targets == index) & site.some)
        for index in np.unique(seen.targets).tolist()
    }
    judged = [index for index, images in members.items() if len(images) >= options.min_images]
    p_values = _p_values(flow, columns, judged, members, number, options)
    for index, images in members.items():
        name = class_names[index] if class_names else f"class {index}"
        if not len(images):
            continue
        generator = np.random.default_rng([options.seed, 1, number, index])
        estimates = _estimates(site, images, columns, options, generator)
        for place, column in enumerate(columns.tolist()):
            share, excess, logits = (each[place] for each in estimates)
            shows, lacks = groups.shows[images, column], groups.lacks[images, column]
            yield Finding(
                concern=names[column],
                site=site.name,
                index=index,
                class_name=name,
                units=int(flow.units.matched[column].sum()),
                images=len(images),
                share=share,
                expected=share.value - excess.value,
                excess=excess,
                logits=logits,
                contrast=_contrast(site.share[images, column], shows, lacks, options, generator),
                images_with=int(shows.sum()),
                images_without=int(lacks.sum()),
                p_value=p_values.get((index, column)),
                q_value=None,
                shown=_shown(site, images, column, groups, options),
            )


def _p_values(
    flow: Flow,
    columns: Ints,
    judged: Sequence[int],
    members: dict[int, Ints],
    number: int,
    options: AuditOptions,
) -> dict[tuple[int, int], float]:
    """(Class, concern) → p-value of the share against random sets of units."""
    if not judged:
        return {}
    means = np.stack([flow.sums[index] / len(members[index]) for index in judged])
    found: dict[tuple[int, int], float] = {}
    for column in columns.tolist():
        values = chance_p_values(
            means,
            flow.units.matched[column],
            flow.units.strata[column],
            draws=options.draws,
            generator=np.random.default_rng([options.seed, 0, number, column]),
        )
        found |= {(index, column): float(p) for index, p in zip(judged, values, strict=True)}
    return found


def _estimates(
    site: _Site,
    images: Ints,
    columns: Ints,
    options: AuditOptions,
    generator: np.random.Generator,
) -> tuple[list[Estimate], list[Estimate], list[Estimate]]:
    parts = [each[images][:, columns] for each in (site.share, site.excess, site.logits)]
    made = mean_of_each(np.concatenate(parts, axis=1), draws=options.bootstrap, generator=generator)
    count = len(columns)
    return made[:count], made[count : 2 * count], made[2 * count :]


def _contrast(
    share: Doubles,
    shows: Bools,
    lacks: Bools,
    options: AuditOptions,
    generator: np.random.Generator,
) -> Estimate | None:
    if min(shows.sum(), lacks.sum()) < options.min_images:
        return None
    return difference(share[shows], share[lacks], draws=options.bootstrap, generator=generator)


def _shown(
    site: _Site, images: Ints, column: int, groups: Groups, options: AuditOptions
) -> tuple[Shown, ...]:
    logits = site.logits[images, column]
    best = images[np.argsort(-logits, kind="stable")[: options.top_images]]
    return tuple(
        Shown(groups.ids[row], float(site.logits[row, column]), float(site.share[row, column]))
        for row in best.tolist()
    )


def _ranked(rows: Sequence[Finding], options: AuditOptions) -> list[Finding]:
    tested = [row for row in rows if row.p_value is not None]
    rates = q_values(np.array([row.p_value for row in tested], float), method=options.fdr)
    judged = [replace(row, q_value=rate) for row, rate in zip(tested, rates.tolist(), strict=True)]
    judged.sort(key=lambda row: ((row.q_value or 0.0) > options.level, -row.excess.low))
    ranked = [replace(row, rank=place) for place, row in enumerate(judged, 1)]
    return ranked + [row for row in rows if row.p_value is None]
