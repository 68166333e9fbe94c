"""The reader of attributes in texts: for every group a value or none, and whether it is a thing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from neuronym.fit_pocket.class_head import (
    ClassHead,
    HeadSettings,
    hidden_layer,
    layer_arrays,
    two_layers,
)
from neuronym.fit_pocket.phrases import Phrase
from neuronym.probes.scenes import GROUPS

__all__ = ["READER", "fit_word_reader"]

FloatArray = npt.NDArray[np.float32]

READER = HeadSettings(
    hidden=128,
    epochs=8,
    batch_size=256,
    learning_rate=4e-3,
    weight_decay=2e-2,
    dropout=0.2,
    noise=0.01,
)


def fit_word_reader(
    texts: Sequence[Phrase], vectors: FloatArray, settings: HeadSettings = READER, *, seed: int
) -> ClassHead:
    """Fit by the sum of the groups' cross-entropies and that of "says a thing".

    Args:
        texts: What each text says.
        vectors: ``(texts, 384)`` of MiniLM.
        settings: As for the class head; ``sharpness`` is not used.
        seed: Of weights, order, noise and dropout.
    """
    generator = torch.Generator().manual_seed(seed)
    x_all, weights = torch.from_numpy(vectors), torch.tensor([text.weight for text in texts])
    thing = torch.tensor([float(text.thing) for text in texts])
    targets = _targets(texts)
    sizes = [len(values) + 1 for values in GROUPS.values()]
    first, second = two_layers(vectors.shape[1], settings.hidden, sum(sizes) + 1, generator)
    optimiser = torch.optim.AdamW(
        [*first.parameters(), *second.parameters()],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    batches = -(-len(texts) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.epochs * batches + 1
    )
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(texts), generator=generator).split(settings.batch_size):
            out = second(hidden_layer(first, x_all[rows], settings, generator))
            *groups, said = out.split([*sizes, 1], dim=1)
            loss = functional.binary_cross_entropy_with_logits(
                said[:, 0], thing[rows], reduction="none"
            )
            for logits, target in zip(groups, targets, strict=True):
                loss = loss + functional.cross_entropy(logits, target[rows], reduction="none")
            loss = (loss * weights[rows]).sum() / weights[rows].sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return ClassHead(*layer_arrays(first), *layer_arrays(second))


def _targets(texts: Sequence[Phrase]) -> list[Tensor]:
    """Per group the index of each text's value; the index after the last stands for none."""
    return [
        torch.tensor(
            [
                values.index(text.values[group]) if group in text.values else len(values)
                for text in texts
            ]
        )
        for group, values in GROUPS.items()
    ]
