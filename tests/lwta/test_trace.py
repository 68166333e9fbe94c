"""Traces: one record per call, what is kept, KL and ELBO as functions of a trace."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from neuronym.errors import InputError, UnknownNameError
from neuronym.lwta import LWTA, functional, kl_per_layer, kl_to_uniform, negative_elbo, trace
from reference import lwta as literal


class Twice(nn.Module):
    """A block that uses one competition twice, with different channel counts."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(3, 8, 3, padding=1)
        self.wide = nn.Conv2d(8, 16, 3, padding=1)
        self.act = LWTA(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.wide(self.act(self.narrow(x)))).mean((2, 3))
        return out


def images(count: int = 5) -> Tensor:
    return torch.randn(count, 3, 6, 7, generator=torch.Generator().manual_seed(2))


def twice() -> Twice:
    torch.manual_seed(0)
    return Twice()


def test_one_record_per_call() -> None:
    net = twice()
    with trace(net) as record:
        net(images())
    assert len(record) == 2
    assert [(each.name, each.call) for each in record] == [("act", 0), ("act", 1)]
    assert [each.shape for each in record] == [(5, 8, 6, 7), (5, 16, 6, 7)]
    assert [each.blocks for each in record] == [2, 4]
    assert [each.positions for each in record] == [42, 42]
    assert [each.batch for each in record] == [5, 5]
    assert all(each.sampled and each.channel_dim == 1 for each in record)
    assert record.inputs == 5
    assert list(record.by_name()) == ["act"]
    assert repr(record) == "Trace(2 competitions of 1 modules)"
    assert record[1:][0] is record[1]
    record.clear()
    assert (len(record), record.inputs) == (0, 0)


def test_the_model_is_as_before() -> None:
    net = twice()
    before = net.act.__dict__.copy(), dict(net._forward_pre_hooks)
    with trace(net), trace(net) as inner:
        net(images())
        assert len(inner) == 2
    with pytest.raises(RuntimeError), trace(net):
        net(torch.zeros(1, 5))
    assert (net.act.__dict__, dict(net._forward_pre_hooks)) == before


def test_a_trace_changes_no_result() -> None:
    net = twice()
    torch.manual_seed(1)
    expected = net(images())
    torch.manual_seed(1)
    with trace(net, keep=["kl", "winners", "logits"]):
        assert torch.equal(net(images()), expected)


@pytest.mark.parametrize("training", [True, False])
def test_winners_and_masks(training: bool) -> None:
    net = twice().train(training)
    seen: list[tuple[Tensor, Tensor]] = []
    net.act.register_forward_hook(lambda _, args, y: seen.append((args[0], y)))
    with trace(net, keep="winners") as record:
        net(images())
    for each, (z, y) in zip(record, seen, strict=True):
        assert each.winners.dtype == torch.int64
        assert each.winners.shape == (5, each.blocks, 6, 7)
        assert torch.equal(each.mask.unflatten(1, (-1, 4)).sum(2), torch.ones(5, each.blocks, 6, 7))
        assert torch.equal(torch.where(each.mask, z, 0), y)
        if not training:
            assert torch.equal(each.winners, functional.winners(z, 4, channel_dim=1))
        assert each.sampled is training
        assert each.kl is None
        assert each.logits is None


def test_what_was_not_kept_is_said() -> None:
    net = twice()
    with trace(net, keep=[]) as record:
        net(images())
    with pytest.raises(InputError, match="the trace of 'act' kept no winners; use keep='winners'"):
        record[0].winners  # noqa: B018
    with pytest.raises(InputError, match="kept neither 'kl' nor 'logits'"):
        kl_to_uniform(record)
    with pytest.raises(UnknownNameError, match=r"thing to keep 'winer'.*Did you mean 'winners'"):
        trace(net, keep="winer").__enter__()
    with pytest.raises(InputError, match="convert it first"):
        trace(nn.ReLU()).__enter__()


def test_kl_is_the_literal_sum_over_positions_and_layers() -> None:
    net = twice()
    with trace(net, keep=["kl", "logits"]) as record:
        net(images())
    expected = 0.0
    for each in record:
        assert each.logits is not None
        z = each.logits.detach().movedim(1, -1).reshape(-1, each.shape[1]).double().numpy()
        one = literal.kl_to_uniform(z, 4)
        assert each.kl is not None
        assert float(each.kl.detach()) == pytest.approx(one, rel=1e-5)
        expected += one / 5
    assert float(kl_to_uniform(record).detach()) == pytest.approx(expected, rel=1e-5)
    assert list(kl_per_layer(record)) == ["act"]


