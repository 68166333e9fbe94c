"""Active fraction, win counts and their entropy, on winners that are known."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor, nn

from neuronym.activity import Activity
from neuronym.errors import InputError
from neuronym.lwta import (
    LWTA,
    Diagnosis,
    active_fraction,
    diagnose,
    kl_to_uniform,
    trace,
    win_counts,
    win_counts_of_trace,
    win_entropy,
)
from neuronym.lwta.diagnostics import Tally, watch_activity
from neuronym.lwta.gradual import GradualLWTA


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


class Shared(nn.Module):
    """One LWTA module that is used twice, with different numbers of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.act = LWTA(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.act(x), self.act(x[:, :4])], 1)


def planted() -> Tensor:
    """Two blocks: unit 1 always wins the first; units 0 and 3 share the second."""
    x = torch.zeros(6, 8)
    x[:, 1] = 2.0
    x[::2, 4], x[1::2, 7] = 3.0, 3.0
    return x


def test_a_diagnosis_of_planted_winners() -> None:
    net = nn.Sequential(nn.Identity(), LWTA(4)).train()
    found = diagnose(net, [planted()[:4], planted()[4:]])
    assert net.training
    assert not net[1]._forward_hooks
    (layer,) = found.layers
    assert (found.images, layer.name, layer.units, layer.competitors) == (6, "1", 8, 4)
    assert layer.decisions == 6
    assert layer.dead_units == found.dead_units == 5
    assert layer.entropy == pytest.approx((0.0, 0.5))
    assert layer.mean_entropy == pytest.approx(0.25)
    assert layer.active_fraction == found.active_fraction == 12 / 48
    divergence = 0.0
    for top in (2.0, 3.0):
        total = math.exp(top) + 3
        q = [math.exp(top) / total, *[1 / total] * 3]
        divergence += sum(each * (math.log(each) + math.log(4)) for each in q)
    assert layer.kl == pytest.approx(divergence, rel=1e-5)
    assert found.kl == layer.kl


def test_a_winner_is_active_also_where_it_passes_a_zero() -> None:
    x = planted()
    x[0] = 0.0  # the winners of this image pass a zero
    net = nn.Sequential(nn.Identity(), LWTA(4))
    found = diagnose(net, [x])
    assert found.active_fraction == 12 / 48
    with trace(net.eval(), keep="winners") as record, watch_activity(net, ["0", "1"]) as counts:
        net(x)
    assert active_fraction(record) == found.active_fraction
    assert counts == {"0": Activity(10, 48), "1": Activity(12, 48)}  # the first does not compete


def test_what_passes_more_than_winners_is_counted_by_its_values() -> None:
    x = planted() + 1.0
    mean = LWTA(4, mode="expected")
    fading = GradualLWTA(nn.ReLU(), 4, share=0.5)
    found = diagnose(nn.Sequential(mean, fading), [x])
    assert [layer.active_fraction for layer in found.layers] == [1.0, 1.0]
    fading.share = 1.0
    assert diagnose(nn.Sequential(fading), [x]).active_fraction == 12 / 48


def test_activity_of_calls_and_of_nothing() -> None:
    net = Shared()
    with watch_activity(net, ["act"]) as counts:
        net(planted())
        net(planted()[:3])
    assert counts["act"] == Activity(3 * 9, 12 * 9)  # two blocks, then one
    assert not net.act._forward_hooks
    assert not net.act._recorders
    assert Activity().fraction is None


def test_a_diagnosis_of_a_shared_module() -> None:
    found = diagnose(Shared(), [planted()])
    assert [layer.name for layer in found.layers] == ["act#0", "act#1"]
    assert [layer.units for layer in found.layers] == [8, 4]
    assert found.units == 12
    net = Shared()
    with trace(net) as record:
        net(planted())
    assert found.kl == pytest.approx(kl_to_uniform(record).item())


def test_a_diagnosis_goes_through_json_and_tallies_add_up() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), LWTA(4, 1), nn.Flatten(), nn.Linear(72, 8), LWTA(2))
    x = torch.randn(7, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    whole = diagnose(net, [x])
    assert Diagnosis.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    assert [layer.decisions for layer in whole.layers] == [63, 7]
    first, second = Tally(), Tally()
    net.eval()
    for tally, part in ((first, x[:3]), (second, x[3:])):
        with torch.no_grad(), tally.watch(net):
            net(part)
    first.merge(second)
    merged = first.diagnosis()
    assert merged.images == 7
    for mine, theirs in zip(merged.layers, whole.layers, strict=True):
        assert mine.entropy == theirs.entropy
        assert mine.dead_units == theirs.dead_units
        assert mine.kl == pytest.approx(theirs.kl)


def test_nothing_to_diagnose() -> None:
    with pytest.raises(InputError, match="no LWTA module"):
        diagnose(nn.Linear(2, 2), [torch.zeros(1, 2)])
    with pytest.raises(InputError, match="nothing to diagnose: no image"):
        diagnose(nn.Sequential(LWTA(2)), [])
    failing = nn.Sequential(LWTA(4), nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        diagnose(failing, [torch.zeros(1, 4)])
    assert not failing[0]._forward_hooks
    assert not failing[0]._recorders


def test_a_diagnosis_puts_every_mode_back() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), LWTA(4)).train()
    model[1].eval()  # frozen by the user
    diagnose(model, [torch.randn(6, 8, generator=torch.Generator().manual_seed(0))])
    assert [part.training for part in model.modules()] == [True, True, False, True]
