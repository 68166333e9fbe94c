"""The head that reads from a text a distribution over the 1000 labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

__all__ = ["ClassHead", "HeadSettings", "HeadTexts", "fit_class_head"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeadSettings:
    """How the head is fitted.

    Attributes:
        hidden: Width of its hidden layer.
        epochs, batch_size, learning_rate, weight_decay, dropout: Of AdamW with a one-cycle rate.
        noise: Deviation of the noise added to every number of a unit vector.
        sharpness: Factors of the affinity in the softmaxes whose mean is the target: a low one
            spreads over kin, a high one singles out the label or the labels below a noun.
    """

    hidden: int = 512
    epochs: int = 8
    batch_size: int = 256
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    dropout: float = 0.3
    noise: float = 0.01
    sharpness: tuple[float, ...] = (15.0,)


@dataclass(frozen=True)
class HeadTexts:
    """What the head learns from.

    Attributes:
        vectors: ``(texts, 384)`` of MiniLM.
        nouns: ``(texts,)`` row of each text's noun in ``affinity``.
        weights: ``(texts,)`` weight of each text in the loss.
        affinity: ``(nouns, 1000)``.
    """

    vectors: FloatArray
    nouns: npt.NDArray[np.int64]
    weights: FloatArray
    affinity: FloatArray


@dataclass(frozen=True)
class ClassHead:
    """The fitted layers, as :class:`neuronym.vision_text.pocket.arrays.TextArrays` keeps them."""

    weight_in: FloatArray
    bias_in: FloatArray
    weight_out: FloatArray
    bias_out: FloatArray


def fit_class_head(
    texts: HeadTexts,
    settings: HeadSettings,
    *,
    seed: int,
    told: Callable[[float], None] | None = None,
) -> ClassHead:
    """Fit by cross-entropy against the mean of ``softmax(sharpness · affinity)``."""
    generator = torch.Generator().manual_seed(seed)
    vectors, weights = torch.from_numpy(texts.vectors), torch.from_numpy(texts.weights)
    nouns, affinity = torch.from_numpy(texts.nouns), torch.from_numpy(texts.affinity)
    first, second = two_layers(vectors.shape[1], settings.hidden, 1000, generator)
    parameters = [*first.parameters(), *second.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    batches = -(-len(vectors) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.epochs * batches + 1
    )
    for epoch in range(settings.epochs):
        if told is not None:
            told(epoch / settings.epochs)
        for rows in torch.randperm(len(vectors), generator=generator).split(settings.batch_size):
            x = vectors[rows]
            kin = affinity[nouns[rows]]
            target = torch.stack([(factor * kin).softmax(1) for factor in settings.sharpness])
            logits = second(hidden_layer(first, x, settings, generator))
            loss = -(target.mean(0) * logits.log_softmax(1)).sum(1)
            loss = (loss * weights[rows]).sum() / weights[rows].sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return ClassHead(*(layer_arrays(first)), *(layer_arrays(second)))


def two_layers(
    inputs: int, hidden: int, outputs: int, generator: torch.Generator
) -> tuple[nn.Linear, nn.Linear]:
    """Return two linear layers with weights drawn from ``generator`` and zero biases."""
    layers = (
        nn.Linear(inputs, hidden, device="meta").to_empty(device="cpu"),
        nn.Linear(hidden, outputs, device="meta").to_empty(device="cpu"),
    )
    for layer in layers:
        nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
        nn.init.zeros_(layer.bias)
    return layers


def hidden_layer(
    first: nn.Linear, x: Tensor, settings: HeadSettings, generator: torch.Generator
) -> Tensor:
    """Noise on the unit vectors, the first layer, GELU, and dropout from ``generator``."""
    noisy = x + settings.noise * torch.randn(x.shape, generator=generator)
    hidden = nn.functional.gelu(first(nn.functional.normalize(noisy, dim=1)))
    keep = torch.rand(hidden.shape, generator=generator) >= settings.dropout
    return hidden * keep / (1 - settings.dropout)


def layer_arrays(layer: nn.Linear) -> tuple[FloatArray, FloatArray]:
    """Return a layer's weight as (inputs, outputs), and its bias."""
    return layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy()
