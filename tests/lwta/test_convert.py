"""Conversion: what is replaced, with which dimension, what is kept, reported and refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronym.errors import DivisibilityError, InputError, UnknownNameError
from neuronym.lwta import DEFAULT_RULES, LWTA, convert, lwta_modules, trace

IMAGE = (3, 8, 8)


class Bottleneck(nn.Module):
    """One activation module, used three times with 8, 8 and 32 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(32, 8, 1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 32, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(self.conv1(x)))
        y = self.act(self.bn2(self.conv2(y)))
        out: Tensor = self.act(self.conv3(y) + x)
        return out


class Net(nn.Module):
    """Convolutions, a block that repeats its activation, functions, a token part and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.SiLU())
        self.block = Bottleneck()
        self.tokens = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU())
        self.gate = nn.Sequential(nn.Linear(64, 64), nn.Sigmoid())
        self.head = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.block(self.stem(x)))
        t = self.tokens(x.flatten(2).transpose(1, 2))
        t = torch.relu(t * self.gate(t))
        out: Tensor = self.head(t.mean(1).relu_())
        return out


def test_every_kind_of_place() -> None:
    net = Net().eval()
    twin, report = convert(net, 8, example=IMAGE)
    assert [(site.name, site.original, site.channel_dim) for site in report.replaced] == [
        ("stem.1", "SiLU", 1),
        ("block.act", "ReLU", 1),
        ("tokens.2", "GELU", -1),
        ("head.1", "ReLU", -1),
    ]
    assert report.replaced[1].channels == (8, 8, 32)
    assert report.replaced[1].calls == 3
    assert [(part.name, part.reason) for part in report.kept] == [("gate.1", "by rule")]
    assert [(c.module, c.function, c.calls) for c in report.functional] == [("", "relu", 3)]
    assert report.already == ()
    text = str(report)
    assert "4 activations replaced" in text
    assert "relu called 3x in the model's forward" in text
    with trace(twin) as record:
        twin(torch.randn(2, *IMAGE))
    assert [each.name for each in record] == [
        *("stem.1", "block.act", "block.act", "block.act", "tokens.2", "head.1")
    ]


def test_the_copy_is_a_copy_with_the_same_state() -> None:
    net = Net().train()
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    twin, _ = convert(net, 8, example=IMAGE)
    assert torch.equal(state, torch.get_rng_state())
    assert list(twin.state_dict()) == list(before)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(value, twin.state_dict()[name])
        assert value.data_ptr() != twin.state_dict()[name].data_ptr()
    assert not lwta_modules(net)
    assert all(part.training for part in twin.modules())
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in twin.modules())
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in net.modules())
    twin.load_state_dict(net.state_dict())
    assert not any(part.training for part in convert(net.eval(), 8, example=IMAGE)[0].modules())


def test_a_hook_of_the_model_does_not_run() -> None:
    net = Net()
    net.stem.register_forward_hook(lambda *_: pytest.fail("the hook ran"))
    convert(net, 8, example=IMAGE)


def test_a_second_conversion_changes_nothing() -> None:
    twin, _ = convert(Net(), 8, example=IMAGE)
    again, report = convert(twin, 4)  # needs no example either
    assert report.replaced == ()
    assert list(report.already) == ["stem.1", "block.act", "tokens.2", "head.1"]
    assert "already competitive: 4 LWTA modules" in str(report)
    assert again is not twin
    assert {part.competitors for part in lwta_modules(again).values()} == {8}


def test_skip_and_then_the_rest() -> None:
    part, report = convert(Net(), 8, example=IMAGE, skip=["head.*", "block.act"])
    assert [(kept.name, kept.reason) for kept in report.kept] == [
        ("gate.1", "by rule"),
        ("block.act", "skipped"),
        ("head.1", "skipped"),
    ]
    assert list(lwta_modules(part)) == ["stem.1", "tokens.2"]
    whole, report = convert(part, 4, example=IMAGE)
    assert [site.name for site in report.replaced] == ["block.act", "head.1"]
    assert len(report.already) == 2
    assert len(lwta_modules(whole)) == 4


def test_shared_modules_stay_shared() -> None:
    act = nn.ReLU()
    net = nn.Sequential(nn.Linear(4, 8), act, nn.Linear(8, 16), act)
    twin, report = convert(net, 4, example=(4,))
    assert isinstance(twin[1], LWTA)
    assert twin[1] is twin[3]
    assert report.replaced[0].aliases == ("3",)
    assert report.replaced[0].channels == (8, 16)


def test_the_model_itself_may_be_an_activation() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    twin, report = convert(net[1], 4, example=torch.zeros(2, 8), channel_dims={"": -1})
    assert isinstance(twin, LWTA)
    assert "(model): ReLU" in str(report)


def test_examples_of_every_form() -> None:
    net = Net()
    x = torch.zeros(2, *IMAGE)
    expected = convert(net, 8, example=IMAGE)[1]
    for example in (x, [x], {"x": x}, list(IMAGE)):
        assert convert(net, 8, example=example)[1] == expected
    net.input_size = IMAGE  # type: ignore[assignment]
    assert convert(net, 8)[1] == expected
    net.pretrained_cfg = {"input_size": IMAGE}  # type: ignore[assignment]
    del net.input_size
    assert convert(net.half(), 8)[1] == expected


class LooksAtValues(nn.Module):
    """A forward that the meta device cannot run."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act = nn.Linear(4, 8), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        if float(x.sum()) > 1e9:
            raise AssertionError
        out: Tensor = self.act(self.first(nn.functional.dropout(x, 0.5)))
        return out


