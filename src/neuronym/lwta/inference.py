"""How a competitive model answers: by its largest units, by random ones, or by their mean."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from neuronym.errors import InputError, unknown
from neuronym.lwta.module import lwta_modules
from neuronym.modes import evaluation

__all__ = ["INFERENCE_MODES", "Prediction", "inference", "predict_samples", "sampling"]

INFERENCE_MODES = ("argmax", "sample", "expected")
Inputs: TypeAlias = Tensor | tuple[Tensor, ...]


@contextlib.contextmanager
def inference(model: nn.Module, mode: str, *, relaxed: bool = True) -> Iterator[nn.Module]:
    """Let every LWTA module of ``model`` work in one mode inside the block; then undo it.

    The mode rules in training and in evaluation alike; whether dropout and normalisation are in
    training is left alone.

    Args:
        model: Any module that contains LWTA modules.
        mode: ``"argmax"``: the largest unit wins. ``"sample"``: winners are drawn.
            ``"expected"``: each layer passes the expectation of its output, ``q·z``; no unit is
            zero then. It is the exact expectation of one layer, not of a network of several.
        relaxed: Whether gradients of samples are the straight-through ones; ``False`` takes the
            drawn winners as fixed, as an attribution must.

    Raises:
        InputError: ``model`` has no LWTA module.
        UnknownNameError: There is no such mode.
    """
    if mode not in INFERENCE_MODES:
        raise unknown("inference mode", mode, INFERENCE_MODES)
    modules = list(lwta_modules(model).values())
    if not modules:
        doing = "sample" if mode == "sample" else "set"
        raise InputError(f"the model has no LWTA module: nothing to {doing}")
    before = [(module, module.mode, module.relaxed) for module in modules]
    try:
        for module in modules:
            module.mode, module.relaxed = mode, relaxed
        yield model
    finally:
        for module, earlier, gradient in before:
            module.mode, module.relaxed = earlier, gradient


@contextlib.contextmanager
def sampling(model: nn.Module) -> Iterator[nn.Module]:
    """Draw the winners at random inside the block, in evaluation too; then undo it.

    Raises:
        InputError: ``model`` has no LWTA module.
    """
    with inference(model, "sample"):
        yield model


@dataclass(frozen=True, eq=False)
class Prediction:
    """Mean and spread of a model's outputs over random winners.

    Attributes:
        mean: Shaped like the output, at least float32.
        spread: Standard deviation over the samples (divided by S − 1), shaped like the output.
        samples: S.
        seed: Of the samples.
    """

    mean: Tensor
    spread: Tensor
    samples: int
    seed: int


@torch.no_grad()
def predict_samples(
    model: nn.Module,
    inputs: Inputs,
    *,
    samples: int,
    seed: int = 0,
    of: Callable[[Tensor], Tensor] | None = None,
) -> Prediction:
    """Run a model in evaluation mode with ``samples`` draws of its winners.

    Each run draws new winners in every layer, at every position, for every image. Only running
    sums are kept, so that memory does not grow with the number of samples. The model's modes and
    torch's random state are as before afterwards.

    Args:
        model: A competitive model that returns one tensor.
        inputs: One tensor, or a tuple of positional arguments.
        samples: S, at least 2.
        seed: Of the samples: the same seed gives the same samples, whatever the number of threads.
        of: Applied to each output before mean and spread, such as ``lambda y: y.softmax(-1)`` for
            probabilities in place of logits.

    Raises:
        InputError: ``samples`` is below 2, the model has no LWTA module, or it does not return a
            tensor.
    """
    check_samples(samples)
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    mean, squares = torch.zeros(()), torch.zeros(())
    with evaluation(model), inference(model, "sample"), seeded(seed):
        for number in range(1, samples + 1):
            output = model(*arguments)
            if not isinstance(output, Tensor):
                raise InputError(f"the model must return a tensor, not {type(output).__name__}")
            value = output if of is None else of(output)
            value = value.double()
            if number == 1:
                mean, squares = torch.zeros_like(value), torch.zeros_like(value)
            change = value - mean
            mean = mean + change / number
            squares = squares + change * (value - mean)
    dtype = output.dtype if output.dtype == torch.float64 else torch.float32
    spread = (squares / (samples - 1)).sqrt()
    return Prediction(mean.to(dtype), spread.to(dtype), samples, seed)


def check_samples(samples: int) -> int:
    """Return ``samples`` if it is an int of at least 2.

    Raises:
        InputError: It is not; one sample has no spread.
    """
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
        raise InputError(f"samples must be an int of at least 2, not {samples!r}")
    return samples


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the generator that LWTA modules draw their keys from; put its state back afterwards.

    Raises:
        InputError: ``seed`` is not an int of at least 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed must be an int of at least 0, not {seed!r}")
    before = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(before)
