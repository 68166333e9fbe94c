"""The passes behind an explanation: all sites forward and backward once, and once without each."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neuronym import lwta
from neuronym.calls import split_call
from neuronym.errors import InputError
from neuronym.explain.contributions import Contributions, attributions, baselines, units_first
from neuronym.lwta.trace import Competition
from neuronym.models import LoadedModel
from neuronym.results import SiteInfo

__all__ = ["Question", "SitePass", "run_passes", "sample_passes"]


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of the network.

    Attributes:
        model: The network.
        inputs: ``(images, ...)``, preprocessed, on its device.
        sites: Of the atlas.
        targets: ``(images,)`` int64; ``None`` for the predicted classes.
        against: ``(images,)`` int64, or ``None``.
    """

    model: LoadedModel
    inputs: Tensor
    sites: tuple[SiteInfo, ...]
    targets: Tensor | None
    against: Tensor | None


@dataclass(frozen=True, eq=False)
class SitePass:
    """What was found at one site.

    Attributes:
        site: Which one.
        shape: Of its output.
        found: The contributions.
        gradient: ``(images, units, positions)``, of what is explained at the site's output.
        mask: ``(images, units, positions)`` bool, who won; ``None`` at a dense site.
        responses: ``(images, units, positions)``, what competed; ``None`` at a dense site, at one
            that is edited, and in a pass over samples.
    """

    site: SiteInfo
    shape: tuple[int, ...]
    found: Contributions
    gradient: Tensor
    mask: Tensor | None
    responses: Tensor | None


def run_passes(question: Question) -> list[SitePass]:
    """Return what was found at each site, the logits without each site included.

    Raises:
        InputError: A site is not in the model, has another number of units, or competes otherwise.
    """
    passes = _forward_backward(question, keep=("winners", "logits"))
    first = passes[0].found
    without = baselines(
        question.model.module,
        question.inputs,
        [split_call(site.name) for site in question.sites],
        targets=first.targets,
        against=first.against,
    )
    return [_with_baselines(each, logits) for each, logits in zip(passes, without, strict=True)]


def sample_passes(question: Question) -> list[SitePass]:
    """Do so once for winners that are drawn: without the logits without each site, which are 0."""
    return _forward_backward(question, keep=("winners",))


def _forward_backward(question: Question, *, keep: Sequence[str]) -> list[SitePass]:
    module = question.model.module
    competes = any(site.competitors is not None for site in question.sites)
    places = [split_call(site.name) for site in question.sites]
    opened = lwta.trace(module, keep=keep) if competes else contextlib.nullcontext()
    with opened as trace:  # of the pass that is explained, not of those without a site
        attributed = attributions(
            module, question.inputs, places, targets=question.targets, against=question.against
        )
    records = {} if trace is None else trace.by_name()
    passes = []
    for site, (name, call), each in zip(question.sites, places, attributed, strict=True):
        found = each.beside(torch.zeros(len(each.logits)), channel_dim=site.channel_dim)
        if found.activations.shape[1] != site.units:
            raise InputError(
                f"site {site.name!r} has {found.activations.shape[1]} units in this model and "
                f"{site.units} in the atlas"
            )
        mask, responses = None, None
        if site.competitors is not None:
            record = _record(site, records.get(name, []), call)
            mask = units_first(record.mask, record.channel_dim)
            edit = getattr(module.get_submodule(name), "edit", None)
            if record.logits is not None and edit is None:  # under an edit others may pass
                responses = units_first(record.logits.detach(), record.channel_dim)
        gradient = units_first(each.gradient, site.channel_dim)
        shape = tuple(each.activation.shape)
        passes.append(SitePass(site, shape, found, gradient, mask, responses))
    return passes


def _record(site: SiteInfo, records: Sequence[Competition], call: int) -> Competition:
    if len(records) <= call or records[call].competitors != site.competitors:
        raise InputError(
            f"site {site.name!r} does not compete in blocks of {site.competitors} in this model"
        )
    return records[call]


def _with_baselines(made: SitePass, baselines: Tensor) -> SitePass:
    return replace(made, found=replace(made.found, baselines=baselines))