def test_a_model_that_looks_at_values_runs_for_real_and_leaves_the_seed() -> None:
    net = LooksAtValues()
    state = torch.get_rng_state()
    report = convert(net, 4, example=(4,))[1]
    assert report.replaced[0].channels == (8,)
    assert torch.equal(state, torch.get_rng_state())


def test_rules_in_front_win() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.PReLU())
    rules = [("Sigmoid", "replace"), (nn.PReLU, "replace"), *DEFAULT_RULES]
    _, report = convert(net, 4, example=(4,), rules=rules)
    assert [site.name for site in report.replaced] == ["1"]
    assert [(part.name, part.reason) for part in report.kept] == [("3", "has weights of its own")]


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.act = nn.Conv2d(16, 3, 1), nn.ReLU()
        self.expand, self.gate = nn.Conv2d(3, 16, 1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True))))
        out: Tensor = x * self.gate(scale)
        return out


def test_gates_are_kept_whole() -> None:
    """Three channels inside the gate would not divide; they are not asked to."""
    net = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), SqueezeExcite(), nn.ReLU())
    _, report = convert(net, 8, example=IMAGE)
    assert [site.name for site in report.replaced] == ["1", "3"]
    assert [part.name for part in report.kept] == ["2", "2.act", "2.gate"]


class Disputed(nn.Module):
    """Adds a map whose units are in dimension 1 to one whose units are in dimension 3."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear, self.act = nn.Conv2d(3, 8, 1), nn.Linear(8, 8), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(
            self.conv(x) + self.linear(x.mean(1, keepdim=True).expand(-1, 8, 8, 8))
        )
        return out


def test_a_disputed_dimension_is_refused_and_can_be_given() -> None:
    with pytest.raises(InputError, match=r"'act' .*its producers disagree; give channel_dims="):
        convert(Disputed(), 4, example=IMAGE)
    _, report = convert(Disputed(), 4, example=IMAGE, channel_dims={"act": 1})
    assert report.replaced[0].channel_dim == 1


class Frames(nn.Module):
    """A film: maps of every frame are stacked, pooled in three dimensions, and spread again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.stacked, self.pooled, self.spread = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.whole, self.biggest = nn.AdaptiveAvgPool3d(1), nn.MaxPool3d(2)

    def forward(self, x: Tensor) -> Tensor:
        frames = torch.stack([functional.hardtanh(self.conv(x)) for _ in range(4)], 1)
        film = self.stacked(frames).transpose(1, 2)
        film = self.pooled(functional.avg_pool3d(self.biggest(film), 2))
        out: Tensor = self.spread(self.whole(film).expand(-1, -1, 2, 3, 4))
        return out


