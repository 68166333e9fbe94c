"""The straight-through gradient against the exact expectation's, for small U."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from neuronym.errors import InputError
from neuronym.lwta.bias import exact_gradient, straight_through_bias
from reference import lwta as literal


def problem(competitors: int, blocks: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(competitors)
    z = torch.randn(blocks * competitors, generator=g, dtype=torch.float64)
    w = torch.randn(blocks * competitors, 4, generator=g, dtype=torch.float64)
    return z, w


@pytest.mark.parametrize(("competitors", "blocks"), [(2, 3), (3, 2), (4, 2)])
def test_exact_gradient_is_the_literal_one(competitors: int, blocks: int) -> None:
    z, w = problem(competitors, blocks)

    def one(y: Tensor) -> Tensor:
        return -torch.log_softmax(y @ w, -1)[..., 0]

    leaf = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(literal.expectation(leaf, competitors, one), leaf)
    found = exact_gradient(z, one, competitors=competitors)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_exact_gradient_stays_on_the_device_of_its_input() -> None:
    z, w = problem(2, 3)
    with torch.device("meta"):  # where tensors are made whose device nobody names
        found = exact_gradient(z, lambda y: (y @ w)[:, 0], competitors=2)
    assert found.device == z.device
    assert torch.equal(found, exact_gradient(z, lambda y: (y @ w)[:, 0], competitors=2))


@pytest.mark.parametrize(("competitors", "blocks"), [(2, 3), (4, 2)])
def test_bias_is_finite_measured_and_shrinks_with_the_temperature(
    competitors: int, blocks: int
) -> None:
    z, w = problem(competitors, blocks)
    found = {
        temperature: straight_through_bias(
            z,
            lambda y: -torch.log_softmax(y @ w, -1)[:, 0],
            competitors=competitors,
            temperature=temperature,
            samples=20_000,
            generator=torch.Generator().manual_seed(1),
        )
        for temperature in (0.2, 0.67, 3.0)
    }
    assert all(math.isfinite(bias.relative) for bias in found.values())
    assert found[3.0].relative > 5 * found[3.0].standard_error  # it is biased
    assert found[0.2].relative < found[3.0].relative
    assert found[0.67].cosine > 0.9


@pytest.mark.parametrize(
    ("z", "keywords", "message"),
    [
        (torch.zeros(2, 4), {"competitors": 2}, "one position, (K,), not of shape (2, 4)"),
        (torch.zeros(26), {"competitors": 2}, "13 blocks of 2 have 8192 outcomes; at most 4096"),
        (torch.zeros(4), {"competitors": 2, "samples": 1}, "samples must be at least 2, not 1"),
    ],
)
def test_bad_input(z: Tensor, keywords: dict[str, int], message: str) -> None:
    with pytest.raises(InputError) as caught:
        straight_through_bias(z, lambda y: y.sum(1), **keywords)  # type: ignore[arg-type]
    assert message in str(caught.value)
