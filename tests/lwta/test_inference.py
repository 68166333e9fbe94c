"""The modes of inference, predictions by samples, and bad activations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuronym.errors import InputError, UnknownNameError
from neuronym.lwta import (
    LWTA,
    functional,
    inference,
    lwta_modules,
    predict_samples,
    sampling,
    trace,
)
from reference import lwta as literal


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(6, 24), LWTA(8), nn.Linear(24, 12), LWTA(4), nn.Linear(12, 3))
    with torch.no_grad():
        for number, weight in enumerate(net.parameters()):
            weight.copy_(noise(*weight.shape, seed=number) * 0.5)
    return net.eval()


X = noise(5, 6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_expectation_is_the_literal_one(dtype: torch.dtype) -> None:
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.03}.get(dtype, 3e-3)
    z = 2 * noise(7, 24)
    right = literal.expected(z.to(dtype).double().numpy(), 8)
    found = functional.expected(z.to(dtype), 8)
    assert found.dtype == dtype
    assert np.abs(found.double().numpy() - right).max() < tolerance
    maps = z.view(1, 7, 24).permute(0, 2, 1).unflatten(2, (7, 1)).to(dtype)
    over = functional.expected(maps, 8, channel_dim=1)
    assert np.abs(over[0, :, :, 0].t().double().numpy() - right).max() < tolerance


def test_the_expectation_is_the_mean_of_the_samples() -> None:
    z = noise(1, 24).expand(20_000, 24)
    mean = functional.compete(z, 8, generator=torch.Generator().manual_seed(2)).mean(0)
    assert torch.allclose(mean, functional.expected(z[0], 8), atol=0.03)


def test_gradient_of_the_expectation() -> None:
    z = noise(2, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: functional.expected(v, 3), z)


def test_one_function_sets_the_mode_and_undoes_it() -> None:
    net = network()
    by_hand = functional.expected(net[0](X), 8)
    by_hand = net[4](functional.expected(net[2](by_hand), 4))
    with inference(net, "expected") as same:
        assert same is net
        assert torch.equal(net(X), by_hand)
        net.train()
        assert torch.equal(net(X), by_hand)
    with inference(net, "argmax"):
        y = net(X)  # in training too
    assert torch.equal(y, net.eval()(X))
    with inference(net, "sample", relaxed=False):
        assert not torch.equal(net(X), net(X))
        assert not net[1].relaxed
    with pytest.raises(RuntimeError, match="inside"), inference(net, "sample", relaxed=False):
        raise RuntimeError("inside")
    assert {(m.mode, m.relaxed) for m in lwta_modules(net).values()} == {("auto", True)}
    with pytest.raises(UnknownNameError, match="known: argmax, sample, expected"):
        inference(net, "mean").__enter__()
    with pytest.raises(InputError, match="no LWTA module: nothing to set"):
        inference(nn.Linear(2, 2), "expected").__enter__()


def test_a_trace_of_the_expectation_names_the_most_probable_units() -> None:
    net = network()
    with (
        torch.no_grad(),
        inference(net, "expected"),
        trace(net, keep=("winners", "kl")) as record,
    ):
        net(X)
    z = net[0](X)
    assert not record[0].sampled
    assert torch.equal(record[0].winners, functional.winners(z, 8))
    q = literal.probabilities(z.detach().double().numpy(), 8)
    assert record[0].kl is not None
    assert float(record[0].kl) == pytest.approx(float((q * np.log(8 * q)).sum()), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fixed_winners_have_the_gradient_of_a_mask(dtype: torch.dtype) -> None:
    for z, dimension in ((noise(9, 24), -1), (noise(2, 24, 9, 9), 1)):
        leaf = z.to(dtype).requires_grad_()
        layer = LWTA(8, dimension, mode="sample")
        layer.relaxed = False
        with trace(layer, keep="winners") as record:
            y = layer(leaf)
        upstream = noise(*z.shape, seed=4).to(dtype)
        (found,) = torch.autograd.grad(y, leaf, upstream)
        assert torch.equal(found, upstream * record[0].mask)


def test_mean_and_spread_are_those_of_the_samples() -> None:
    net = network().train()
    state = torch.get_rng_state()
    found = predict_samples(net, X, samples=6, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    assert net.training
    net.eval()
    torch.manual_seed(3)
    with sampling(net), torch.no_grad():
        each = torch.stack([net(X).double() for _ in range(6)])
    torch.set_rng_state(state)
    assert torch.allclose(found.mean, each.mean(0).float())
    assert torch.allclose(found.spread, each.std(0).float())
    assert (found.samples, found.seed) == (6, 3)
    again = predict_samples(net, (X,), samples=6, seed=3)
    assert torch.equal(again.mean, found.mean)
    other = predict_samples(net, X, samples=6, seed=4)
    assert not torch.equal(other.mean, found.mean)
    shares = predict_samples(net, X, samples=6, of=lambda y: y.softmax(-1))
    assert torch.allclose(shares.mean.sum(-1), torch.ones(5))
    assert bool((shares.spread > 0).all())


def test_no_spread_where_nothing_is_uncertain() -> None:
    net = nn.Sequential(nn.Linear(6, 24), LWTA(8)).eval()
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(-1000.0)
        net[0].bias[::8] = 50.0  # the first of each block always wins
    found = predict_samples(net, X, samples=4)
    assert torch.equal(found.spread, torch.zeros(5, 24))
    assert torch.equal(found.mean, net(X).detach())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 1}, "samples must be an int of at least 2, not 1"),
        ({"samples": True}, "samples must be an int of at least 2, not True"),
        ({"samples": 2, "seed": -1}, "seed must be an int of at least 0, not -1"),
        ({"samples": 2, "seed": 0.5}, "seed must be an int of at least 0, not 0.5"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        predict_samples(network(), X, **arguments)


def test_models_without_a_single_tensor_or_competition() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = LWTA(2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.layer(x), x

    with pytest.raises(InputError, match="must return a tensor, not tuple"):
        predict_samples(Pair(), X, samples=2)
    with pytest.raises(InputError, match="nothing to sample"):
        predict_samples(nn.Linear(6, 2), X, samples=2)
