"""The noise is a function of key and index, well mixed, and the same as the literal twin's."""

from __future__ import annotations

import math

import pytest
import torch

from neuronym.lwta import noise
from reference import lwta as literal

KEYS = [0, 1, 2**32, 123_456_789_012_345, 2**63 - 2]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_is_the_literal_one(key: int, dtype: torch.dtype) -> None:
    found = noise.uniform((3, 5), key=key, dtype=dtype)
    expected = [literal.uniform(key, index) for index in range(15)]
    assert found.flatten().tolist() == expected
    assert torch.equal(found, noise.uniform((3, 5), key=torch.tensor(key), dtype=dtype))


def test_gumbel_is_the_literal_one() -> None:
    found = noise.gumbel((40,), key=7, dtype=torch.float64)
    assert found.tolist() == pytest.approx([literal.gumbel(7, i) for i in range(40)], rel=1e-14)


def test_uniform_stays_inside_the_open_interval() -> None:
    u = noise.uniform((1 << 20,), key=3)
    assert float(u.min()) > 0
    assert float(u.max()) < 1
    g = noise.gumbel((1 << 20,), key=3)
    assert float(g.min()) > -2.82
    assert float(g.max()) < 16.64


def test_moments_of_gumbel_noise() -> None:
    g = noise.gumbel((1 << 20,), key=11, dtype=torch.float64)
    assert float(g.mean()) == pytest.approx(0.5772156649, abs=5 * math.pi / math.sqrt(6) / 1024)
    assert float(g.var()) == pytest.approx(math.pi**2 / 6, rel=0.01)


def chi_square(codes: torch.Tensor, cells: int) -> float:
    """Standardised chi-square statistic of codes that should be uniform."""
    counts = torch.bincount(codes, minlength=cells).double()
    expected = codes.numel() / cells
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return (statistic - (cells - 1)) / math.sqrt(2 * (cells - 1))


@pytest.mark.parametrize("key", KEYS)
def test_neighbours_and_neighbouring_keys_are_independent(key: int) -> None:
    u = (noise.uniform((1 << 20,), key=key) * 64).long()
    for lag in (1, 2, 8, 24, 1024):
        assert abs(chi_square(u[:-lag] * 64 + u[lag:], 4096)) < 5
    other = (noise.uniform((1 << 20,), key=key + 1) * 64).long()
    assert abs(chi_square(u * 64 + other, 4096)) < 5
    low = (noise.uniform((1 << 20,), key=key) * 2**23).long() % 64
    assert abs(chi_square(low, 64)) < 5


def test_key_comes_from_torchs_generator_or_the_given_one() -> None:
    torch.manual_seed(5)
    first = noise.draw_key()
    torch.manual_seed(5)
    assert torch.equal(first, noise.draw_key())
    before = torch.get_rng_state()
    own = noise.draw_key(torch.Generator().manual_seed(1))
    assert torch.equal(own, noise.draw_key(torch.Generator().manual_seed(1)))
    assert torch.equal(before, torch.get_rng_state())
    assert own.dtype == torch.int64
