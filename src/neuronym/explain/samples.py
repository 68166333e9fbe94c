"""How sure an explanation is: the same attribution with winners drawn at random."""

from __future__ import annotations

from collections.abc import Callable
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
        probabilities, logits: ``(samples, images)`` float64, of the explained class.
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
    attribute: Callable[[], tuple[Contributions, Tensor | None]],
    *,
    samples: int,
    seed: int,
) -> Samples:
    """Attribute ``samples`` times with random winners in every layer.

    Args:
        module: The competitive classifier; its modes and the random state are as before
            afterwards.
        attribute: Returns contributions to a fixed class, and the mask
            ``(images, units, positions)`` of the winners; at a dense site ``None``, where a unit
            that is not zero counts as one that won.
        samples: At least 2.
        seed: Of the draws.

    Raises:
        InputError: ``samples`` is below 2, or the model has no LWTA layer.
    """
    check_samples(samples)
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    mean = squares = wins = rate = torch.zeros(())
    with inference(module, "sample", relaxed=False), seeded(seed):
        for number in range(1, samples + 1):
            found, mask = attribute()
            won = found.activations != 0 if mask is None else mask
            rows.append(_of_class(found))
            contribution = found.per_unit
            change = contribution - mean
            mean = mean + change / number
            squares = squares + change * (contribution - mean)
            wins = wins + won.any(-1).double()
            rate = rate + won.double().mean(-1)
    probabilities, logits, predicted = (torch.stack(part) for part in zip(*rows, strict=True))
    spread = (squares / (samples - 1)).sqrt()
    return Samples(
        samples,
        seed,
        probabilities,
        logits,
        predicted,
        mean,
        spread,
        wins / samples,
        rate / samples,
    )


def _of_class(found: Contributions) -> tuple[Tensor, Tensor, Tensor]:
    logits = found.logits.double()
    probability = logits.softmax(1).gather(1, found.targets[:, None])[:, 0]
    return probability, found.target_logits, logits.argmax(1) == found.targets
