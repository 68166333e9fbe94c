"""Editing out the units of a concern, and what that does to groups of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from neuronym.audit.collect import Flow, Pass, check_same, say
from neuronym.audit.findings import Asked
from neuronym.devices import device_of
from neuronym.errors import InputError
from neuronym.intervene import Change, Edit, applied
from neuronym.intervene.paired import paired_change
from neuronym.models import LoadedModel
from neuronym.modes import evaluation
from neuronym.probes import ProbeSet, batches
from neuronym.results import Estimate, GroupEffect, Removal

__all__ = ["edit_of", "removals"]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
_INPUT = "input"


def edit_of(model: LoadedModel, flows: Sequence[Flow], column: int, asked: Asked) -> Edit:
    """Return the edit that takes a concern's units out of the model, at all sites.

    ``"hold"`` keeps each unit at ``(1 − balance) · mean without + balance · mean with`` of its
    masked activation per position, over the images that lack and that show the concern.

    Raises:
        InputError: A concern that no unit matches, or no image shows or lacks the concern.
    """
    changes = [change for flow in flows for change in _changes(flow, column, asked)]
    return Edit(tuple(changes), model.spec, model.fingerprint)


def _changes(flow: Flow, column: int, asked: Asked) -> list[Change]:
    site, options = flow.units.site, asked.options
    units: list[int] = np.flatnonzero(flow.units.matched[column]).tolist()
    dim = site.channel_dim if site.competitors is None else None
    if not units:
        return []
    if options.action == "hold":
        return [
            Change(site.name, (unit,), "hold", value=level, channel_dim=dim)
            for unit, level in zip(units, _levels(flow, column, units, asked), strict=True)
        ]
    # At a dense site nobody is there to hand over to.
    action = "silence" if site.competitors is None else options.action
    return [Change(site.name, tuple(units), action, channel_dim=dim)]


def _levels(flow: Flow, column: int, units: Sequence[int], asked: Asked) -> list[float]:
    """Return where each unit is held."""
    groups = {"lacks": asked.groups.lacks[:, column], "shows": asked.groups.shows[:, column]}
    means = []
    for (verb, members), sums in zip(groups.items(), flow.levels, strict=True):
        if not members.any():
            raise InputError(
                f"no image {verb} {asked.concerns[column]!r}, so that there is no level at which "
                "its units could be held; give other images, or another action"
            )
        means.append(sums[column, units] / (members.sum() * flow.units.site.positions))
    balance = asked.options.balance
    levels: list[float] = ((1 - balance) * means[0] + balance * means[1]).tolist()
    return levels


def removals(
    model: LoadedModel, probes: ProbeSet, concerns: Sequence[str], seen: Pass, asked: Asked
) -> tuple[list[Removal], list[str]]:
    """Edit out one concern after the other and predict every image anew, decoded once for all.

    Args:
        model: The model; it is as before afterwards.
        probes: The images that were audited.
        concerns: Names of those to remove.
        seen: What the pass without edits gave.
        asked: The concerns, the groups and the options.

    Returns:
        The removals, and why each concern that could not be removed was not, one line each.

    Raises:
        InputError: The images changed meanwhile.
    """
    edits, notes = _possible(model, concerns, seen, asked)
    if not edits:
        return [], notes
    predicted = _predict(model, probes, list(edits.values()), asked)
    made = []
    for (name, edit), after in zip(edits.items(), predicted, strict=True):
        effects = tuple(_effects(after, seen, asked.concerns.index(name), asked))
        made.append(Removal(name, asked.options.action, edit.to_dict(), effects))
    return made, notes


def _possible(
    model: LoadedModel, concerns: Sequence[str], seen: Pass, asked: Asked
) -> tuple[dict[str, Edit], list[str]]:
    """Return the edits that can be made, and what is wrong with the others."""
    edits: dict[str, Edit] = {}
    notes = []
    for name in concerns:
        made = _edit_or_reason(model, seen.flows, asked.concerns.index(name), asked)
        if isinstance(made, Edit):
            edits[name] = made
        else:
            notes.append(f"{name!r} was not removed: {made}")
    return edits, notes


def _edit_or_reason(
    model: LoadedModel, flows: Sequence[Flow], column: int, asked: Asked
) -> Edit | str:
    try:
        edit = edit_of(model, flows, column, asked)
        with applied(model, edit):  # whether a block is left without a winner shows only here
            return edit
    except InputError as error:
        return str(error)


@torch.no_grad()
def _predict(
    model: LoadedModel, probes: ProbeSet, edits: Sequence[Edit], asked: Asked
) -> list[Ints]:
    """Return the class of every image under each edit."""
    device, options = device_of(model.module), asked.options
    found: list[list[Ints]] = [[] for _ in edits]
    done, total = 0, len(asked.groups.ids)
    stream = batches(
        probes,
        batch_size=options.batch_size,
        workers=options.workers,
        prepare={_INPUT: model.transform},
    )
    with stream, evaluation(model.module):
        for batch in stream:
            check_same(batch.ids, asked.groups, slice(done, done + len(batch)))
            inputs = torch.stack(batch.prepared[_INPUT]).to(device)
            for edit, kept in zip(edits, found, strict=True):
                with applied(model, edit):
                    kept.append(model.module(inputs).argmax(1).cpu().numpy())
            done += len(batch)
            say(options, done, total, "without the units")
    return [np.concatenate(kept) for kept in found]


def _effects(after: Ints, seen: Pass, column: int, asked: Asked) -> Iterator[GroupEffect]:
    everything = np.ones(len(after), bool)
    groups = asked.groups
    parts = {"all": everything, "with": groups.shows[:, column], "without": groups.lacks[:, column]}
    classes: list[int | None] = [None, *np.unique(seen.labels[seen.labels >= 0]).tolist()]
    for index in classes:
        of_class = everything if index is None else seen.labels == index
        name = None if index is None else asked.class_name(index)
        least = 1 if index is None else asked.options.min_images
        for group, members in parts.items():
            inside = members & of_class
            if inside.sum() >= least:
                yield GroupEffect(group, name, *_effect(inside, after, seen))


def _effect(
    inside: Bools, after: Ints, seen: Pass
) -> tuple[int, float, float | None, float | None, Estimate | None]:
    """Return images, share changed, accuracy before and after, and its change."""
    images = int(inside.sum())
    changed = float((after[inside] != seen.predicted[inside]).mean())
    labelled = inside & (seen.labels >= 0)
    count = int(labelled.sum())
    if not count:
        return images, changed, None, None, None
    was = seen.predicted[labelled] == seen.labels[labelled]
    is_right = after[labelled] == seen.labels[labelled]
    gained, lost = int((is_right & ~was).sum()), int((was & ~is_right).sum())
    low, high = paired_change(gained, lost, count).interval
    change = Estimate((gained - lost) / count, low, high)
    return images, changed, float(was.mean()), float(is_right.mean()), change
