"""Editing out the units of a concern, and what that does to groups of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from neuronym.audit.collect import Flow, Groups, Pass
from neuronym.audit.options import AuditOptions
from neuronym.devices import device_of
from neuronym.errors import InputError
from neuronym.intervene import Change, Edit, applied
from neuronym.intervene.paired import paired_change
from neuronym.models import LoadedModel
from neuronym.probes import ProbeSet, batches
from neuronym.results import Estimate, GroupEffect, Removal

__all__ = ["edit_of", "removals"]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
_INPUT = "input"
_SMALLEST = 1e-9


def edit_of(
    model: LoadedModel,
    flows: Sequence[Flow],
    column: int,
    groups: Groups,
    options: AuditOptions,
) -> Edit:
    """Return the edit that takes a concern's units out of the model, at all sites.

    ``"hold"`` keeps each unit at ``(1 − balance) · mean without + balance · mean with`` of its
    masked activation per position, over the images that lack and that show the concern.

    Raises:
        InputError: An action does not fit a site, or a block would be left without a unit.
    """
    counts = groups.lacks[:, column].sum(), groups.shows[:, column].sum()
    changes: list[Change] = []
    for flow in flows:
        site, units = flow.units.site, np.flatnonzero(flow.units.matched[column])
        if not len(units):
            continue
        action = options.action
        if action == "hand_over" and site.competitors is None:
            action = "silence"  # nobody is there to hand over to
        dim = site.channel_dim if site.competitors is None else None
        if action != "hold":
            changes.append(Change(site.name, tuple(units.tolist()), action, channel_dim=dim))
            continue
        without, shown = (
            sums[column, units] / max(count * site.positions, 1)
            for sums, count in zip(flow.levels, counts, strict=True)
        )
        levels = (1 - options.balance) * without + options.balance * shown
        for unit, level in zip(units.tolist(), levels.tolist(), strict=True):
            value = level if abs(level) > _SMALLEST else 0.0
            changes.append(Change(site.name, (unit,), "hold", value=value, channel_dim=dim))
    return Edit(tuple(changes), model.spec, model.fingerprint)


@dataclass(eq=False)
class _After:
    """The classes that an edited model predicts, batch by batch."""

    edit: Edit
    predicted: list[Ints] = field(default_factory=list)


def removals(
    model: LoadedModel,
    probes: ProbeSet,
    columns: Sequence[tuple[int, str]],
    seen: Pass,
    groups: Groups,
    options: AuditOptions,
) -> list[Removal]:
    """Edit out one concern after the other and predict every image anew, decoded once.

    Args:
        model: The model; it is as before afterwards.
        probes: The images that were audited.
        columns: Number and name of each concern to remove.
        seen: What the pass without edits gave.
        groups: Which images show what.
        options: The action, its balance, and the rest.

    Raises:
        InputError: As :func:`edit_of`.
    """
    if not columns:
        return []
    after = [_After(edit_of(model, seen.flows, number, groups, options)) for number, _ in columns]
    _predict(model, probes, after, options, len(groups.ids))
    made = []
    for (number, name), each in zip(columns, after, strict=True):
        predicted = np.concatenate(each.predicted)
        if len(predicted) != len(groups.ids):
            raise InputError("the images changed while they were audited")
        effects = tuple(_effects(predicted, seen, groups, number, model, options))
        made.append(Removal(name, options.action, each.edit.to_dict(), effects))
    return made


@torch.no_grad()
def _predict(
    model: LoadedModel,
    probes: ProbeSet,
    after: Sequence[_After],
    options: AuditOptions,
    total: int,
) -> None:
    device, done = device_of(model.module), 0
    with batches(
        probes,
        batch_size=options.batch_size,
        workers=options.workers,
        prepare={_INPUT: model.transform},
    ) as stream:
        for batch in stream:
            inputs = torch.stack(batch.prepared[_INPUT]).to(device)
            for each in after:
                with applied(model, each.edit):
                    each.predicted.append(model.module(inputs).argmax(1).cpu().numpy())
            done += len(batch)
            if options.progress is not None:
                options.progress(done, total, "without the units")


def _effects(
    predicted: Ints,
    seen: Pass,
    groups: Groups,
    column: int,
    model: LoadedModel,
    options: AuditOptions,
) -> Iterator[GroupEffect]:
    everything = np.ones(len(predicted), bool)
    parts = {"all": everything, "with": groups.shows[:, column], "without": groups.lacks[:, column]}
    names = model.class_names
    classes: list[int | None] = [None, *np.unique(seen.labels[seen.labels >= 0]).tolist()]
    for index in classes:
        of_class = everything if index is None else seen.labels == index
        name = None if index is None else names[index] if names else f"class {index}"
        for group, members in parts.items():
            inside = members & of_class
            if inside.sum() >= (1 if index is None else options.min_images):
                yield _effect(group, name, inside, predicted, seen)


def _effect(
    group: str,
    name: str | None,
    inside: Bools,
    predicted: Ints,
    seen: Pass,
) -> GroupEffect:
    images = int(inside.sum())
    changed = float((predicted[inside] != seen.predicted[inside]).mean())
    labelled = inside & (seen.labels >= 0)
    count = int(labelled.sum())
    if not count:
        return GroupEffect(group, name, images, changed, None, None, None)
    before = seen.predicted[labelled] == seen.labels[labelled]
    after = predicted[labelled] == seen.labels[labelled]
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    low, high = paired_change(gained, lost, count).interval
    change = Estimate((gained - lost) / count, low, high)
    return GroupEffect(
        group, name, images, changed, float(before.mean()), float(after.mean()), change
    )
