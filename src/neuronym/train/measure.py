"""Accuracy, likelihood, activity and divergence of a classifier, with deterministic winners."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronym.errors import InputError
from neuronym.lwta import kl_per_layer, lwta_modules, trace
from neuronym.models.preprocessing import Preprocessing
from neuronym.train.data import ImageSource, Indices

__all__ = ["Evaluation", "calibrate", "evaluate", "prepared"]


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` measures over a set of images.

    Attributes:
        images: How many.
        accuracy: Share of images whose largest logit is the label's, in [0, 1].
        nll: Minus the log-likelihood of the label, in nats per image.
        active_fraction: Share of the units of the given sites that are not zero, over all
            positions and images; ``None`` without sites. 1/U for competition, about a half for
            ReLU.
        active_by_site: The same per site.
        kl_by_site: KL of the winners from the uniform prior per LWTA site, in nats per image.
    """

    images: int
    accuracy: float
    nll: float
    active_fraction: float | None = None
    active_by_site: dict[str, float] = field(default_factory=dict)
    kl_by_site: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "nll": self.nll,
            "active_fraction": self.active_fraction,
            "active_by_site": dict(self.active_by_site),
            "kl_by_site": dict(self.kl_by_site),
        }


def prepared(pixels: Tensor, preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """Return uint8 pixels as the normalised input of a network, in channels-last memory."""
    moved = pixels.to(device).contiguous(memory_format=torch.channels_last)
    return preprocessing.normalize(moved)


@torch.no_grad()
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
        kl: Whether the KL per LWTA site is measured too.
        precision: Autocast dtype, or ``None`` for float32.

    Raises:
        InputError: No image could be read.
    """
    device = _device_of(module)
    correct, nll, images = 0, 0.0, 0
    divergence: dict[str, float] = {}
    competitive = bool(lwta_modules(module))
    was_training = module.training
    module.eval()
    try:
        with _activity(module, sites) as activity:
            for pixels, labels in source.batches(source.good, batch_size):
                if not len(labels):
                    continue
                inputs = prepared(pixels, source.preprocessing, device)
                recorder = trace(module) if kl and competitive else contextlib.nullcontext()
                with (
                    recorder as record,
                    torch.autocast(device.type, dtype=precision, enabled=precision is not None),
                ):
                    logits = module(inputs)
                logits, labels = logits.float(), labels.to(device)
                nll += float(functional.cross_entropy(logits, labels, reduction="sum"))
                correct += int((logits.argmax(1) == labels).sum())
                images += len(labels)
                if record is not None:
                    for name, value in kl_per_layer(record).items():
                        divergence[name] = divergence.get(name, 0.0) + float(value) * len(labels)
    finally:
        module.train(was_training)
    if not images:
        raise InputError(f"{source.probe.name!r} has no readable image to evaluate on")
    return Evaluation(
        images=images,
        accuracy=correct / images,
        nll=nll / images,
        active_fraction=activity.total,
        active_by_site=activity.by_site,
        kl_by_site={name: value / images for name, value in divergence.items()},
    )


class _Activity:
    """Counts non-zero outputs per site."""

    def __init__(self) -> None:
        self.active: Counter[str] = Counter()
        self.count: Counter[str] = Counter()

    def add(self, site: str, output: Tensor) -> None:
        self.active[site] += int(torch.count_nonzero(output))
        self.count[site] += output.numel()

    @property
    def by_site(self) -> dict[str, float]:
        return {site: self.active[site] / count for site, count in self.count.items() if count}

    @property
    def total(self) -> float | None:
        count = sum(self.count.values())
        return sum(self.active.values()) / count if count else None


@contextlib.contextmanager
def _activity(module: nn.Module, sites: Sequence[str]) -> Iterator[_Activity]:
    counter = _Activity()
    handles = []
    try:
        for site in sites:

            def hook(_: nn.Module, __: Any, output: Tensor, *, name: str = site) -> None:
                counter.add(name, output)

            handles.append(module.get_submodule(site).register_forward_hook(hook))
        yield counter
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def calibrate(
    module: nn.Module,
    source: ImageSource,
    *,
    order: Sequence[int] | Indices,
    batch_size: int,
    precision: torch.dtype | None = None,
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
    device = _device_of(module)
    was_training = module.training
    momenta = [norm.momentum for norm in norms]
    module.eval()
    batches = 0
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        for pixels, labels in source.batches(order, batch_size):
            if len(labels) < 2:
                continue
            with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
                module(prepared(pixels, source.preprocessing, device))
            batches += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.train(was_training)
    return batches


def _device_of(module: nn.Module) -> torch.device:
    for parameter in module.parameters():
        return parameter.device
    return torch.device("cpu")
