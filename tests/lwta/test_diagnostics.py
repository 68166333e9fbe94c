"""Active fraction, win counts and their entropy, on winners that are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from neuronym.errors import InputError
from neuronym.lwta import (
    LWTA,
    active_fraction,
    trace,
    win_counts,
    win_counts_of_trace,
    win_entropy,
)


def test_win_counts_of_planted_winners() -> None:
    winners = torch.tensor([[[0, 0], [2, 1]], [[0, 1], [2, 2]]])  # (images, blocks, positions)
    counts = win_counts(winners, 3, channel_dim=1)
    assert counts.tolist() == [[3, 1, 0], [0, 1, 3]]
    assert torch.equal(win_counts(winners.movedim(1, -1), 3), counts)


def test_win_entropy() -> None:
    counts = torch.tensor([[5, 0, 0, 0], [2, 2, 2, 2], [1, 1, 0, 0], [0, 0, 0, 0]])
    found = win_entropy(counts)
    assert found[:3].tolist() == pytest.approx([0.0, 1.0, 0.5])
    assert found[3].isnan()
    nats = win_entropy(counts[:2], normalised=False)
    assert nats.tolist() == pytest.approx([0.0, math.log(4)])
    with pytest.raises(InputError, match=r"counts must be \(blocks, competitors\).*not \(3,\)"):
        win_entropy(torch.ones(3))


@pytest.mark.parametrize("competitors", [2, 8, 24])
def test_the_active_fraction_is_measured(competitors: int) -> None:
    net = nn.Sequential(nn.Conv2d(3, 48, 1), LWTA(competitors, 1))
    with trace(net, keep="winners") as record:
        net(torch.randn(2, 3, 5, 5))
    assert active_fraction(record) == 1 / competitors
    record.clear()
    with pytest.raises(InputError, match="the trace is empty"):
        active_fraction(record)


def test_win_counts_of_a_trace_add_calls_up() -> None:
    net = nn.Sequential(nn.Linear(3, 8), LWTA(4))
    with trace(net, keep="winners") as record:
        net(torch.randn(5, 3))
        net(torch.randn(7, 3))
    counts = win_counts_of_trace(record)
    assert list(counts) == ["1"]
    assert counts["1"].shape == (2, 4)
    assert counts["1"].sum(1).tolist() == [12, 12]


def test_calls_with_different_blocks_are_counted_apart() -> None:
    layer = LWTA(4)
    with trace(layer, keep="winners") as record:
        layer(torch.randn(5, 8))
        layer(torch.randn(5, 12))
    counts = win_counts_of_trace(record)
    assert {name: tuple(found.shape) for name, found in counts.items()} == {
        "#0": (2, 4),
        "#1": (3, 4),
    }


def test_bad_winners() -> None:
    with pytest.raises(InputError, match="winners range from 0 to 4; with 3 competitors"):
        win_counts(torch.tensor([[0, 4]]), 3)
