"""Several sites from one graph: each as it would be alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuronym import lwta
from neuronym.errors import InputError
from neuronym.explain import contributions
from neuronym.explain.multi import Place, attribute_sites
from neuronym.lwta import LWTA


class Net(nn.Module):
    """Competition twice (one module called twice), a dense site with an in-place step, a branch."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.act = LWTA(4, channel_dim=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.third = nn.Conv2d(8, 6, 1)
        self.side = nn.Conv2d(3, 6, 1)
        self.unused = nn.Conv2d(3, 6, 1)
        self.head = nn.Linear(6, 4)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(0.4 * torch.randn(weight.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.second(self.act(self.first(x))))
        self.unused(x)
        total = self.third(self.relu(hidden)) + self.side(x)
        return self.head(total.mean((2, 3)))


PLACES = [
    Place("third", 1),
    Place("act", 1, 1, 4),
    Place("second", 1),
    Place("act", 1, 0, 4),
    Place("side", 1),
    Place("unused", 1),
    Place("relu", 1),
]


def inputs() -> Tensor:
    return torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("targets", [None, torch.tensor([0, 3, 2, 1, 0])])
def test_each_site_is_as_it_is_alone(frozen: bool, targets: Tensor | None) -> None:
    net = Net().requires_grad_(not frozen)
    for result in attribute_sites(net, inputs(), PLACES, targets=targets):
        place = result.place
        alone = contributions(
            Net(),  # whose weights may learn, so that the site is connected to something
            inputs(),
            site=place.site,
            channel_dim=place.channel_dim,
            targets=targets,
            call=place.call,
        )
        found = result.found
        close = {"atol": 1e-6, "rtol": 1e-6}
        torch.testing.assert_close(found.logits, alone.logits, **close)
        torch.testing.assert_close(found.values, alone.values, **close)
        torch.testing.assert_close(found.activations, alone.activations, **close)
        torch.testing.assert_close(found.baselines, alone.baselines, **close)
        assert torch.equal(found.targets, alone.targets)
        if place.site != "unused":
            assert found.values.abs().max() > 1e-3


def test_the_masks_are_those_of_the_explained_pass() -> None:
    net = Net().eval()
    with torch.no_grad(), lwta.trace(net, keep="winners") as trace:
        net(inputs())
    results = {result.place.name: result for result in attribute_sites(net, inputs(), PLACES)}
    for name, record in zip(("act", "act#1"), trace, strict=True):
        mask = results[name].mask
        assert mask is not None
        assert torch.equal(mask, record.mask.flatten(2))
        assert bool((results[name].found.activations[~mask] == 0).all())
    assert results["third"].mask is None
    assert results["act"].mask.ne(results["act#1"].mask).any()


def test_the_model_is_as_before_also_after_a_failure() -> None:
    net = Net().train()
    state = torch.random.get_rng_state()
    attribute_sites(net, inputs(), PLACES)
    with pytest.raises(RuntimeError):
        attribute_sites(net, inputs()[:, :2], PLACES)
    assert all(part.training for part in net.modules())
    assert not any(part._forward_hooks for part in net.modules())
    assert all(weight.grad is None for weight in net.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([], "no site"),
        ([Place("act", 1), Place("thirt", 1)], "no module 'thirt'; nearest: third"),
        ([Place("act", 1, 2, 4)], "'act' was not called 3 times"),
        ([Place("third", 1, 0, 2)], "'third' does not compete in blocks of 2"),
        ([Place("act", 1, 1, 2)], "'act#1' does not compete in blocks of 2"),
    ],
)
def test_bad_places(places: list[Place], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attribute_sites(Net(), inputs(), places)


def test_a_dense_model_has_no_blocks() -> None:
    with pytest.raises(InputError, match="does not compete in blocks of 2"):
        attribute_sites(
            nn.Sequential(nn.Linear(2, 2)), torch.zeros(1, 2), [Place("0", 1, competitors=2)]
        )
