"""From dense to competitive: exact at both ends, the formula between, nothing left over."""

from __future__ import annotations

import copy
import math

import pytest
import timm
import torch
from torch import Tensor, nn

from neuronym.errors import InputError, UnknownNameError
from neuronym.lwta import LWTA, convert, gradual, kl_to_uniform, lwta_modules, trace

X = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))


def net(activation: nn.Module) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(12, 24),
        activation,
        nn.Dropout(0.2),
        nn.Linear(24, 8),
        activation,
        nn.Linear(8, 3),
    )


@pytest.mark.parametrize(
    "activation", [nn.ReLU(inplace=True), nn.GELU(), nn.Hardswish(inplace=True), nn.SiLU()]
)
def test_it_begins_as_the_dense_network(activation: nn.Module) -> None:
    dense = net(activation).eval()
    soft, report = gradual.begin(dense, 4, example=X)
    assert list(soft.state_dict()) == list(dense.state_dict())
    assert [site.name for site in report.replaced] == ["1"]
    assert soft[1] is soft[4]
    with torch.no_grad():
        assert torch.equal(soft(X), dense(X))
    dense.train()
    soft.train()
    for network in (dense, soft):
        network.zero_grad()
        torch.manual_seed(5)  # the dropout
        network(X).square().sum().backward()
    for mine, theirs in zip(soft.parameters(), dense.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
def test_real_architectures_begin_as_they_were(name: str) -> None:
    torch.manual_seed(0)
    dense = timm.create_model(name, num_classes=5).eval()
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(2))
    soft, _ = gradual.begin(dense, 2)
    assert len(lwta_modules(soft)) >= 2
    with torch.no_grad():
        assert torch.equal(soft(images), dense(images))
        gradual.set_share(soft, 1.0)
        hard, _ = convert(dense, 2)
        assert torch.equal(soft(images), hard(images))


def test_it_ends_as_the_competitive_network() -> None:
    dense = net(nn.GELU())
    hard, _ = convert(dense, 4, example=X)
    soft, _ = gradual.begin(dense, 4, example=X)
    soft[1].temperature = 1.5
    assert gradual.set_share(soft, 1.0) == 1
    torch.manual_seed(3)
    sampled = soft(X)
    torch.manual_seed(3)
    assert torch.equal(sampled, hard(X))
    done = gradual.finish(soft)
    assert done is soft
    assert [type(part) for part in done.modules()] == [type(part) for part in hard.modules()]
    assert list(done.state_dict()) == list(dense.state_dict())
    assert done[1] is done[4]
    assert done[1].temperature == 1.5
    assert done[1].training
    with torch.no_grad():
        assert torch.equal(done.eval()(X), hard.eval()(X))


def test_between_it_is_the_formula_with_its_gradient() -> None:
    z = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    module = gradual.GradualLWTA(nn.ReLU(inplace=True), 4, share=0.3)
    first, second = z.clone().requires_grad_(), z.clone().requires_grad_()
    torch.manual_seed(7)
    found = module(first)
    torch.manual_seed(7)
    expected = 0.7 * second.clamp(min=0) + 0.3 * LWTA(4).train()(second)
    assert torch.equal(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(first.grad, second.grad)
    losers = module.eval()(z) - 0.7 * z.clamp(min=0)
    assert ((losers != 0).view(6, 2, 4).sum(2) == 1).all()


def test_a_trace_sees_the_competition_from_the_beginning() -> None:
    soft, _ = gradual.begin(net(nn.ReLU()), 4, example=X)
    with trace(soft, keep=["kl", "winners"]) as record:
        soft(X)
    assert len(record) == 2
    assert kl_to_uniform(record).item() > 0
    assert record[0].winners.shape == (4, 6)


def test_a_copy_and_a_second_conversion() -> None:
    soft, _ = gradual.begin(net(nn.ReLU()), 4, example=X)
    gradual.set_share(soft, 0.5)
    other = copy.deepcopy(soft)
    assert other[1].share == 0.5
    assert other[1].activation is not soft[1].activation
    again, report = convert(soft, 4, example=X)
    assert report.replaced == ()
    assert isinstance(again[1], gradual.GradualLWTA)
    root, _ = gradual.begin(nn.ReLU(), 4, example=X, channel_dims={"": -1})
    assert torch.equal(root(X), X.clamp(min=0))
    assert type(gradual.finish(root)) is LWTA


def test_random_activations_follow_the_mode() -> None:
    soft, _ = gradual.begin(net(nn.RReLU(0.1, 0.9)), 4, example=X)
    soft.eval()
    assert torch.equal(soft(X), soft(X))
    soft.train()
    assert soft[1].activation.training


def test_the_share_by_hand() -> None:
    assert [gradual.share_at(step, steps=4) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert gradual.share_at(0, steps=0) == 1
    quarter = gradual.share_at(1, steps=4, shape="cosine")
    assert quarter == pytest.approx((1 - math.cos(math.pi / 4)) / 2)


class Weighted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.slope


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda: gradual.share_at(0, steps=3, shape="line"), UnknownNameError, "mean 'linear'"),
        (lambda: gradual.share_at(-1, steps=3), InputError, "at least 0, not -1 and 3"),
        (lambda: gradual.set_share(nn.Identity(), 1.5), InputError, r"in \[0, 1\], not 1.5"),
        (lambda: gradual.blend(X, X, True), InputError, "not True"),
        (lambda: gradual.blend(X, X[:2], 0.5), InputError, r"\(4, 12\) and \(2, 12\)"),
        (lambda: gradual.GradualLWTA(Weighted(), 4), InputError, "Weighted has weights of its own"),
        (lambda: gradual.begin(nn.Linear(12, 4), 4, example=X), InputError, "nothing to replace"),
    ],
)
def test_bad_input(act, error, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=text):
        act()


def test_the_end_keeps_hooks() -> None:
    model, _ = gradual.begin(net(nn.ReLU()), 4, example=(12,))
    name = next(iter(lwta_modules(model)))
    calls: list[int] = []
    model.get_submodule(name).register_forward_hook(lambda *_: calls.append(1))
    gradual.set_share(model, 1.0)
    done = gradual.finish(model)
    done = model if done is None else done
    done(torch.zeros(2, 12))
    assert calls == [1, 1], "one module, called twice"
