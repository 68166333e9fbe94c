"""Contributions of a whole data set, batch by batch, in bounded memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax
from torch import Tensor

from neuronym.calls import split_call
from neuronym.devices import device_of
from neuronym.errors import InputError
from neuronym.explain.build import image_winners
from neuronym.explain.contributions import baselines
from neuronym.explain.passes import Question, SitePass, sample_passes
from neuronym.explain.select import class_index
from neuronym.explain.targets import LABEL, PREDICTED, TargetChoice
from neuronym.models import LoadedModel
from neuronym.models.labels import Labels
from neuronym.probes import Batch, Batches, ProbeSet, Skipped, batches
from neuronym.results import SiteInfo

__all__ = [
    "INPUT",
    "ContributionBatch",
    "ContributionBatches",
    "SiteBatch",
    "batch_contributions",
    "contribution_batches",
]

INPUT = "input"
"""The name under which a stream's batches hold the model's inputs."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SiteBatch:
    """What the units of one site did for a batch.

    Attributes:
        contributions: ``(images, units)`` float64, to the target's logit, summed over positions;
            signed, in logits.
        activations: ``(images, units)`` float64, the masked activation summed over positions.
        won: ``(images, units)`` bool, whether the unit won a position; at a dense site whether
            it was not zero at one.
        win_rate: ``(images, units)`` float64, share of positions that it won, 0 to 1; ``None``
            at a dense site.
        image_winner: ``(images, units)`` bool, the one of each block that won the image; at a
            dense site the same as ``won``.
        baselines: ``(images,)`` float64, the target's logit with the site's output at zero.
        completeness_error: ``(images,)`` float64, logit − baseline − sum of the contributions.
    """

    contributions: Floats
    activations: Floats
    won: Bools
    win_rate: Floats | None
    image_winner: Bools
    baselines: Floats
    completeness_error: Floats


@dataclass(frozen=True, eq=False)
class ContributionBatch:
    """The contributions of one batch of images.

    Attributes:
        keys: ``(images,)`` int64, place of each image in the probe set (or its key in a stream).
        ids: Id of each image.
        labels: ``(images,)`` int64, true class of the model, -1 where the image has no label or
            one that is no class of the model.
        predicted: ``(images,)`` int64, the most probable class.
        targets: ``(images,)`` int64, the class whose logit is explained.
        logits: ``(images, classes)`` float64.
        sites: Name of the site → what its units did.
        end: Position in the source after the last image of this batch, broken ones included.
    """

    keys: Ints
    ids: tuple[str, ...]
    labels: Ints
    predicted: Ints
    targets: Ints
    logits: Floats
    sites: Mapping[str, SiteBatch]
    end: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def target_logits(self) -> Floats:
        """``(images,)``: the logit that is explained."""
        picked: Floats = np.take_along_axis(self.logits, self.targets[:, None], 1)[:, 0]
        return picked

    @property
    def probabilities(self) -> Floats:
        """``(images,)``: probability of the target, 0 to 1."""
        chances = softmax(self.logits, axis=1)
        picked: Floats = np.take_along_axis(chances, self.targets[:, None], 1)[:, 0]
        return picked


class ContributionBatches(Iterator[ContributionBatch]):
    """Iterates once over a data set's contributions; made by :func:`contribution_batches`."""

    def __init__(self, stream: Batches, made: Generator[ContributionBatch, None, None]) -> None:
        """Use :func:`contribution_batches`."""
        self._stream, self._made = stream, made

    @property
    def skipped(self) -> list[Skipped]:
        """The broken images met so far; complete when the iteration has ended."""
        return self._stream.skipped

    @property
    def total(self) -> int | None:
        """Number of images that are asked for, broken ones included."""
        return self._stream.total

    def __next__(self) -> ContributionBatch:
        return next(self._made)

    def close(self) -> None:
        """Stop the threads that decode ahead."""
        self._made.close()
        self._stream.close()

    def __enter__(self) -> ContributionBatches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def contribution_batches(
    model: LoadedModel,
    probes: ProbeSet,
    sites: Sequence[SiteInfo],
    *,
    targets: TargetChoice = PREDICTED,
    batch_size: int = 64,
    workers: int | None = None,
) -> ContributionBatches:
    """Attribute one logit of every image of a probe set to the units of several sites.

    Images are decoded and transformed ahead in threads, one batch is on the device at a time, and
    nothing of an earlier batch is kept. Broken images are left out and listed in ``skipped``. For
    a part of a probe set see :func:`neuronym.probes.subset`.

    Args:
        model: The classifier.
        probes: The images.
        sites: Sites of an atlas of this model (``atlas.sites``); each is explained on its own.
        targets: The logit that is explained: ``"predicted"`` (each image's most probable class),
            ``"label"`` (its true class), or one class by index or name for all images.
        batch_size: Images per forward pass.
        workers: Threads that decode; ``None`` takes one per processor, at most 4.

    Raises:
        InputError: No site; a site is not that of this model; a class does not exist; labels are
            asked for and an image has none; or (in the iteration) a number is not finite.
    """
    chosen = Chosen.of(
        model, sites, targets, probes.label_names, labelled=probes.labels is not None
    )
    stream = batches(
        probes, batch_size=batch_size, workers=workers, prepare={INPUT: model.transform}
    )
    return ContributionBatches(stream, _iterate(model, stream, chosen))


