"""The two passes over the images: scores of the concerns, then what flows through their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neuronym.audit.matching import Matched
from neuronym.audit.options import AuditOptions
from neuronym.audit.statistics import excess_weights, positive_shares, strata_of
from neuronym.embed import embed_batch
from neuronym.errors import InputError
from neuronym.explain import SiteBatch, contribution_batches
from neuronym.models import LoadedModel
from neuronym.probes import ProbeSet, batches
from neuronym.results import Atlas, SiteInfo
from neuronym.vision_text import VisionTextModel

__all__ = [
    "Flow",
    "Groups",
    "Pass",
    "SiteUnits",
    "check_same",
    "groups_of",
    "run_pass",
    "say",
    "units_of_sites",
]

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Groups:
    """Which images show which concern.

    Attributes:
        ids: Of the readable images.
        shows, lacks: ``(images, concerns)`` bool; an image in between is neither.
        given: Per concern, whether the caller said so, and not the score.
        notes: What the groups leave out.
    """

    ids: tuple[str, ...]
    shows: Bools
    lacks: Bools
    given: tuple[bool, ...]
    notes: tuple[str, ...] = ()


def groups_of(
    probes: ProbeSet,
    vision_text: VisionTextModel,
    concerns: Sequence[Matched],
    options: AuditOptions,
) -> Groups:
    """Score every image by every concern, and tell which images show it.

    The scores ``I · t`` are kept, 4 bytes for each image and concern; embeddings are not.

    Raises:
        InputError: ``options.groups`` names no concern of the audit, or no image of the set.
    """
    directions = np.stack([each.direction for each in concerns]).T
    ids: list[str] = []
    scores: list[Floats] = []
    with batches(probes, batch_size=options.batch_size, workers=options.workers) as stream:
        for batch in stream:
            ids.extend(batch.ids)
            scores.append((embed_batch(vision_text, batch) @ directions).astype(np.float32))
            say(options, len(ids), len(probes), "looking for the concerns")
    return _split(tuple(ids), np.concatenate(scores), concerns, options)


def _split(
    ids: tuple[str, ...], scores: Floats, concerns: Sequence[Matched], options: AuditOptions
) -> Groups:
    shows, lacks = np.zeros(scores.shape, bool), np.zeros(scores.shape, bool)
    names = [each.concern.name for each in concerns]
    if unknown := [name for name in options.groups if name not in names]:
        raise InputError(f"groups are given for {unknown[0]!r}, which is no concern of this audit")
    order = np.argsort(scores, axis=0, kind="stable")
    many, few = _part(options.absent, len(ids)), _part(options.present, len(ids))
    notes = [
        f"{len(ids)} images are too few for groups by score: {name}={share:g} of them is no image"
        for name, share, count in (
            ("present", options.present, few),
            ("absent", options.absent, many),
        )
        if not count and len(options.groups) < len(names)
    ]
    np.put_along_axis(lacks, order[:many], True, axis=0)
    np.put_along_axis(shows, order[len(ids) - few :], True, axis=0)
    for column, name in enumerate(names):
        if name in options.groups:
            members = set(options.groups[name])
            inside = np.array([each in members for each in ids])
            if not inside.any():
                raise InputError(f"none of the images given for {name!r} is in the probe set")
            if absent := sorted(members.difference(ids)):
                notes.append(
                    f"{len(absent)} of the {len(members)} ids given for {name!r} are not among the "
                    f"images that could be read; the first is {absent[0]!r}"
                )
            shows[:, column], lacks[:, column] = inside, ~inside
    return Groups(ids, shows, lacks, tuple(name in options.groups for name in names), tuple(notes))


def _part(share: float, count: int) -> int:
    """Return how many images a share is, rounded down, so that two groups never overlap."""
    return int(share * count + 1e-9)  # 0.29 × 100 is a hair below 29


@dataclass(frozen=True, eq=False)
class SiteUnits:
    """The matching units of every concern at one site.

    Attributes:
        site: The site.
        matched: ``(concerns, units)`` bool.
        strata: ``(concerns, units)`` which units fire about as often.
        weights: ``(units, concerns)``: shares times these are excess shares.
    """

    site: SiteInfo
    matched: Bools
    strata: Ints
    weights: Doubles


def units_of_sites(
    atlas: Atlas, sites: Sequence[SiteInfo], concerns: Sequence[Matched]
) -> list[SiteUnits]:
    """Say which units match, and group the units of each site by how often they fire."""
    made = []
    for site in sites:
        units = atlas.of_site(site.name)
        rates = np.array([u.firing_rate if u.win_rate is None else u.win_rate for u in units])
        matched = np.zeros((len(concerns), site.units), bool)
        for row, each in enumerate(concerns):
            matched[row, each.units.get(site.name, ())] = True
        strata = np.stack([strata_of(rates, row) for row in matched])
        weights = np.stack(
            [excess_weights(row, groups) for row, groups in zip(matched, strata, strict=True)]
        )
        made.append(SiteUnits(site, matched, strata, weights.T))
    return made


@dataclass(eq=False)
class Flow:
    """What flows through the units of one site, image by image and class by class.

    Attributes:
        units: The site and the matching units.
        share, excess, logits: Per batch ``(images, concerns)`` float32; joined by :meth:`joined`.
        some: Per batch ``(images,)`` whether anything positive flowed.
        sums: Class → ``(units,)`` sum of the shares of its images.
        levels: ``(2, concerns, units)`` sums of the activation over images and positions that
            lack (0) and that show (1) the concern.
    """

    units: SiteUnits
    share: list[Floats] = field(default_factory=list)
    excess: list[Floats] = field(default_factory=list)
    logits: list[Floats] = field(default_factory=list)
    some: list[Bools] = field(default_factory=list)
    sums: dict[int, Doubles] = field(default_factory=dict)
    levels: Doubles = field(init=False)

    def __post_init__(self) -> None:
        self.levels = np.zeros((2, *self.units.matched.shape))

    def add(self, batch: SiteBatch, targets: Ints, lacks: Bools, shows: Bools) -> None:
        """Add one batch; ``lacks`` and ``shows`` are its rows of the groups."""
        shares, some = positive_shares(batch.contributions)
        members = self.units.matched.T.astype(np.float64)
        self.share.append((shares @ members).astype(np.float32))
        self.excess.append((shares @ self.units.weights).astype(np.float32))
        self.logits.append((batch.contributions @ members).astype(np.float32))
        self.some.append(some)
        for target in np.unique(targets).tolist():
            added = shares[(targets == target) & some].sum(0)
            self.sums[target] = self.sums.get(target, 0.0) + added
        for row, group in enumerate((lacks, shows)):
            self.levels[row] += group.T.astype(np.float64) @ batch.activations

    def joined(self) -> Mapping[str, npt.NDArray[np.generic]]:
        """Return ``share``, ``excess`` and ``logits``, ``(images, concerns)``, and ``some``."""
        return {
            name: np.concatenate(getattr(self, name))
            for name in ("share", "excess", "logits", "some")
        }


@dataclass(frozen=True, eq=False)
class Pass:
    """What the pass through the model gave.

    Attributes:
        flows: One per site.
        targets: ``(images,)`` the class that each image's contributions are about.
        predicted, labels: ``(images,)``; -1 for an image without a label.
        classes: Number of the model's classes.
        completeness_error: Site → largest size of the completeness error, in logits.
        skipped: Broken images.
    """

    flows: tuple[Flow, ...]
    targets: Ints
    predicted: Ints
    labels: Ints
    classes: int
    completeness_error: Mapping[str, float]
    skipped: int


def run_pass(
    model: LoadedModel,
    probes: ProbeSet,
    sites: Sequence[SiteUnits],
    groups: Groups,
    options: AuditOptions,
) -> Pass:
    """Let the images through the model and keep 12 bytes per image, concern and site.

    Raises:
        InputError: Another image was readable than when they were scored, or as
            :func:`neuronym.explain.contribution_batches`.
    """
    flows = tuple(Flow(site) for site in sites)
    rows: dict[str, list[Ints]] = {"targets": [], "predicted": [], "labels": []}
    errors = {site.site.name: 0.0 for site in sites}
    done, classes = 0, 0
    with contribution_batches(
        model,
        probes,
        [site.site for site in sites],
        targets=options.targets,
        batch_size=options.batch_size,
        workers=options.workers,
    ) as stream:
        for batch in stream:
            part = slice(done, done + len(batch))
            check_same(batch.ids, groups, part)
            for name, kept in rows.items():
                kept.append(getattr(batch, name))
            for flow in flows:
                name = flow.units.site.name
                made = batch.sites[name]
                flow.add(made, batch.targets, groups.lacks[part], groups.shows[part])
                errors[name] = max(errors[name], float(np.abs(made.completeness_error).max()))
            done, classes = done + len(batch), batch.logits.shape[1]
            say(options, done, len(groups.ids), "following the evidence")
        skipped = len(stream.skipped)
    joined = {name: np.concatenate(kept) for name, kept in rows.items()}
    return Pass(
        flows, joined["targets"], joined["predicted"], joined["labels"], classes, errors, skipped
    )


def check_same(ids: Sequence[str], groups: Groups, part: slice) -> None:
    """Check that a batch holds the images that were scored at its place.

    Raises:
        InputError: They are others.
    """
    if tuple(ids) != groups.ids[part]:
        raise InputError(
            f"image {ids[0]!r} and those after it are not the ones that were scored; the "
            "images must not change while they are audited"
        )


def say(options: AuditOptions, done: int, total: int | None, note: str) -> None:
    """Tell the caller how far a pass over the images is."""
    if options.progress is not None:
        options.progress(done, total, note)
