"""Temperature schedules fire at every step."""

from __future__ import annotations

import itertools
import math

import pytest
from torch import nn

from neuronym.errors import InputError, UnknownNameError
from neuronym.lwta import LWTA, set_temperature
from neuronym.lwta.schedules import SCHEDULES, schedule


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"constant"}))
def test_every_step_lowers_the_temperature(name: str) -> None:
    """A schedule that waits for some condition on the step (and never meets it) fails here."""
    at = schedule(name, start=1.0, end=0.1, steps=20)
    net = nn.Sequential(nn.Linear(2, 4), LWTA(2), LWTA(4))
    seen = []
    for step in range(20):
        assert set_temperature(net, at(step)) == 2
        seen.append(net[1].temperature)
    assert seen[0] == pytest.approx(1.0)
    assert seen[-1] == pytest.approx(0.1)
    assert all(later < earlier for earlier, later in itertools.pairwise(seen))
    assert at(1000) == at(19)


def test_the_shapes() -> None:
    assert schedule("constant", start=0.5, end=0.1, steps=9)(4) == 0.5
    assert schedule("linear", start=1.0, end=0.2, steps=5)(2) == pytest.approx(0.6)
    assert schedule("exponential", start=1.0, end=0.01, steps=5)(2) == pytest.approx(0.1)
    quarter = 0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2
    assert schedule("cosine", start=1.0, end=0.2, steps=5)(1) == pytest.approx(quarter)
    assert schedule("linear", start=0.3, steps=1)(0) == 0.3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "linaer", "steps": 2}, UnknownNameError, "Did you mean 'linear'"),
        ({"name": "linear", "end": 0.0, "steps": 2}, InputError, "above 0, not 0.0"),
        ({"name": "cosine", "start": -1, "steps": 2}, InputError, "above 0, not -1"),
        ({"name": "constant", "steps": 0}, InputError, "steps at least 1, not 0 and 0"),
    ],
)
def test_bad_input(arguments: dict, error: type[Exception], message: str) -> None:
    name = arguments.pop("name")
    with pytest.raises(error) as caught:
        schedule(name, **arguments)
    assert message in str(caught.value)
    with pytest.raises(InputError, match="step must be at least 0"):
        schedule("linear", end=0.1, steps=3)(-1)