@dataclass(frozen=True)
class Chosen:
    """What is explained, checked: the sites, and which logit.

    Attributes:
        sites: The sites.
        fixed: The class of every image, or ``None``.
        by_label: Whether each image's label is its target.
        labels: How labels become classes.
        label_names: Names of the labels, for messages.
    """

    sites: tuple[SiteInfo, ...]
    fixed: int | None
    by_label: bool
    labels: Labels
    label_names: tuple[str, ...] | None

    @classmethod
    def of(
        cls,
        model: LoadedModel,
        sites: Sequence[SiteInfo],
        targets: TargetChoice,
        label_names: tuple[str, ...] | None,
        *,
        labelled: bool,
    ) -> Chosen:
        """Check a request.

        Raises:
            InputError: See :func:`contribution_batches`.
        """
        if not sites:
            raise InputError("no site to explain")
        names = [site.name for site in sites]
        if len(set(names)) < len(names):
            raise InputError(f"each site may be given once, not {names}")
        by_label = targets == LABEL
        if by_label and not labelled:
            raise InputError("targets='label' needs images with labels; use targets='predicted'")
        fixed = None
        if not by_label and targets != PREDICTED:
            fixed = class_index(targets, model.class_names)
        matched = Labels.between(label_names, model.class_names)
        return cls(tuple(sites), fixed, by_label, matched, label_names)

    def targets(self, batch: Batch, device: torch.device, classes: int) -> Tensor | None:
        """Return the targets of a batch, ``None`` where they are the predicted classes."""
        if self.fixed is not None:
            return torch.full((len(batch),), self.fixed, dtype=torch.int64, device=device)
        if not self.by_label:
            return None
        found = self.labels.of(batch.labels, len(batch), classes)
        if (found < 0).any():
            at = int((found < 0).argmax())
            raise InputError(
                f"image {batch.ids[at]!r} has {self._label(batch, at)}; "
                "use targets='predicted', or leave that image out"
            )
        return torch.from_numpy(found).to(device)

    def _label(self, batch: Batch, at: int) -> str:
        label = -1 if batch.labels is None else int(batch.labels[at])
        if label < 0:
            return "no label"
        known = self.label_names is not None and label < len(self.label_names)
        name = self.label_names[label] if known and self.label_names else label
        return f"the label {name!r}, which is no class of the model, or the name of several"


def _iterate(
    model: LoadedModel, stream: Batches, chosen: Chosen
) -> Generator[ContributionBatch, None, None]:
    with stream:
        for batch in stream:
            yield batch_contributions(model, batch, chosen)


def batch_contributions(model: LoadedModel, batch: Batch, chosen: Chosen) -> ContributionBatch:
    """Attribute one batch, whose inputs were prepared under :data:`INPUT`.

    Raises:
        InputError: A site is not as it says, a target does not exist, or a number is not finite.
    """
    device = device_of(model.module)
    inputs = torch.stack(batch.prepared[INPUT]).to(device)
    targets = chosen.targets(batch, device, _classes(model))
    question = Question(model, inputs, chosen.sites, targets, None)
    passes = sample_passes(question)  # one forward and one backward pass for all sites
    explained = passes[0].found.targets
    places = [split_call(site.name) for site in chosen.sites]
    without = baselines(model.module, inputs, places, targets=explained)
    logits = passes[0].found.logits.double().cpu().numpy()
    _finite("the model's logits", logits, batch.ids)
    sites = {}
    for each, base in zip(passes, without, strict=True):
        name, found = each.site.name, _site_batch(each, base.double())
        _finite(f"the contribution at site {name!r}", found.contributions, batch.ids)
        sites[name] = found
    return ContributionBatch(
        keys=batch.indices,
        ids=batch.ids,
        labels=chosen.labels.of(batch.labels, len(batch), logits.shape[1]),
        predicted=passes[0].found.logits.argmax(1).cpu().numpy(),
        targets=explained.cpu().numpy(),
        logits=logits,
        sites=sites,
        end=batch.end,
    )


def _classes(model: LoadedModel) -> int:
    """Return the number of classes where it is known before a pass; else as many as fit."""
    return np.iinfo(np.int64).max if model.class_names is None else len(model.class_names)


def _site_batch(each: SitePass, without: Tensor) -> SiteBatch:
    found, mask = each.found, each.mask
    won = (found.activations != 0 if mask is None else mask).any(-1)
    contributions = found.values.sum(-1, dtype=torch.float64)
    error = found.target_logits - without - contributions.sum(-1)
    winner = won if mask is None else image_winners(found.activations, mask, each.site)
    return SiteBatch(
        contributions=contributions.cpu().numpy(),
        activations=found.activations.sum(-1, dtype=torch.float64).cpu().numpy(),
        won=won.cpu().numpy(),
        win_rate=None if mask is None else _share(mask).cpu().numpy(),
        image_winner=winner.cpu().numpy(),
        baselines=without.cpu().numpy(),
        completeness_error=error.cpu().numpy(),
    )


def _share(mask: Tensor) -> Tensor:
    return mask.sum(-1).double() / mask.shape[-1]


def _finite(what: str, values: Floats, ids: Sequence[str]) -> None:
    finite = np.isfinite(values).all(1)
    if not finite.all():
        raise InputError(
            f"{what} is NaN or infinite on image {ids[int((~finite).argmax())]!r}; check the "
            "weights and the preprocessing, or leave that image out"
        )
