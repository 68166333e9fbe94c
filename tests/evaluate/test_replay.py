"""Replay: what comes before a site runs once, gives the same logits, and leaves nothing behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluate.faithful_nets import SIZE, Tokens, conv_net, seeded
from neuronym.evaluate.masking import MaskedRuns, place_of
from neuronym.evaluate.replay import Prefix, can_replay, replayed
from neuronym.lwta import LWTA


class Nested(nn.Module):
    """Stages of blocks with a residual stream, a shared module and operations in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = seeded(1, nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.shared = seeded(2, nn.Conv2d(8, 8, 1))
        self.first = seeded(3, nn.Conv2d(8, 16, 3, padding=1), LWTA(4, channel_dim=1))
        self.back = seeded(4, nn.Conv2d(16, 8, 1))
        self.act = LWTA(2, channel_dim=1)
        self.head = seeded(5, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x += 0.5 * self.shared(x)  # changes the stem's output in place
        x = x + self.back(self.first(x))
        x = self.act(self.shared(x))
        return self.head(self.shared(x) + x)


def images(count: int = 1) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def masks(runs: int, units: int) -> np.ndarray:
    return np.random.default_rng(0).random((runs, units)) < 0.5


def forwards(model: nn.Module) -> list[str]:
    """Modules that hold something of a replay."""
    return [
        name
        for name, part in model.named_modules()
        if "forward" in vars(part) or part._forward_hooks or part._forward_pre_hooks
    ]


@pytest.mark.parametrize(
    ("model", "site", "channel_dim", "units"),
    [
        (Nested(), "first.1", 1, 16),
        (Nested(), "act", 1, 8),
        (Nested(), "stem.1", 1, 8),
        (conv_net(), "1", 1, 16),
        (conv_net(), "4", 1, 12),
        (Tokens(), "mid.1", -1, 20),
    ],
)
def test_replayed_runs_give_the_same(model, site, channel_dim, units) -> None:
    runs = MaskedRuns(model.eval(), place_of(model, site, channel_dim), batch_size=7)
    keep = masks(18, units)
    found = runs(images()[0], keep)
    assert runs.replays
    runs.replays = False
    assert found == pytest.approx(runs(images()[0], keep), abs=1e-5)
    assert forwards(model) == []
    assert found.std(0).min() > 1e-4  # the masks matter


def test_what_is_done_before_the_site_runs_once() -> None:
    model = Nested().eval()
    calls: list[str] = []

    class Counted(nn.Module):
        def __init__(self, name: str, part: nn.Module) -> None:
            super().__init__()
            self.name, self.part = name, part

        def forward(self, x: Tensor) -> Tensor:
            calls.append(self.name)
            return self.part(x)

    model.stem = Counted("stem", model.stem)
    model.shared = Counted("shared", model.shared)
    model.head = Counted("head", model.head)
    runs = MaskedRuns(model, place_of(model, "first.1", 1), batch_size=4)
    runs.replays = True
    runs(images()[0], masks(8, 16))
    # Once for the prefix, then two batches: of the shared module only the calls after the site.
    assert calls.count("stem") == 1
    assert calls.count("head") == 3
    assert calls.count("shared") == 3 + 2 * 2


def test_the_prefix_holds_the_outermost_modules() -> None:
    model = Nested().eval()
    with torch.no_grad():
        prefix = Prefix(model, images(), "act")
    names = {part: name for name, part in model.named_modules()}
    held = {names[part]: len(outputs) for part, outputs in prefix.outputs.items()}
    assert held == {"stem": 1, "shared": 2, "first": 1, "back": 1}
    with torch.no_grad():
        prefix = Prefix(model, images(), "first.1")
    held = {names[part]: len(outputs) for part, outputs in prefix.outputs.items()}
    assert held == {"stem": 1, "shared": 1, "first.0": 1}


def test_a_part_without_images_in_front_is_not_replayed() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.inner(x), x

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.turned = Pair(), nn.Identity()
            self.flat, self.act = nn.Flatten(), nn.Identity()
            self.head = seeded(3, nn.Linear(3 * SIZE * SIZE, 3))

        def forward(self, x: Tensor) -> Tensor:
            first, second = self.pair(x)
            turned = self.turned((first + second).transpose(0, 1))
            return self.head(self.act(self.flat(turned.transpose(0, 1))))

    model = Net().eval()
    prefix = Prefix(model, images(), "act")
    names = {part: name for name, part in model.named_modules()}
    assert {names[part] for part in prefix.outputs} == {"pair.inner", "flat"}
    runs = MaskedRuns(model, place_of(model, "act", 1), batch_size=5)
    keep = masks(9, 3 * SIZE * SIZE)
    found = runs(images()[0], keep)
    assert runs.replays
    whole = images().expand(9, -1, -1, -1).flatten(1) * torch.from_numpy(keep) * 2
    assert found == pytest.approx(model.head(whole).detach().numpy(), abs=1e-5)


def test_a_network_that_replay_would_change_runs_whole() -> None:
    class Counting(nn.Module):
        """What its first part returns depends on how often it was asked: a state, not an input."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.act = nn.Identity(), nn.Identity()
            self.flat, self.head = nn.Flatten(), seeded(3, nn.Linear(3 * SIZE * SIZE, 3))

        def forward(self, x: Tensor) -> Tensor:
            batch = self.inner(torch.full((1, len(x)), float(len(x))))  # of the batch, not of it
            return self.head(self.act(self.flat(x))) + batch.sum() / len(x)

    model = Counting().eval()
    runs = MaskedRuns(model, place_of(model, "act", 1), batch_size=5)
    keep = masks(5, 3 * SIZE * SIZE)
    for tries in (None, None, False):
        found = runs(images()[0], keep)
        assert runs.replays is tries
    whole = images().expand(5, -1, -1, -1).flatten(1) * torch.from_numpy(keep)
    assert found == pytest.approx((model.head(whole) + 5).detach().numpy(), abs=1e-5)


def test_hooks_of_others_and_later_calls_forbid_it() -> None:
    model = Nested()
    assert can_replay(model, 0)
    assert not can_replay(model, 1)
    handle = model.stem.register_forward_hook(lambda *_: None)
    assert not can_replay(model, 0)
    handle.remove()
    assert can_replay(model, 0)
    model.head.forward = model.head.forward  # type: ignore[method-assign]  # as compiled ones have
    assert not can_replay(model, 0)
    runs = MaskedRuns(model.eval(), place_of(model, "act", 1), batch_size=4)
    runs(images()[0], masks(3, 8))
    assert runs.replays is False
    assert "forward" in vars(model.head)


def test_after_a_failure_nothing_is_left() -> None:
    class Fails(Nested):
        def forward(self, x: Tensor) -> Tensor:
            self.act(self.stem(x))
            raise RuntimeError("no")

    model = Fails().eval()
    with pytest.raises(RuntimeError, match="no"):
        Prefix(model, images(), "act")
    assert forwards(model) == []
    healthy = Nested().eval()
    prefix = Prefix(healthy, images(), "act")
    with replayed(prefix, 2):
        assert set(forwards(healthy)) == {"stem", "shared", "first", "back"}
    assert forwards(healthy) == []

    def fail() -> None:
        with replayed(prefix, 2):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert forwards(healthy) == []
