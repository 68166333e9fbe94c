"""NaN, infinite, mixed, empty, half-precision and channels-last input."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor, nn

from neuronym.errors import DivisibilityError, InputError
from neuronym.lwta import LWTA, convert, finite, functional, fused, kl_to_uniform, trace
from neuronym.lwta.finite import NonFiniteError

HALF = [torch.bfloat16, torch.float16]


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Linear(4, 8), LWTA(4), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.second(self.act(self.first(x))))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_layer_and_the_call_are_named(value: float) -> None:
    net, x = Twice().eval(), noise(3, 4)
    with finite(net):
        net(x)
    with torch.no_grad():
        net.second.bias[2] = value
    with pytest.raises(NonFiniteError) as caught, finite(net):
        net(x)
    kind = "3 NaN and 0 infinite" if value != value else "0 NaN and 3 infinite"
    assert f"LWTA layer 'act' in call 1 hold {kind} of 24 values" in str(caught.value)
    assert "try a lower learning rate" in str(caught.value)
    shows = not bool(torch.isfinite(net(x)).all())  # no check is left
    assert shows == (value != -float("inf"))  # a unit of minus infinity loses and is not seen
    assert not net.act._forward_pre_hooks
    with pytest.raises(InputError, match="no LWTA module: nothing to check"):
        finite(nn.Linear(2, 2)).__enter__()


def test_more_competitors_than_channels() -> None:
    with pytest.raises(DivisibilityError, match="16 competitors do not divide the 8 channels"):
        functional.compete(noise(2, 8), 16)
    dense = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(DivisibilityError, match=r"8 channels of '1'; nearest that do: 8;"):
        convert(dense, 16, example=(4,))


@pytest.mark.parametrize("dtype", HALF)
def test_a_half_precision_layer_in_a_float32_network(dtype: torch.dtype) -> None:
    x = noise(3, 4)
    net = Twice().eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype), trace(net) as record:
        y = net(x)
    assert y.dtype == dtype
    assert all(each.kl is not None and each.kl.dtype == torch.float32 for each in record)
    net.second.to(dtype)
    with pytest.raises(RuntimeError, match="dtype"):
        net(x)  # torch's own words about the two layers; no silent conversion
    with pytest.raises(InputError, match=r"must hold real floating-point numbers, not torch\.int"):
        functional.compete(torch.arange(8), 4)


@pytest.mark.parametrize("mode", ["sample", "argmax"])
@pytest.mark.parametrize(("shape", "dimension"), [((0, 8), -1), ((0, 5, 8), -1), ((0, 8, 3, 3), 1)])
def test_an_empty_batch_gives_an_empty_batch(
    shape: tuple[int, ...], dimension: int, mode: str
) -> None:
    layer = LWTA(4, dimension, mode=mode)
    z = torch.zeros(shape, requires_grad=True)
    with trace(layer, keep=("kl", "winners")) as record:
        y = layer(z)
    assert y.shape == shape
    assert record[0].winners.numel() == 0
    assert float(kl_to_uniform(record).detach()) == 0
    y.sum().backward()
    assert z.grad is not None
    assert z.grad.shape == shape


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("mode", ["sample", "argmax"])
@pytest.mark.parametrize(("shape", "dimension"), [((9, 24), -1), ((2, 24, 9, 9), 1)])
def test_half_precision_is_the_float64_formula_rounded(
    shape: tuple[int, ...], dimension: int, mode: str, dtype: torch.dtype
) -> None:
    rounding = 2.0**-7 if dtype == torch.bfloat16 else 2.0**-10
    z = (2 * noise(*shape)).to(dtype)
    upstream = noise(*shape, seed=2).to(dtype)
    found = []
    for values in (z, z.double()):
        leaf = values.detach().clone().requires_grad_()
        y, winners = functional.compete_with_winners(
            leaf,
            8,
            channel_dim=dimension,
            mode=mode,
            generator=torch.Generator().manual_seed(5),
        )
        (grad,) = torch.autograd.grad(y, leaf, upstream.to(values.dtype))
        found.append((y.detach(), winners, grad))
    (y, winners, grad), (right, expected, slope) = found
    assert y.dtype == grad.dtype == dtype
    assert torch.equal(winners, expected)
    assert torch.equal(y.double(), right)  # the values pass as they are
    assert torch.allclose(grad.double(), slope, rtol=rounding, atol=1e-5)


def test_channels_last_maps_are_read_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels are given the map's own memory, forward and backward."""
    z = noise(2, 24, 9, 9).to(memory_format=torch.channels_last)
    upstream = noise(2, 24, 9, 9, seed=2).to(memory_format=torch.channels_last)
    read = []
    job = fused._job

    def spy(values: Tensor, rule: object) -> object:
        read.append(values.data_ptr())
        return job(values, rule)  # type: ignore[arg-type]

    monkeypatch.setattr(fused, "_job", spy)
    leaf = z.requires_grad_()
    y = LWTA(8, 1)(leaf)
    y.backward(upstream)
    assert read == [z.data_ptr()] * 2
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert leaf.grad is not None
    assert leaf.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile finds no C++ compiler")
@pytest.mark.parametrize("training", [False, True])
def test_compiled_values_and_gradients_are_the_same(training: bool) -> None:
    net = nn.Sequential(nn.Linear(6, 24), LWTA(8), nn.Linear(24, 3)).train(training)
    x, found = noise(5, 6), []
    options = {"fallback_random": True}  # so that the key is drawn from torch's own generator
    try:
        for run in (net, torch.compile(net, fullgraph=True, options=options)):
            torch.manual_seed(4)
            net.zero_grad()
            y = run(x)
            y.square().sum().backward()
            found.append([y.detach(), *(p.grad.clone() for p in net.parameters())])
    finally:
        torch._dynamo.reset()
    for eager, compiled in zip(*found, strict=True):
        assert torch.allclose(eager, compiled, atol=1e-5)