def test_kl_and_its_gradient_are_the_same_from_logits() -> None:
    net = twice()
    grads = []
    for keep in ("kl", "logits"):
        torch.manual_seed(3)
        net.zero_grad()
        with trace(net, keep=keep) as record:
            net(images())
        kl_to_uniform(record).backward()
        grads.append([p.grad.clone() for p in net.parameters()])  # type: ignore[union-attr]
    for fused, plain in zip(*grads, strict=True):
        assert torch.allclose(fused, plain, rtol=1e-4, atol=1e-5)


class Windows(nn.Module):
    """A model whose competition sees four windows of each image as one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.act = LWTA(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(x.reshape(-1, 2, 8))
        return y.reshape(x.shape)


def test_kl_is_averaged_over_images_not_over_what_a_layer_calls_its_batch() -> None:
    x = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(4))
    net = Windows().eval()
    with trace(net) as record:
        net(x)
    total = literal.kl_to_uniform(x.reshape(-1, 8).double().numpy(), 4)
    assert record.inputs == 3
    assert record[0].batch == 12
    assert float(kl_to_uniform(record)) == pytest.approx(total / 3, rel=1e-5)
    assert float(kl_to_uniform(record, batch=6)) == pytest.approx(total / 6, rel=1e-5)
    with trace(net) as record:  # a part of the model: the layer's own first dimension counts
        net.act(x.reshape(-1, 2, 8))
    assert float(kl_to_uniform(record)) == pytest.approx(total / 12, rel=1e-5)
    with pytest.raises(InputError, match="batch must be at least 1, not 0"):
        kl_to_uniform(record, batch=0)


def test_several_forwards_in_one_trace_are_one_batch() -> None:
    net = twice().eval().requires_grad_(False)
    with trace(net) as whole:
        net(images(6))
    with trace(net) as parts:
        net(images(6)[:2])
        net(images(6)[2:])
    assert parts.inputs == 6
    assert float(kl_to_uniform(parts)) == pytest.approx(float(kl_to_uniform(whole)), rel=1e-5)


def test_kl_bounds() -> None:
    layer = LWTA(8).eval()
    with trace(layer) as record:
        layer(torch.zeros(2, 16))
    assert float(kl_to_uniform(record)) == pytest.approx(0, abs=1e-6)
    sure = torch.zeros(2, 16)
    sure[:, [3, 9]] = 1000.0
    with trace(layer) as record:
        layer(sure)
    assert float(kl_to_uniform(record)) == pytest.approx(2 * math.log(8), rel=1e-6)


def test_negative_elbo() -> None:
    net = twice()
    with trace(net) as record:
        loss = net(images()).square().mean()
    kl = kl_to_uniform(record)
    assert torch.equal(negative_elbo(loss, record), loss + kl)
    assert torch.equal(negative_elbo(loss, record, kl_weight=0.25), loss + 0.25 * kl)
    with trace(net, keep=[]) as empty:
        loss = net(images()).square().mean()
    assert negative_elbo(loss, empty, kl_weight=0) is loss
    for weight in (-1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="kl_weight must be a finite number of at least 0"):
            negative_elbo(loss, record, kl_weight=weight)
    record.clear()
    with pytest.raises(InputError, match="the trace is empty"):
        kl_to_uniform(record)


def test_training_moves_q_towards_the_prior() -> None:
    """The divergence is in the loss: with nothing else to gain, q becomes uniform."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), LWTA(8))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    x = torch.randn(64, 4)
    values = []
    for _ in range(60):
        with trace(net) as record:
            net(x)
        loss = negative_elbo(torch.zeros(()), record)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.02 * values[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("keep", ["kl", "logits"])
def test_the_divergence_of_a_block_with_a_masked_unit(keep: str, dtype: torch.dtype) -> None:
    """q = (0, 1) against (1/2, 1/2) is log 2, and a unit that cannot win has no gradient."""
    net = nn.Sequential(LWTA(2)).eval()
    z = torch.tensor([[-torch.inf, 1.0, 2.0, 3.0]], dtype=dtype, requires_grad=True)
    q = torch.tensor([2.0, 3.0], dtype=torch.float64).softmax(0)
    second = float((q * (q.log() + math.log(2))).sum())
    with trace(net, keep=keep) as record:
        net(z)
    kl = kl_to_uniform(record)
    assert kl.item() == pytest.approx(math.log(2) + second, rel=1e-5)
    (grad,) = torch.autograd.grad(kl, z)
    slope = float(q[0] * (q[0].log() - (q * q.log()).sum()))
    assert grad[0].tolist() == pytest.approx([0.0, 0.0, slope, -slope], abs=1e-6)
