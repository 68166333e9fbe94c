"""Contributions on networks whose answers are known by hand."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor, nn

from neuronym import lwta
from neuronym.errors import InputError
from neuronym.explain import contributions
from neuronym.explain.contributions import attributions, baseline, baselines
from neuronym.lwta import LWTA
from neuronym.models import Change, applied


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Linear(nn.Module):
    """y = V · relu(W x + b) + c, with weights set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(2, 3)
        self.act = nn.ReLU(inplace=True)
        self.down = nn.Linear(3, 2)
        with torch.no_grad():
            self.up.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
            self.up.bias.zero_()
            self.down.weight.copy_(torch.tensor([[2.0, 3.0, 5.0], [-1.0, 0.5, 7.0]]))
            self.down.bias.copy_(torch.tensor([0.25, -0.25]))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.up(x)))


def test_by_hand() -> None:
    found = contributions(
        Linear(),
        torch.tensor([[1.0, 2.0]]),
        site="act",
        channel_dim=1,
        targets=torch.tensor([1]),
    )
    # Hidden units are (1, 2, 0); class 1 reads them with weights (-1, 0.5, 7).
    torch.testing.assert_close(found.per_unit, torch.tensor([[-1.0, 1.0, 0.0]]).double())
    assert found.baselines.item() == -0.25
    assert found.target_logits.item() == -0.25
    assert found.completeness_error.abs().item() == 0.0


def test_an_inplace_operation_after_the_site_does_not_change_what_is_attributed() -> None:
    found = contributions(Linear(), torch.tensor([[1.0, 2.0]]), site="up", channel_dim=1)
    # The site is before the ReLU: unit 2 is -3 there, and its gradient is zero.
    torch.testing.assert_close(found.activations[0, :, 0], torch.tensor([1.0, 2.0, -3.0]))
    torch.testing.assert_close(found.per_unit, torch.tensor([[2.0, 6.0, 0.0]]).double())


@pytest.fixture
def convolutional() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(96, 5),
        )
        model(torch.randn(16, 3, 8, 8))  # gives the normalisation statistics of its own
    return model


def test_linear_path_with_batch_normalisation_is_exact(convolutional: nn.Module) -> None:
    images = torch.randn(4, 3, 8, 8, generator=generator())
    found = contributions(convolutional, images, site="1", channel_dim=1)
    assert found.values.shape == (4, 8, 64)
    assert found.completeness_error.abs().max() < 1e-5
    convolutional.eval()
    with torch.no_grad():
        torch.testing.assert_close(found.logits, convolutional(images))


def test_layer_normalisation_breaks_exactness_and_that_is_reported() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 3))
    found = contributions(model, torch.randn(5, 4, generator=generator()), site="1", channel_dim=-1)
    assert found.completeness_error.abs().max() > 1e-3
    torch.testing.assert_close(
        found.target_logits - found.baselines.double() - found.per_unit.sum(1),
        found.completeness_error,
    )


def test_state_is_as_before_also_after_a_failure(convolutional: nn.Module) -> None:
    convolutional.train()
    statistics = convolutional[3].running_mean.clone()
    random = torch.random.get_rng_state()
    images = torch.randn(2, 3, 8, 8, generator=generator())
    contributions(convolutional, images, site="1", channel_dim=1)
    with pytest.raises(RuntimeError):
        contributions(convolutional, images[:, :2], site="1", channel_dim=1)
    with pytest.raises(InputError):
        contributions(convolutional, images, site="1", channel_dim=1, targets=torch.tensor([0, 9]))
    assert all(part.training for part in convolutional.modules())
    assert not any(part._forward_hooks for part in convolutional.modules())
    assert all(weight.grad is None for weight in convolutional.parameters())
    assert torch.equal(convolutional[3].running_mean, statistics)
    assert torch.equal(torch.random.get_rng_state(), random)


def test_a_module_called_twice_is_attributed_call_by_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()
            self.mid = nn.Linear(3, 4)
            self.out = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.act(self.mid(self.act(x))))

    images = torch.randn(3, 3, generator=generator())
    first = contributions(Twice(), images, site="act", channel_dim=1)
    second = contributions(Twice(), images, site="act", channel_dim=1, call=1)
    assert first.activations.shape[1] == 3
    assert second.activations.shape[1] == 4
    assert second.completeness_error.abs().max() < 1e-6
    with pytest.raises(InputError, match="not called 3 times"):
        contributions(Twice(), images, site="act", channel_dim=1, call=2)


def test_bad_input_names_what_is_allowed() -> None:
    images = torch.zeros(1, 2)
    with pytest.raises(InputError, match="no module 'actt'; nearest: act"):
        contributions(Linear(), images, site="actt", channel_dim=1)
    with pytest.raises(InputError, match="must be 0 to 1"):
        contributions(Linear(), images, site="act", channel_dim=1, targets=torch.tensor([2]))
    with pytest.raises(InputError, match="channel_dim 0"):
        contributions(Linear(), images, site="act", channel_dim=0)
    with pytest.raises(InputError, match="logits"):
        contributions(
            nn.Sequential(nn.Conv2d(2, 2, 1)), torch.zeros(1, 2, 3, 3), site="0", channel_dim=1
        )