def test_units_are_followed_through_stacks_pools_and_expansions() -> None:
    _, report = convert(Frames(), 4, example=IMAGE)
    assert [(site.name, site.channel_dim, site.channels) for site in report.replaced] == [
        ("stacked", 2, (8,)),
        ("pooled", 1, (8,)),
        ("spread", 1, (8,)),
    ]


class Two(nn.Module):
    """One activation for a map (units in dimension 1) and for tokens (units last)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear, self.act = nn.Conv2d(3, 8, 1), nn.Linear(8, 16), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.linear(self.act(self.conv(x)).flatten(2).transpose(1, 2)))
        return out


class Uncalled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.aux = nn.Linear(4, 8), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        return self.aux(x) if self.training else x


def test_what_the_example_does_not_reach_is_kept_and_said() -> None:
    _, report = convert(Uncalled(), 4, example=(4,))
    assert [(part.name, part.reason) for part in report.kept] == [
        ("aux", "not called with the example")
    ]


def functional_only() -> nn.Module:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 8)

        def forward(self, x: Tensor) -> Tensor:
            return functional.gelu(self.inner(x))

    return nn.Sequential(Functional(), nn.Linear(8, 2))


@pytest.mark.parametrize(
    ("build", "arguments", "error", "message"),
    [
        (Net, {"competitors": 1}, InputError, "use the dense twin"),
        (
            Net,
            {"competitors": 16},
            DivisibilityError,
            "channels of 'block.act' in call 1; nearest that do: 8; dividing every layer: 2, 4, 8",
        ),
        (Net, {"example": None}, InputError, "Net does not say its input size; give example="),
        (Net, {"example": (3, 0)}, InputError, "the shape of one image such as (3, 224, 224)"),
        (Net, {"example": (5, 8, 8)}, InputError, "does not run on an example of shape (1, 5, 8"),
        (Net, {"skip": ["haed.*"]}, UnknownNameError, "activation pattern in skip 'haed.*'"),
        (Net, {"skip": "head.*"}, InputError, "skip must be a list of patterns"),
        (Net, {"channel_dims": {"stem.2": 1}}, UnknownNameError, "Did you mean 'stem.1'"),
        (Net, {"channel_dims": {"head.1": 3}}, InputError, "whose input has shape (1, 16)"),
        (Net, {"rules": [(3, "keep")]}, InputError, "must be a module class or its name, not 3"),
        (Net, {"rules": [("ReLU", "kep")]}, UnknownNameError, "Did you mean 'keep'"),
        (Net, {"rules": ["ReLU"]}, InputError, "a rule must be a pair"),
        (Net, {"rules": []}, InputError, "it calls activations as functions (relu in its forward)"),
        (Net, {"skip": ["*"]}, InputError, "it calls activations as functions"),
        (functional_only, {"example": (4,)}, InputError, "(gelu in 0), which cannot be replaced"),
        (lambda: nn.Linear(2, 2), {"example": (2,)}, InputError, "it has no activation module"),
        (
            lambda: nn.Sequential(nn.Linear(2, 2), nn.Tanh()),
            {"example": (2,)},
            InputError,
            "all its activations are kept: 1 (by rule)",
        ),
        (Two, {}, InputError, "'act' is called with its units in different dimensions"),
        (
            lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(3, 8, 1)),
            {},
            InputError,
            "cannot tell which dimension of '0' (input of shape (1, 3, 8, 8)) holds the units",
        ),
    ],
)
def test_bad_input(
    build: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"competitors": 8, "example": IMAGE, **arguments}
    with pytest.raises(error) as caught:
        convert(build(), **given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
