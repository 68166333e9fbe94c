"""How sure an explanation is: the same attribution with winners drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuronym.explain.contributions import Contributions
from neuronym.lwta.inference import check_samples, inference, seeded
from neuronym.results import SampleSummary

__all__ = ["Samples", "draw"]


@dataclass(frozen=True)
class Samples:
    """What was seen over the samples, per image.

    Attributes:
        samples, seed: How many, and their seed.
        probabilities: ``(samples, images)`` float64, of the explained class.
        logits: ``(samples, images)`` float64, what is explained: its logit, or the difference.
        predicted: ``(samples, images)`` bool, whether it was the most probable class.
        contribution_mean, contribution_spread: ``(images, units)`` float64, in logits.
        wins: ``(images, units)``, share of the samples in which the unit won somewhere.
        win_rate: ``(images, units)``, share of positions won, averaged over the samples.
    """

    samples: int
    seed: int
    probabilities: Tensor
    logits: Tensor
    predicted: Tensor
    contribution_mean: Tensor
    contribution_spread: Tensor
    wins: Tensor
    win_rate: Tensor

    def summary(self, row: int) -> SampleSummary:
        """Return what concerns the class of one image."""
        probabilities, logits = self.probabilities[:, row], self.logits[:, row]
        return SampleSummary(
            samples=self.samples,
            seed=self.seed,
            probability_mean=float(probabilities.mean()),
            probability_spread=float(probabilities.std()),
            logit_mean=float(logits.mean()),
            logit_spread=float(logits.std()),
            predicted=float(self.predicted[:, row].double().mean()),
        )


def draw(
    module: nn.Module,
    attribute: Callable[[], Sequence[tuple[Contributions, Tensor | None]]],
    *,
    samples: int,
    seed: int,
) -> list[Samples]:
    """Attribute ``samples`` times with random winners in every layer.

    Args:
        module: The competitive classifier; its modes and the random state are as before
            afterwards.
        attribute: Returns for each site the contributions to a fixed class, and the mask
            ``(images, units, positions)`` of the winners; at a dense site ``None``, where a unit
            that is not zero counts as one that won.
        samples: At least 2.
        seed: Of the draws.

    Returns:
        What was seen, per site.

    Raises:
        InputError: ``samples`` is below 2, or the model has no LWTA layer.
    """
    check_samples(samples)
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    running: list[_Running] = []
    with inference(module, "sample", relaxed=False), seeded(seed):
        for _ in range(samples):
            found = attribute()
            running = running or [_Running() for _ in found]
            for each, (contributions, mask) in zip(running, found, strict=True):
                each.add(contributions, mask)
            rows.append(_of_class(found[0][0]))
    probabilities, logits, predicted = (torch.stack(part) for part in zip(*rows, strict=True))
    return [
        Samples(
            samples,
            seed,
            probabilities,
            logits,
            predicted,
            each.mean,
            (each.squares / (samples - 1)).sqrt(),
            each.wins / samples,
            each.rate / samples,
        )
        for each in running
    ]


class _Running:
    """Mean and squared deviations of contributions (Welford), and how often units won."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = self.wins = self.rate = torch.zeros(())

    def add(self, found: Contributions, mask: Tensor | None) -> None:
        won = found.activations != 0 if mask is None else mask
        contribution = found.per_unit
        self.count += 1
        change = contribution - self.mean
        self.mean = self.mean + change / self.count
        self.squares = self.squares + change * (contribution - self.mean)
        self.wins = self.wins + won.any(-1).double()
        self.rate = self.rate + won.double().mean(-1)


def _of_class(found: Contributions) -> tuple[Tensor, Tensor, Tensor]:
    logits = found.logits.double()
    probability = logits.softmax(1).gather(1, found.targets[:, None])[:, 0]
    return probability, found.target_logits, logits.argmax(1) == found.targets
