"""Temperature schedules: plain functions from a step (or epoch) to τ."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from neuronym.errors import InputError, unknown
from neuronym.lwta.functional import DEFAULT_TEMPERATURE, check_temperature
from neuronym.lwta.module import lwta_modules

__all__ = [
    "SCHEDULES",
    "constant",
    "cosine",
    "exponential",
    "linear",
    "schedule",
    "set_temperature",
]

Schedule = Callable[[int], float]


def constant(step: int, *, start: float = DEFAULT_TEMPERATURE, end: float, steps: int) -> float:
    """Return ``start`` at every step."""
    _progress(step, steps)
    check_temperature(end)
    return check_temperature(start)


def linear(step: int, *, start: float = DEFAULT_TEMPERATURE, end: float, steps: int) -> float:
    """Go from ``start`` at step 0 to ``end`` at the last step, by equal differences."""
    start, end = check_temperature(start), check_temperature(end)
    return start + (end - start) * _progress(step, steps)


def exponential(step: int, *, start: float = DEFAULT_TEMPERATURE, end: float, steps: int) -> float:
    """Go from ``start`` at step 0 to ``end`` at the last step, by equal ratios."""
    start, end = check_temperature(start), check_temperature(end)
    return start * math.pow(end / start, _progress(step, steps))


def cosine(step: int, *, start: float = DEFAULT_TEMPERATURE, end: float, steps: int) -> float:
    """Go from ``start`` at step 0 to ``end`` at the last step, along half a cosine."""
    start, end = check_temperature(start), check_temperature(end)
    return end + (start - end) * (1 + math.cos(math.pi * _progress(step, steps))) / 2


def _progress(step: int, steps: int) -> float:
    """Return how far ``step`` of ``0 … steps - 1`` is, from 0 to 1; later steps count as last."""
    if steps < 1 or step < 0:
        raise InputError(f"step must be at least 0 and steps at least 1, not {step} and {steps}")
    return 1.0 if steps == 1 else min(step, steps - 1) / (steps - 1)


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "linear": linear,
    "exponential": exponential,
    "cosine": cosine,
}


def schedule(
    name: str, *, start: float = DEFAULT_TEMPERATURE, end: float | None = None, steps: int
) -> Schedule:
    """Return the function step → τ of a named schedule.

    Args:
        name: A key of :data:`SCHEDULES`.
        start: τ at step 0.
        end: τ at step ``steps - 1`` and later; ``start`` by default.
        steps: Number of steps, at least 1.

    Raises:
        UnknownNameError: There is no such schedule.
        InputError: A temperature is not above zero, or ``steps`` is below 1.
    """
    if name not in SCHEDULES:
        raise unknown("temperature schedule", name, list(SCHEDULES))
    function = SCHEDULES[name]
    last = start if end is None else end
    function(0, start=start, end=last, steps=steps)  # refuse bad values now, not in training

    def at(step: int) -> float:
        return function(step, start=start, end=last, steps=steps)

    return at


def set_temperature(model: nn.Module, temperature: float) -> int:
    """Set τ of every LWTA module of ``model``; return how many there are.

    Raises:
        InputError: The temperature is not above zero, or the model has no LWTA module.
    """
    value = check_temperature(temperature)
    modules = lwta_modules(model).values()
    if not modules:
        raise InputError("the model has no LWTA module: no temperature to set")
    for module in modules:
        module.temperature = value
    return len(modules)
