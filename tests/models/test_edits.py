"""Edits of a model: exactness, composition, restoration, and what they refuse."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronym.errors import InputError, UnknownNameError, UnreadableError
from neuronym.lwta import LWTA, inference, kl_to_uniform, sparsify, trace
from neuronym.models import (
    Change,
    Edit,
    LoadedModel,
    Preprocessing,
    applied,
    apply,
    make_edit,
    variants,
)

SITE = "act"
U = 4


class Net(nn.Module):
    """One competitive layer between two maps; ``kind`` says what its units lie on."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        dim = 1 if kind == "conv" else -1
        self.before: nn.Module = nn.Conv2d(3, 12, 3) if kind == "conv" else nn.Linear(5, 12)
        self.act = LWTA(U, channel_dim=dim)
        self.after = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.before(x))
        if self.kind == "conv":
            y = y.mean((2, 3))
        elif self.kind == "tokens":
            y = y.mean(1)
        out: Tensor = self.after(y)
        return out


SHAPES = {"linear": (40, 5), "tokens": (6, 7, 5), "conv": (6, 3, 11, 9)}


def seeded(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    return module.eval()


def net(kind: str) -> Net:
    return seeded(Net(kind))  # type: ignore[return-value]


def inputs(kind: str, seed: int = 1) -> Tensor:
    return torch.randn(SHAPES[kind], generator=torch.Generator().manual_seed(seed))


def by_hand(
    model: Net, x: Tensor, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> Tensor:
    """Recompute with ``change(z, y) → (z of the search, factor of y)``, units last, in a loop."""
    z = model.before(x).movedim(model.act.channel_dim, -1)
    search, factor = change(z, torch.ones(12))
    y = torch.zeros(z.shape)
    flat_z, flat_s, flat_y = z.reshape(-1, 12), search.reshape(-1, 12), y.view(-1, 12)
    for row in range(len(flat_z)):
        for block in range(12 // U):
            unit = block * U + int(flat_s[row, block * U : (block + 1) * U].argmax())
            flat_y[row, unit] = flat_z[row, unit] * factor[unit]
    if model.kind != "linear":
        y = y.flatten(1, -2).mean(1)
    out: Tensor = model.after(y)
    return out


def minus_infinity(*units: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def change(z: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        search = z.clone()
        search[..., list(units)] = -math.inf
        return search, factor

    return change


def factors(**changed: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def change(z: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        for unit, value in changed.items():
            factor[int(unit[1:])] = value
        return z, factor

    return change


def wins_of(model: Net, x: Tensor) -> Tensor:
    with trace(model, keep="winners") as found:
        model(x)
    return found[0].mask.movedim(model.act.channel_dim, -1).reshape(-1, 12)


@pytest.mark.parametrize("kind", SHAPES)
@torch.no_grad()
def test_each_action_is_what_a_loop_computes(kind: str) -> None:
    model, x = net(kind), inputs(kind)
    before = model(x)
    assert torch.allclose(before, by_hand(model, x, factors()), atol=1e-6)
    for changes, change in (
        (Change(SITE, (1, 6), "silence"), factors(u1=0.0, u6=0.0)),
        (Change(SITE, (1, 6), "scale", factor=-1.5), factors(u1=-1.5, u6=-1.5)),
        (Change(SITE, (0, 1, 6), "hand_over"), minus_infinity(0, 1, 6)),
        (Change(SITE, (2, 9), "force"), minus_infinity(0, 1, 3, 8, 10, 11)),
    ):
        with applied(model, changes):
            after = model(x)
        assert torch.allclose(after, by_hand(model, x, change), atol=1e-6), changes
        assert not torch.allclose(after, before, atol=1e-3), changes
    assert torch.equal(model(x), before)


@pytest.mark.parametrize("kind", SHAPES)
@torch.no_grad()
def test_a_named_rival_passes_only_where_the_unit_won(kind: str) -> None:
    model, x = net(kind), inputs(kind)
    won = wins_of(model, x)
    with applied(model, Change(SITE, (1,), "hand_over", to=3)):
        after = wins_of(model, x)
        out = model(x)
    expected = won.clone()
    expected[:, 3] |= won[:, 1]
    expected[:, 1] = False
    assert bool(won[:, 1].any())
    assert torch.equal(after, expected)
    z = model.before(x).movedim(model.act.channel_dim, -1)
    y = (z.reshape(-1, 12) * expected).view(z.shape)
    y = y if kind == "linear" else y.flatten(1, -2).mean(1)
    assert torch.allclose(out, model.after(y), atol=1e-6)


@torch.no_grad()
def test_a_trace_sees_the_winners_that_really_pass() -> None:
    model, x = net("tokens"), inputs("tokens")
    with applied(model, [Change(SITE, (2,), "force"), Change(SITE, (5,), "silence")]):
        won = wins_of(model, x)
    assert bool(won[:, 2].all())
    assert bool(won[:, 5].any())  # a silent unit still wins: its block passes nothing


CHANGES = [
    Change(SITE, (0,), "hand_over"),
    Change(SITE, (1,), "hand_over", to=3),
    Change(SITE, (6,), "force"),
    Change(SITE, (8,), "silence"),
    Change(SITE, (9,), "scale", factor=2.0),
]


@pytest.mark.parametrize("kind", SHAPES)
@torch.no_grad()
def test_expectation_by_its_formula(kind: str) -> None:
    model, x = net(kind), inputs(kind)
    z = model.before(x).movedim(model.act.channel_dim, -1).double()
    search = z.clone()
    search[..., [0, 4, 5, 7]] = -math.inf
    q = search.unflatten(-1, (3, U)).softmax(-1).flatten(-2)
    q[..., 3] += q[..., 1]
    q[..., 1] = 0
    factor = torch.ones(12, dtype=torch.float64)
    factor[8], factor[9] = 0.0, 2.0
    with inference(model, "expected"), applied(model, CHANGES), trace(model) as found:
        y = model.act(model.before(x)).movedim(model.act.channel_dim, -1)
        divergence = float(kl_to_uniform(found))
    assert torch.allclose(y.double(), q * z * factor, atol=1e-6)
    by_formula = float((torch.special.xlogy(q, q) + q * math.log(U)).sum())
    assert divergence * len(x) == pytest.approx(by_formula, rel=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
@torch.no_grad()
def test_random_winners_are_drawn_from_what_is_left(kind: str) -> None:
    model, x = net(kind), inputs(kind)
    z = model.before(x[:1]).expand(4000, *[-1] * (x.dim() - 1)).contiguous()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        with inference(model, "sample"), applied(model, CHANGES):
            with trace(model, keep="winners") as found:
                y = model.act(z).movedim(model.act.channel_dim, -1)
            won = found[0].mask.movedim(model.act.channel_dim, -1)
    with inference(model, "expected"), applied(model, CHANGES[:3]):
        q = model.act(z[:1]).movedim(model.act.channel_dim, -1) / z[:1].movedim(
            model.act.channel_dim, -1
        )
    share = won.double().mean(0)
    assert float((share - q[0]).abs().max()) < 0.05  # six standard errors of 4000 draws
    assert not bool(won[..., [0, 1, 4, 5, 7]].any())
    assert bool((y[..., 8] == 0).all())
    shown = won[..., 9]
    assert torch.allclose(y[..., 9][shown], 2 * z.movedim(model.act.channel_dim, -1)[..., 9][shown])


def gradient(z: Tensor, changes: list[Change], upstream: Tensor, *, train: bool) -> Tensor:
    layer = nn.Sequential(nn.Identity(), LWTA(U, temperature=0.5))
    layer.train(train)
    at = z.clone().requires_grad_()
    moved = [Change("1", c.units, c.action, to=c.to, factor=c.factor) for c in changes]
    with torch.random.fork_rng():
        torch.manual_seed(5)
        with applied(layer, moved):
            y = layer(at)
    (found,) = torch.autograd.grad((y * upstream).sum(), at)
    return found


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("changes", [CHANGES, CHANGES[:1] + CHANGES[2:]], ids=["heir", "none"])
def test_gradients_by_autograd_of_the_formula(changes: list[Change], train: bool) -> None:
    """``y = T(hard + soft − stop_gradient(soft))·z`` times factors, under the same noise."""
    from neuronym.lwta.noise import draw_key, gumbel

    z = torch.randn(9, 12, generator=torch.Generator().manual_seed(7))
    upstream = torch.randn(9, 12, generator=torch.Generator().manual_seed(8))
    at = z.double().requires_grad_()
    search = at.clone()
    search[:, [0, 4, 5, 7]] = -math.inf
    blocks = search.unflatten(1, (3, U))
    if train:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            noise = gumbel((9, 12), key=draw_key()).double()
        blocks = blocks + noise.unflatten(1, (3, U))
    xi = functional.one_hot(blocks.argmax(-1), U).double()
    if train:
        soft = (blocks / 0.5).softmax(-1)
        xi = xi + soft - soft.detach()
    xi = xi.flatten(1)
    if changes is CHANGES:
        moved = torch.eye(12, dtype=torch.float64)
        moved[1, 1], moved[1, 3] = 0.0, 1.0
        xi = xi @ moved
    factor = torch.ones(12, dtype=torch.float64)
    factor[8], factor[9] = 0.0, 2.0
    y = xi * at * factor
    (expected,) = torch.autograd.grad((y * upstream).sum(), at)
    found = gradient(z, changes, upstream, train=train)
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert bool(found.isfinite().all())


@torch.no_grad()
def test_fused_and_plain_paths_agree() -> None:
    model, x = net("conv"), inputs("conv")
    with applied(model, CHANGES):
        fused = model(x)
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)
        assert torch.allclose(last(x.to(memory_format=torch.channels_last)), fused, atol=1e-6)
        plain = copy.deepcopy(model).double()(x.double())  # the copy keeps the edit
    assert torch.allclose(fused.double(), plain, atol=1e-5)
    with applied(model, CHANGES):
        half = model.act(model.before(x).to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert bool(half.isfinite().all())


@torch.no_grad()
def test_excluded_units_never_show_whatever_they_hold() -> None:
    model = nn.Sequential(nn.Identity(), LWTA(U)).eval()
    z = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    z[:, 1], z[:, 6] = math.nan, math.inf
    with applied(model, Change("1", (1, 6), "hand_over")):
        assert bool(model(z).isfinite().all())
        with inference(model, "expected"):
            assert bool(model(z).isfinite().all())


class Dense(nn.Module):
    """A module that is called twice, and a block whose units' dimension nobody says."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.second(self.relu(self.first(x))))
        out: Tensor = self.head(y.mean((2, 3)))
        return out


def loaded(module: nn.Module, size: int = 6) -> LoadedModel:
    transform = Preprocessing(input_size=(3, size, size))
    return LoadedModel(module, transform, None, "toy", (3, size, size))


@torch.no_grad()
def test_dense_sites_by_hand_and_each_call_of_a_module_on_its_own() -> None:
    model = loaded(seeded(Dense()))
    net, x = model.module, torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    once = net.relu(net.first(x))

    def head(y: Tensor) -> Tensor:
        out: Tensor = net.head(y.mean((2, 3)))
        return out

    changed = once.clone()
    changed[:, 2], changed[:, 4] = 0.0, 0.7
    edit = make_edit(
        model, [Change("relu", (2,), "silence"), Change("relu", (4,), "force", value=0.7)]
    )
    assert edit.changes[0].channel_dim == 1  # followed through the operations
    expected = head(net.relu(net.second(changed)))
    with applied(model, edit):
        assert torch.allclose(net(x), expected, atol=1e-6)
    twice = net.relu(net.second(once))
    twice[:, 5] *= 3
    expected = head(twice)
    with applied(model, Change("relu#1", (5,), "scale", factor=3.0)):
        assert torch.allclose(net(x), expected, atol=1e-6)
        assert torch.equal(net.relu(once), once)  # outside a pass of the model: the first call
    assert not net.relu._forward_hooks
    assert not net._forward_pre_hooks


@torch.no_grad()
def test_nested_edits_compose_and_each_is_taken_back() -> None:
    model, x = net("linear"), inputs("linear")
    plain = model(x)
    outer, inner = Change(SITE, (0,), "hand_over"), Change(SITE, (5,), "force")
    with applied(model, [outer, inner]):
        both = model(x)
    with applied(model, outer):
        alone = model(x)
        with applied(model, inner):
            assert torch.equal(model(x), both)
        assert torch.equal(model(x), alone)
    assert torch.equal(model(x), plain)
    double = Change(SITE, (3, 7, 8), "scale", factor=2.0)
    with applied(model, double), applied(model, double):
        twice = model(x)
    with applied(model, Change(SITE, (3, 7, 8), "scale", factor=4.0)):
        assert torch.allclose(model(x), twice)
    chain = Change(SITE, (1,), "hand_over", to=2), Change(SITE, (2,), "hand_over", to=0)
    with applied(model, chain[0]), applied(model, chain[1]):
        chained = model(x)
    with applied(model, Change(SITE, (1, 2), "hand_over", to=0)):
        assert torch.equal(model(x), chained)


def test_nested_edits_may_not_empty_a_block() -> None:
    model = net("linear")
    with (
        applied(model, Change(SITE, (0, 1), "hand_over")),
        pytest.raises(InputError, match="every unit of block 0"),
        applied(model, Change(SITE, (2, 3), "silence")),
    ):
        pass
    assert model.act.edit is None
    assert not model._forward_hooks


def test_the_model_is_as_before_after_an_error() -> None:
    model = net("linear")
    with pytest.raises(RuntimeError, match="stop"), applied(model, CHANGES):
        raise RuntimeError("stop")
    assert model.act.edit is None
    assert not model._forward_hooks
    assert not model._forward_pre_hooks
    dense = seeded(Dense())
    with (
        pytest.raises(InputError, match="has units 0 to 5, not 6"),
        applied(dense, Change("first", (6,), "silence")),
    ):
        dense(torch.zeros(2, 3, 4, 4))
    assert not dense.first._forward_hooks


@torch.no_grad()
def test_a_sparse_layer_reads_the_winners_that_pass() -> None:
    model, x = net("linear"), inputs("linear")
    sparse = sparsify(model, example=x, only_faster=False)
    assert type(sparse.after).__name__ == "SparseLinear"
    for changes in (CHANGES, CHANGES[:1], CHANGES[1:2], CHANGES[3:]):
        with applied(model, changes), applied(sparse, changes):
            assert torch.allclose(sparse(x), model(x), atol=1e-6)


@torch.no_grad()
def test_for_good_with_the_same_state_dict_and_another_fingerprint() -> None:
    model = loaded(nn.Sequential(seeded(Net("conv"))), 9)
    x = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(4))
    moved = [
        Change("0.act", c.units, c.action, to=c.to, factor=c.factor, value=c.value) for c in CHANGES
    ]
    dense = Change("0.before", (3,), "force", value=0.5)
    made = apply(model, [*moved, dense])
    with applied(model, moved), applied(model, dense):
        assert torch.equal(made.module(x), model.module(x))
    assert made.module.state_dict().keys() == model.module.state_dict().keys()
    model.module.load_state_dict(made.module.state_dict())
    prints = {made.fingerprint, model.fingerprint, apply(model, dense).fingerprint}
    prints.add(apply(model, Change("0.before", (3,), "force", value=0.6)).fingerprint)
    assert len(prints) == 4
    assert apply(model, [*moved, dense]).fingerprint == made.fingerprint
    with (
        pytest.raises(InputError, match="made from another model"),
        applied(made, make_edit(model, dense)),
    ):
        pass


@torch.no_grad()
def test_a_captured_graph_keeps_the_edit_and_leaves_nothing_behind() -> None:
    model = apply(loaded(nn.Sequential(seeded(Net("conv"))), 9), Change("0.act", (0, 5), "force"))
    x = torch.randn(3, 3, 9, 9, generator=torch.Generator().manual_seed(4))
    program = torch.export.export(model.module, (x,), strict=False)
    assert torch.allclose(program.module()(x), model.module(x), atol=1e-6)


@pytest.mark.parametrize("kind", SHAPES)
@torch.no_grad()
def test_variants_side_by_side_equal_one_at_a_time(kind: str) -> None:
    model, x = net(kind), inputs(kind)[:2]
    edits: list[list[Change]] = [[change] for change in CHANGES]
    edits += [CHANGES, [Change("before", (2,), "silence", channel_dim=model.act.channel_dim)]]
    found = variants(model, x, edits, batch_size=5)
    assert found.shape == (7, 2, 3)
    for row, edit in zip(found, edits, strict=True):
        with applied(model, edit):
            assert torch.allclose(row, model(x), atol=1e-6)
    assert model.act.edit is None


def test_variants_refuse_positions_in_the_first_dimension() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = LWTA(2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.act(x.reshape(-1, 4)).view(len(x), -1)
            return out

    edits = [Change("act", (unit,), "silence") for unit in range(3)]
    with pytest.raises(InputError, match="make one at a time"):
        variants(Folded(), torch.zeros(1, 8), edits)


def test_saved_and_loaded(tmp_path: Path) -> None:
    edit = Edit(tuple(CHANGES), "toy", "0123456789abcdef")
    edit.save(tmp_path / "edit.json")
    assert Edit.load(tmp_path / "edit.json") == edit
    record = json.loads((tmp_path / "edit.json").read_text())
    assert record["changes"][0] == {"site": SITE, "units": [0], "action": "hand_over"}
    del record["changes"][0]["units"]
    (tmp_path / "edit.json").write_text(json.dumps(record))
    with pytest.raises(UnreadableError, match="not a whole edit"):
        Edit.load(tmp_path / "edit.json")
    (tmp_path / "edit.json").write_text(json.dumps({**record, "schema": 99}))
    with pytest.raises(UnreadableError, match="update neuronym"):
        Edit.load(tmp_path / "edit.json")


BAD: list[tuple[list[Change], str]] = [
    ([Change("akt", (0,), "silence")], "no site 'akt'; nearest: act"),
    ([Change(SITE, (12,), "silence")], "has units 0 to 11, not 12"),
    ([Change(SITE, (4, 5, 6, 7), "silence")], "'act': every unit of block 1 (units 4 to 7)"),
    ([Change(SITE, (4, 5, 6, 7), "hand_over")], "no unit of block 1 (units 4 to 7) could win"),
    ([Change(SITE, (4,), "force"), Change(SITE, (6,), "force")], "only one of them can be forced"),
    ([Change(SITE, (4,), "force", value=1.0)], "takes no value"),
    ([Change(SITE, (4,), "hand_over", to=8)], "another unit of its block 1 (4 to 7), not to 8"),
    ([Change("before", (4,), "force")], "does not compete, so that no unit can force"),
    ([Change("before", (4,), "hand_over")], "no unit can hand_over: use silence or scale"),
    (
        [Change(SITE, (0, 1, 2), "hand_over"), Change(SITE, (3,), "scale", factor=0.0)],
        "every unit of block 0",
    ),
    ([Change("act#1", (0,), "silence")], "'act#1' is not called 2 times"),
]


@pytest.mark.parametrize(("changes", "text"), BAD, ids=[text[:30] for _, text in BAD])
def test_refused_by_the_model(changes: list[Change], text: str) -> None:
    module = seeded(Net("conv"))
    with pytest.raises(InputError) as error:
        make_edit(loaded(module), changes)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_refused_by_themselves() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'silence'"):
        Change(SITE, (0,), "silense")
    for make, text in (
        (lambda: Change(SITE, (), "silence"), "names no unit"),
        (lambda: Change(SITE, (-1,), "silence"), "whole number from 0, not -1"),
        (lambda: Change(SITE, (1, 1), "silence"), "act/1 is named twice"),
        (lambda: Change(SITE, (1,), "scale"), "needs a factor"),
        (lambda: Change(SITE, (1,), "scale", factor=math.inf), "finite number, not inf"),
        (lambda: Change(SITE, (1,), "silence", factor=1.0), "takes no factor"),
        (lambda: Change(SITE, (4,), "hand_over", to=4), "act/4 cannot hand over to itself"),
        (lambda: Edit(()), "at least one change"),
        (
            lambda: Edit((Change(SITE, (1,), "silence"), Change(SITE, (1,), "force"))),
            "act/1 is in two changes that contradict each other: silence and force",
        ),
        (
            lambda: Edit(
                (Change(SITE, (1,), "hand_over", to=2), Change(SITE, (2,), "hand_over", to=0))
            ),
            "act/2 is to take over, and hands over itself",
        ),
    ):
        with pytest.raises(InputError, match=text):
            make()


def test_a_plain_module_must_say_what_cannot_be_known() -> None:
    model = seeded(Dense())
    with (
        pytest.raises(InputError, match="give the change a channel_dim"),
        applied(model, Change("relu", (0,), "silence")),
    ):
        pass
    with torch.no_grad(), applied(model, Change("relu", (0,), "silence", channel_dim=1)):
        model(torch.zeros(2, 3, 4, 4))


class ChannelsFirstNorm(nn.LayerNorm):
    """A layer normalisation of the second dimension, which is no plain ``LayerNorm``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@torch.no_grad()
def test_a_norm_of_the_second_dimension_is_edited_there() -> None:
    norm = ChannelsFirstNorm(8)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    model = loaded(seeded(nn.Sequential(nn.Conv2d(3, 8, 3), norm, *head)), 12)
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    expected = norm(model.module[0](x))
    expected[:, 3] = 0
    change = Change("1", (3,), "silence")
    assert make_edit(model, change).changes[0].channel_dim == 1
    for edit in (change, make_edit(model, change)):
        with applied(model, edit):
            assert torch.equal(norm(model.module[0](x)), expected)
    with pytest.raises(InputError, match="has units 0 to 7, not 9"):
        make_edit(model, Change("1", (9,), "silence"))  # of the 10 columns there is a ninth
    with (
        pytest.raises(InputError, match="of '1' holds the units is not known; give the change a"),
        applied(model.module, change),
    ):
        pass


@torch.no_grad()
def test_a_plain_layer_norm_is_edited_in_its_last_dimension() -> None:
    model = loaded(seeded(nn.Sequential(nn.Flatten(), nn.Linear(108, 6), nn.LayerNorm(6))))
    change = Change("2", (1,), "silence")
    assert make_edit(model, change).changes[0].channel_dim == -1
    with applied(model.module, change):
        assert not model.module(torch.ones(2, 3, 6, 6))[:, 1].any()


@torch.no_grad()
def test_edits_of_one_dense_module_keep_to_one_dimension() -> None:
    """A second edit's ``channel_dim`` is not ignored: the same dimension, or a refusal."""
    model = loaded(seeded(Dense()))
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    first = Change("relu", (1,), "silence", channel_dim=1)
    same = Change("relu", (2,), "silence", channel_dim=-3)
    other = Change("relu", (2,), "silence", channel_dim=-1)
    later = replace(other, site="relu#1")
    with applied(model.module, [first, same]):
        together = model.module(x)
    with applied(model.module, first), applied(model.module, same):
        assert torch.equal(model.module(x), together)
        with (
            pytest.raises(InputError, match="along the dimensions 1 and -3 and -1 of its output"),
            applied(model.module, other),
        ):
            model.module(x)
        assert torch.equal(model.module(x), together)
    for changes in ([first, other], [first, later]):
        with (
            pytest.raises(InputError, match="along the dimensions 1 and -1"),
            applied(model.module, changes),
        ):
            model.module(x)
    with pytest.raises(InputError, match="along the dimensions 1 and -1"):
        make_edit(model, [first, other])
    with pytest.raises(InputError, match="along the dimensions -1 and 1"):
        make_edit(apply(model, first), other)


@torch.no_grad()
def test_variants_may_measure_a_block_that_passes_nothing() -> None:
    model, x = net("linear"), inputs("linear")
    changes = [Change(SITE, (0, 1, 2, 3), "silence"), Change(SITE, (5,), "silence")]
    with pytest.raises(InputError, match="every unit of block 0"):
        variants(model, x, changes)
    found = variants(model, x, changes, silent=True)
    y = model.act(model.before(x))
    for row, units in zip(found, ([0, 1, 2, 3], [5]), strict=True):
        without = y.clone()
        without[:, units] = 0
        assert torch.allclose(row, model.after(without), atol=1e-6)
    with pytest.raises(InputError, match="no unit of block 0"):
        variants(model, x, [Change(SITE, (0, 1, 2, 3), "hand_over")], silent=True)