class Residual(nn.Module):
    """Two sites of which the later one depends on the earlier one, and a path around both."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.act1 = nn.ReLU()
        self.second = nn.Linear(6, 6)
        self.act2 = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        early = self.act1(self.first(x))
        return self.head(self.act2(self.second(early)) + early)


@pytest.fixture
def residual() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return Residual()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_several_sites_in_one_pass_are_each_as_if_alone(
    residual: nn.Module, order: tuple[int, ...]
) -> None:
    """An earlier site keeps the gradient that flows through a later one, also through ReLU."""
    images = torch.randn(3, 4, generator=generator())
    sites = [("act1", 0), ("second", 0), ("act2", 0)]
    together = attributions(residual, images, [sites[place] for place in order])
    without = baselines(
        residual, images, [sites[place] for place in order], targets=together[0].targets
    )
    for place, found, zero in zip(order, together, without, strict=True):
        alone = contributions(residual, images, site=sites[place][0], channel_dim=1)
        torch.testing.assert_close(found.beside(zero, channel_dim=1).per_unit, alone.per_unit)
        torch.testing.assert_close(zero, alone.baselines)
    early = together[order.index(0)]
    literal = images.clone()
    hidden = residual.act1(residual.first(literal)).detach().requires_grad_(True)
    logits = residual.head(torch.relu(residual.second(hidden)) + hidden)
    (slope,) = torch.autograd.grad(logits.gather(1, early.targets[:, None]).sum(), hidden)
    torch.testing.assert_close(early.gradient, slope)


def test_many_sites_without_each_are_taken_in_parts(
    residual: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, sites = torch.randn(3, 4, generator=generator()), [("act1", 0), ("act2", 0)]
    targets = torch.tensor([0, 1, 2])
    together = baselines(residual, images, sites, targets=targets)
    module = importlib.import_module("neuronym.explain.contributions")  # hidden by the function
    monkeypatch.setattr(module, "_ROWS", 4)
    torch.testing.assert_close(baselines(residual, images, sites, targets=targets), together)


def test_the_difference_of_two_logits(convolutional: nn.Module) -> None:
    images = torch.randn(4, 3, 8, 8, generator=generator())
    targets, rivals = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 0, 1, 2])
    one, other, both = (
        contributions(convolutional, images, site="1", channel_dim=1, targets=each, against=rival)
        for each, rival in ((targets, None), (rivals, None), (targets, rivals))
    )
    torch.testing.assert_close(both.per_unit, one.per_unit - other.per_unit)
    torch.testing.assert_close(both.baselines, one.baselines - other.baselines)
    torch.testing.assert_close(both.target_logits, one.target_logits - other.target_logits)
    assert both.completeness_error.abs().max() < 1e-5
    with pytest.raises(InputError, match="class 1 minus itself"):
        contributions(
            convolutional,
            images,
            site="1",
            channel_dim=1,
            targets=torch.tensor([0, 1, 2, 3]),
            against=torch.tensor([1, 1, 1, 1]),
        )


@pytest.mark.parametrize("shape", [(3, 12), (2, 12, 5, 5), (2, 7, 12)])
def test_winners_in_evaluation_pass_the_gradient_of_their_mask(shape: tuple[int, ...]) -> None:
    channel_dim = -1 if len(shape) == 3 else 1
    layer = LWTA(4, channel_dim=channel_dim).eval()
    z = torch.randn(shape, generator=generator(1)).requires_grad_(True)
    upstream = torch.randn(shape, generator=generator(2))
    with lwta.trace(layer, keep="winners") as trace:
        (slope,) = torch.autograd.grad(layer(z), z, upstream)
    assert torch.equal(slope, upstream * trace[0].mask)


class Windowed(nn.Module):
    """Four tokens per image in two windows, folded into the first dimension inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        folded = self.inner(x.reshape(len(x) * 2, 2, 3))
        out: Tensor = self.head(folded.reshape(len(x), 4, 5).mean(1))
        return out


def test_a_module_that_folds_windows_into_the_images_is_refused() -> None:
    model = Windowed()
    images, targets = torch.randn(3, 4, 3, generator=generator()), torch.zeros(3, dtype=torch.long)
    for ask in (
        lambda: contributions(model, images, site="inner", channel_dim=-1),
        lambda: attributions(model, images, [("head", 0), ("inner", 0)]),
        lambda: baseline(model, images, site="inner", targets=targets),
    ):
        with pytest.raises(InputError, match=r"'inner', shape \(6, 2, 5\), .* with the 3 images"):
            ask()
    with pytest.raises(InputError, match=r"'inner', shape \(12, 2, 5\), .* with the 6 images"):
        baselines(model, images, [("head", 0), ("inner", 0)], targets=targets)
    assert not model.inner._forward_hooks


def test_inside_inference_mode_it_is_the_same(convolutional: nn.Module) -> None:
    images = torch.randn(2, 3, 8, 8, generator=generator())
    targets, against = torch.tensor([0, 1]), torch.tensor([2, 2])
    wanted = contributions(
        convolutional, images, site="1", channel_dim=1, targets=targets, against=against
    )
    with torch.inference_mode():
        found = contributions(
            convolutional,
            images.clone(),
            site="1",
            channel_dim=1,
            targets=targets.clone(),
            against=against.clone(),
        )
        assert torch.is_inference_mode_enabled()
        made_here = nn.Linear(2, 2)
        with pytest.raises(InputError, match="'weight' of the model was made under"):
            contributions(made_here, torch.zeros(1, 2), site="", channel_dim=1)
    torch.testing.assert_close(found.per_unit, wanted.per_unit)
    torch.testing.assert_close(found.baselines, wanted.baselines)


def test_an_edited_model_that_ran_in_inference_mode_is_attributed_afterwards() -> None:
    model = nn.Sequential(nn.Linear(3, 8), LWTA(4, channel_dim=1), nn.Linear(8, 8), nn.ReLU())
    images = torch.randn(2, 3, generator=generator())
    changes = [
        Change("1", (1,), "scale", factor=2.0),
        Change("3", (1,), "scale", factor=2.0, channel_dim=1),
    ]
    with applied(model, changes):
        with torch.inference_mode():
            model(images)
        found = contributions(model, images, site="0", channel_dim=1)
    assert float(found.per_unit.abs().sum()) > 0
