"""Accuracy, likelihood, activity and divergence of a classifier, with deterministic winners."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronym.activity import Activity
from neuronym.devices import device_of
from neuronym.errors import InputError
from neuronym.lwta import Diagnosis, lwta_modules
from neuronym.lwta.diagnostics import Tally, watch_activity
from neuronym.models.preprocessing import Preprocessing
from neuronym.modes import evaluation
from neuronym.train.data import ImageSource, Indices
from neuronym.train.team import Team, share_of

__all__ = ["Evaluation", "Plan", "calibrate", "evaluate", "evaluate_shared", "prepared"]


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` measures over a set of images.

    Attributes:
        images: How many.
        accuracy: Share of images whose largest logit is the label's, in [0, 1].
        nll: Minus the log-likelihood of the label, in nats per image.
        active_fraction: Share of the units of the given sites that are active (winners where
            units compete, elsewhere those that are not zero), over all positions and images;
            ``None`` without sites. 1/U for competition, about a half for ReLU.
        active_by_site: The same per site.
        kl_by_site: KL of the winners from the uniform prior per LWTA site, in nats per image.
        diagnosis: Dead units, entropy and more per LWTA site, where it was asked for.
    """

    images: int
    accuracy: float
    nll: float
    active_fraction: float | None = None
    active_by_site: dict[str, float] = field(default_factory=dict)
    kl_by_site: dict[str, float] = field(default_factory=dict)
    diagnosis: Diagnosis | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "nll": self.nll,
            "active_fraction": self.active_fraction,
            "active_by_site": dict(self.active_by_site),
            "kl_by_site": dict(self.kl_by_site),
            "diagnosis": None if self.diagnosis is None else self.diagnosis.to_dict(),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Evaluation:
        """Build from what :meth:`to_dict` gave."""
        found = value.get("diagnosis")
        diagnosis = None if found is None else Diagnosis.from_dict(found)
        return cls(**{**value, "diagnosis": diagnosis})


def prepared(pixels: Tensor, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """Return uint8 pixels as the normalised input of a network, in channels-last memory."""
    moved = pixels.to(device).contiguous(memory_format=torch.channels_last)
    return preprocessing.normalize(moved)


def evaluate(
    module: nn.Module,
    source: ImageSource,
    *,
    batch_size: int = 256,
    sites: Sequence[str] = (),
    kl: bool = False,
    precision: torch.dtype | None = None,
) -> Evaluation:
    """Measure a classifier in evaluation mode; its own mode is put back.

    Args:
        module: (N, C, H, W) → (N, classes) logits.
        source: Labelled images.
        batch_size: Images at a time.
        sites: Names of modules whose outputs' activity is measured.
        kl: Whether the competition is measured too: KL, dead units and entropy per LWTA site.
        precision: Autocast dtype, or ``None`` for float32.

    Raises:
        InputError: No image could be read.
    """
    plan = Plan(batch_size, tuple(sites), kl, precision)
    return evaluate_shared(module, source, plan, Team(device_of(module)))


@dataclass(frozen=True)
class Plan:
    """What to measure, and how: the keywords of :func:`evaluate`."""

    batch_size: int = 256
    sites: tuple[str, ...] = ()
    kl: bool = False
    precision: torch.dtype | None = None


@torch.no_grad()
def evaluate_shared(module: nn.Module, source: ImageSource, plan: Plan, team: Team) -> Evaluation:
    """Measure as :func:`evaluate` does, each process a share of the images; all get the result.

    Raises:
        InputError: No image could be read.
    """
    good = source.good
    ours = good[good % team.size == team.rank]
    with evaluation(module):
        counted = _count(module, source, plan, ours)
    total = _Counted()
    for each in team.gather(counted):
        total.add(each)
    if not total.images:
        raise InputError(f"{source.probe.name!r} has no readable image to evaluate on")
    diagnosis = total.tally.diagnosis() if total.tally.images else None
    return Evaluation(
        images=total.images,
        accuracy=total.correct / total.images,
        nll=total.nll / total.images,
        active_fraction=total.active_fraction,
        active_by_site=total.active_by_site,
        kl_by_site={} if diagnosis is None else {each.name: each.kl for each in diagnosis.layers},
        diagnosis=diagnosis,
    )


class _Counted:
    """Sums over some images; those of several processes are added."""

    def __init__(self) -> None:
        self.images, self.correct, self.nll = 0, 0, 0.0
        self.activity: dict[str, Activity] = {}
        self.tally = Tally()

    def add(self, other: _Counted) -> None:
        self.images += other.images
        self.correct += other.correct
        self.nll += other.nll
        for site, activity in other.activity.items():
            self.activity.setdefault(site, Activity()).merge(activity)
        self.tally.merge(other.tally)

    @property
    def active_by_site(self) -> dict[str, float]:
        pairs = ((site, each.fraction) for site, each in self.activity.items())
        return {site: fraction for site, fraction in pairs if fraction is not None}

    @property
    def active_fraction(self) -> float | None:
        total = Activity()
        for each in self.activity.values():
            total.merge(each)
        return total.fraction


def _count(module: nn.Module, source: ImageSource, plan: Plan, indices: Indices) -> _Counted:
    device, found = device_of(module), _Counted()
    wanted = plan.kl and bool(lwta_modules(module))
    enabled = plan.precision is not None
    with watch_activity(module, plan.sites) as found.activity:
        for pixels, labels in source.batches(indices, plan.batch_size):
            if not len(labels):
                continue
            inputs = prepared(pixels, source.preprocessing, device)
            with (
                found.tally.watch(module) if wanted else contextlib.nullcontext(),
                torch.autocast(device.type, dtype=plan.precision, enabled=enabled),
            ):
                logits = module(inputs)
            logits, labels = logits.float(), labels.to(device)
            found.nll += float(functional.cross_entropy(logits, labels, reduction="sum"))
            found.correct += int((logits.argmax(1) == labels).sum())
            found.images += len(labels)
    return found


@torch.no_grad()
def calibrate(
    module: nn.Module,
    source: ImageSource,
    *,
    order: Sequence[int] | Indices,
    batch_size: int,
    precision: torch.dtype | None = None,
    team: Team | None = None,
) -> int:
    """Measure the statistics of batch normalisation anew, with the winners of evaluation.

    In training winners are drawn, in evaluation the largest wins, so that the running statistics
    of training do not fit evaluation. Every batch normalisation is reset and takes the plain
    average over the batches; everything else stays as in evaluation.

    Args:
        module: Changed in place (buffers only).
        source: Images, without augmentation.
        order: Which of them.
        batch_size: Images at a time.
        precision: Autocast dtype, or ``None``.
        team: Processes that each take a share of every batch; all get the same statistics.

    Returns:
        The number of batches used; 0 where the network has no batch normalisation.
    """
    norms = [
        part
        for part in module.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats
    ]
    if not norms:
        return 0
    device = device_of(module)
    team = team or Team(device)
    ours = share_of(batch_size, team.rank, team.size)
    whole = [
        np.asarray(order)[start : start + batch_size] for start in range(0, len(order), batch_size)
    ]
    momenta = [norm.momentum for norm in norms]
    batches = 0
    with evaluation(module):
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
                norm.train()
            for pixels, labels in source.groups([group[ours] for group in whole]):
                if min(team.counts(len(labels))) < 2:
                    continue
                with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
                    module(prepared(pixels, source.preprocessing, device))
                batches += 1
            for norm in norms:
                means, variances = norm.running_mean, norm.running_var
                if means is not None and variances is not None:
                    team.average([means, variances], weight=float(batches))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return batches
