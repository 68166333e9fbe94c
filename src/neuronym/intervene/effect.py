"""The effect of an edit on single images, and on accuracy over a data set."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax

from neuronym._version import __version__
from neuronym.devices import device_of
from neuronym.errors import InputError
from neuronym.intervene.paired import paired_change
from neuronym.models import Edit, LoadedModel, applied, check_made_from, make_edit
from neuronym.models.editing import Changes, as_edit
from neuronym.models.labels import Labels
from neuronym.modes import evaluation
from neuronym.probes import Batch, ImageLike, ProbeSet, batches, from_images, picture_of
from neuronym.results import AccuracyChange, ClassChange, EffectReport, Flip, ImageEffect

__all__ = ["EffectOptions", "effect"]

Floats = npt.NDArray[np.float64]
_INPUT = "input"


@dataclass(frozen=True)
class EffectOptions:
    """How an effect is measured.

    Attributes:
        batch_size: Images in one pass.
        workers: Threads that decode images; ``None`` takes one per processor, at most 4.
        largest: How many images of a data set are shown, those with the largest shift.
        classes: How many of the most probable classes, before and after, an image shows.
        progress: Called as ``(images done, all or None, note)`` after each batch.
    """

    batch_size: int = 64
    workers: int | None = None
    largest: int = 10
    classes: int = 3
    progress: Callable[[int, int | None, str], None] | None = None

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("largest", 0), ("classes", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, not {getattr(self, name)}")


def effect(
    model: LoadedModel,
    edit: Changes,
    *,
    images: Sequence[ImageLike] | None = None,
    probes: ProbeSet | None = None,
    options: EffectOptions | None = None,
) -> EffectReport:
    """Compare a model's predictions before and after an edit, on the same decoded images.

    Each batch is decoded and transformed once and runs through the model twice, without the edit
    and with it. Only counts and the few images that are shown are kept, whatever the number of
    images. The model is as before afterwards.

    Args:
        model: The model, not edited.
        edit: An edit of it, or changes.
        images: PIL images or paths; each is shown, in this order.
        probes: A data set instead: accuracy where it has labels, flips, the largest changes.
            Labels and classes meet by name where both have names, else by index.
        options: See :class:`EffectOptions`.

    Raises:
        InputError: Not exactly one of ``images`` and ``probes`` is given, the edit does not fit
            (:func:`neuronym.models.make_edit`), or logits are not finite.
        UnreadableError: One of ``images`` is broken. Broken images of a data set are left out.
    """
    options = options or EffectOptions()
    if (images is None) == (probes is None):
        raise InputError("effect needs images or probes, one of the two")
    given = as_edit(edit)
    check_made_from(model, given.provenance, what="the edit")
    made = make_edit(model, given.changes)
    if probes is None:
        if not images:
            raise InputError("no image to run")
        named = [picture_of(image, name=f"image {at}") for at, image in enumerate(images)]
        names, shown = [name for name, _ in named], len(named)
        probes = from_images([picture for _, picture in named], name="images")
    else:
        names, shown = None, options.largest
    tally = _Tally(model, probes, shown, options.classes)
    stream = batches(
        probes,
        batch_size=options.batch_size,
        workers=options.workers,
        prepare={_INPUT: model.transform},
    )
    with stream:
        for batch in stream:
            before, after = _both(model, made, batch)
            tally.add(batch, before, after)
            if options.progress is not None:
                options.progress(stream.end, stream.total, "")
    skipped = {each.id: each.reason for each in stream.skipped}
    return tally.report(made, skipped, names)


def _both(model: LoadedModel, edit: Edit, batch: Batch) -> tuple[Floats, Floats]:
    """Return the logits ``(images, classes)`` without the edit and with it."""
    inputs = torch.stack(batch.prepared[_INPUT]).to(device_of(model.module))
    with evaluation(model.module), torch.no_grad():
        before = model.module(inputs)
        with applied(model, edit):
            after = model.module(inputs)
    found = [logits.double().cpu().numpy() for logits in (before, after)]
    for logits, when in zip(found, ("before", "after"), strict=True):
        wrong = ~np.isfinite(logits).all(1)
        if wrong.any():
            name = batch.ids[int(wrong.argmax())]
            raise InputError(f"the logits of image {name!r} {when} the edit are not finite")
    return found[0], found[1]


@dataclass(order=True)
class _Shown:
    shift: float
    minus_key: int
    effect: ImageEffect = field(compare=False)


class _Tally:
    """Counts what an edit changes, and keeps the images that it changes most."""

    def __init__(self, model: LoadedModel, probes: ProbeSet, shown: int, classes: int) -> None:
        self.model, self.probes = model, probes
        self.labels = Labels.between(probes.label_names, model.class_names)
        self.shown, self.listed = shown, classes
        self.images, self.shift = 0, 0.0
        self.flips: Counter[tuple[int, int]] = Counter()
        self.cells: Counter[tuple[int, bool, bool]] = Counter()  # class, right before, right after
        self.heap: list[_Shown] = []

    def add(self, batch: Batch, before: Floats, after: Floats) -> None:
        """Count one batch of logits ``(images, classes)``."""
        chances = softmax(before, axis=1), softmax(after, axis=1)
        shifts = np.abs(chances[1] - chances[0]).sum(1) / 2
        predicted = before.argmax(1), after.argmax(1)
        labels = self.labels.of(batch.labels, len(batch), before.shape[1])
        self.images += len(batch)
        self.shift += float(shifts.sum())
        for row, (old, new) in enumerate(zip(*predicted, strict=True)):
            label = int(labels[row])
            if old != new:
                self.flips[int(old), int(new)] += 1
            if label >= 0:
                self.cells[label, bool(old == label), bool(new == label)] += 1
            place = _Shown(float(shifts[row]), -int(batch.indices[row]), _NOTHING)
            if len(self.heap) < self.shown or (self.heap and place > self.heap[0]):
                logits, chance = (before[row], after[row]), (chances[0][row], chances[1][row])
                place.effect = self._image(batch.ids[row], label, logits, chance, place.shift)
                push = heapq.heappush if len(self.heap) < self.shown else heapq.heapreplace
                push(self.heap, place)

    def name(self, index: int) -> str:
        """Return the name of a class."""
        names = self.model.class_names
        return names[index] if names else f"class {index}"

    def _image(
        self,
        name: str,
        label: int,
        logits: tuple[Floats, Floats],
        chances: tuple[Floats, Floats],
        shift: float,
    ) -> ImageEffect:
        best = [np.argsort(-each, kind="stable")[: self.listed].tolist() for each in logits]
        changes = [
            ClassChange(
                index=index,
                name=self.name(index),
                logit_before=float(logits[0][index]),
                logit_after=float(logits[1][index]),
                probability_before=float(chances[0][index]),
                probability_after=float(chances[1][index]),
            )
            for index in dict.fromkeys([*best[0], *best[1]])
        ]
        return ImageEffect(
            id=name,
            label=None if label < 0 else self.name(label),
            before=self.name(best[0][0]),
            after=self.name(best[1][0]),
            shift=shift,
            classes=tuple(changes),
        )

    def report(
        self, edit: Edit, skipped: dict[str, str], names: Sequence[str] | None
    ) -> EffectReport:
        """Return what was counted; ``names`` are those of images that were given one by one."""
        if names is None:
            shown = [each.effect for each in sorted(self.heap, reverse=True)]
        else:
            ordered = sorted(self.heap, key=lambda each: -each.minus_key)
            shown = [_renamed(each.effect, names[-each.minus_key]) for each in ordered]
        labels = sorted({label for label, _, _ in self.cells})
        rows = tuple(self._accuracy(self.name(label), (label,)) for label in labels)
        provenance: dict[str, Any] = {
            "neuronym": __version__,
            "torch": torch.__version__,
            "model": {"spec": self.model.spec, "fingerprint": self.model.fingerprint},
        }
        if names is None:
            provenance["images"] = {
                "spec": self.probes.name,
                "fingerprint": self.probes.fingerprint,
            }
        return EffectReport(
            edit=edit.to_dict(),
            images=self.images,
            skipped=skipped,
            flips=tuple(
                Flip(self.name(old), self.name(new), count)
                for (old, new), count in sorted(
                    self.flips.items(), key=lambda each: (-each[1], each[0])
                )
            ),
            mean_shift=self.shift / max(1, self.images),
            accuracy=self._accuracy("all", tuple(labels)) if labels else None,
            per_class=rows,
            shown=tuple(shown),
            provenance=provenance,
        )

    def _accuracy(self, name: str, labels: Sequence[int]) -> AccuracyChange:
        cell = {
            (old, new): sum(self.cells[label, old, new] for label in labels)
            for old in (False, True)
            for new in (False, True)
        }
        images = sum(cell.values())
        gained, lost, kept = cell[False, True], cell[True, False], cell[True, True]
        change = paired_change(gained, lost, images)
        return AccuracyChange(
            name=name,
            images=images,
            before=(kept + lost) / images,
            after=(kept + gained) / images,
            difference=(gained - lost) / images,
            interval=change.interval,
            gained=gained,
            lost=lost,
            p_value=change.p_value,
        )


_NOTHING = ImageEffect("", None, "", "", math.nan, ())


def _renamed(shown: ImageEffect, name: str) -> ImageEffect:
    return ImageEffect(name, shown.label, shown.before, shown.after, shown.shift, shown.classes)
