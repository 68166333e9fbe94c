"""The one tracker of the units' dimension: operations, disputes, broadcasts, changes in place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neuronym.channels import ChannelTracker, Origin

Made = Callable[[Tensor], Tensor]


def made(channel: int, *shape: int) -> tuple[ChannelTracker, Tensor]:
    tracker, tensor = ChannelTracker(), torch.zeros(*shape)
    tracker.declare(tensor, channel)
    return tracker, tensor


@pytest.mark.parametrize(
    ("operation", "channel"),
    [
        (lambda x: x[:, :, :1].expand(-1, -1, 4, -1, -1), 1),
        (lambda x: x.expand(3, *x.shape), 2),
        (lambda x: torch.stack([x, x], 0), 2),
        (lambda x: torch.stack([x, x], -1), 1),
        (lambda x: functional.avg_pool3d(x, 2), 1),
        (lambda x: functional.max_pool3d(x, 2), 1),
        (lambda x: functional.adaptive_avg_pool3d(x, 2), 1),
        (lambda x: functional.adaptive_max_pool3d(x, 2), 1),
        (lambda x: functional.interpolate(x, scale_factor=2, mode="trilinear"), 1),
        (lambda x: functional.hardtanh(x), 1),
        (lambda x: x.movedim(1, -1), 4),
        (lambda x: x.flatten(2).transpose(1, 2), 2),
        (lambda x: torch.linalg.vector_norm(x, dim=(2, 3, 4)), 1),
        (lambda x: torch.linalg.vector_norm(x, dim=(0, 3)), 0),
        (lambda x: x.mean((0, 2), keepdim=True), 1),
        (lambda x: x.select(0, 0), 0),
        (lambda x: x.unbind(2)[1], 1),
        (lambda x: x.chunk(2, 1)[1], 1),
        (lambda x: x[:, :, 0, 0].unsqueeze(1), 2),
        (lambda x: x.mean(1), None),
        (lambda x: x.flatten(1), None),
    ],
)
def test_where_an_operation_puts_the_units(operation: Made, channel: int | None) -> None:
    tracker, x = made(1, 2, 6, 4, 4, 4)
    with tracker:
        out = operation(x)
    assert tracker.origin(out) == (None if channel is None else Origin(channel))
    assert not tracker.disputed(out)


def test_a_single_unit_stays_where_other_dimensions_go() -> None:
    tracker, x = made(1, 2, 1, 1, 5)
    with tracker:
        kept, gone = x.squeeze(2), x.squeeze(1)
    assert tracker.origin(kept) == Origin(1)
    assert tracker.origin(gone) is None


def test_a_dispute_goes_on_until_a_layer_decides_anew() -> None:
    tracker, x = made(1, 2, 4, 4)
    other = torch.zeros(2, 4, 4)
    tracker.declare(other, 2)
    weight = torch.zeros(3, 4, 1)
    with tracker:
        total = x + other
        joined = torch.cat([other, x], 0)
        moved = total.relu().transpose(1, 2)
        lost = total.mean(1)
        again = functional.conv1d(moved, weight)
    assert tracker.origin(total) == Origin(1)  # the first one's
    assert tracker.origin(joined) == Origin(2)
    assert tracker.origin(moved) == Origin(2)
    assert tracker.origin(lost) is None
    assert all(tracker.disputed(each) for each in (total, joined, moved, lost))
    assert tracker.origin(again) == Origin(1)
    assert not tracker.disputed(again)


@pytest.mark.parametrize(("broadcast", "expected"), [(False, None), (True, Origin(1))])
def test_a_factor_counts_if_asked(broadcast: bool, expected: Origin | None) -> None:
    tracker, x = ChannelTracker(broadcast=broadcast), torch.zeros(2, 6, 5)
    factor = torch.ones(1, 6, 1)
    tracker.declare(factor, 1)
    with tracker:
        out = x * factor
    assert tracker.origin(out) == expected


def test_dimensions_that_change_in_place_are_forgotten() -> None:
    tracker, x = made(1, 2, 6, 5)
    with tracker:
        x.transpose_(1, 2)
    assert tracker.origin(x) is None  # in dimension 1 are no units now
    tracker, x = made(1, 2, 6, 5)
    with tracker:
        x[x > 0] = 0.0
        x.relu_()
    assert tracker.origin(x) == Origin(1)
