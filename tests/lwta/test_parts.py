"""A batch in parts: the winners and gradients of each part are those of the whole batch."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch

from neuronym.lwta import LWTA, engine, fused, plain
from neuronym.lwta.noise import Part, gumbel
from neuronym.lwta.plain import Rule

SHAPES = [((6, 24), 1), ((6, 5, 24), 2), ((6, 24, 5, 7), 1), ((6, 24, 9, 11), 1)]


@pytest.mark.parametrize("path", ["fused", "plain"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("last", [False, True])
def test_parts_give_the_whole(
    shape: tuple[int, ...], axis: int, last: bool, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "plain":
        monkeypatch.setattr(fused, "supports", lambda z, rule: False)
    z = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 2
    if last and len(shape) == 4:
        z = z.to(memory_format=torch.channels_last)
    module = LWTA(4, axis).train()
    whole = z.clone().requires_grad_()
    torch.manual_seed(3)
    y = module(whole)
    y.sin().sum().backward()
    for start, stop in [(0, 2), (2, 5), (5, 6)]:
        piece = z[start:stop].clone().requires_grad_()
        module.part = Part(start, stop - start)
        torch.manual_seed(3)
        found = module(piece)
        assert torch.equal(found, y[start:stop])
        found.sin().sum().backward()
        torch.testing.assert_close(piece.grad, whole.grad[start:stop], atol=1e-6, rtol=1e-5)


def test_the_noise_goes_on() -> None:
    whole = gumbel((7, 5), key=99)
    assert torch.equal(gumbel((3, 5), key=99, offset=20), whole[4:])


def test_indices_beyond_32_bits_leave_the_kernels() -> None:
    z = torch.randn(2, 8)
    near, far = 2**32 - 17, 2**32 - 15
    assert fused.supports(z, Rule(4, 1, 1.0, 5, kl=False, offset=near))
    assert not fused.supports(z, Rule(4, 1, 1.0, 5, kl=False, offset=far))
    assert torch.equal(
        engine.run(z, Rule(4, 1, 1.0, 5, kl=False, offset=near)).winners,
        plain.forward(z, Rule(4, 1, 1.0, 5, kl=False, offset=near)).winners,
    )
    low, high = gumbel((4,), key=5), gumbel((4,), key=5, offset=2**32)
    assert not torch.equal(low, high)
    assert math.isfinite(high.sum().item())


def test_copies_leave_the_part_behind() -> None:
    module = LWTA(4)
    module.part = Part(3, 2)
    assert copy.deepcopy(module).part is None
    assert pickle.loads(pickle.dumps(module)).part is None
