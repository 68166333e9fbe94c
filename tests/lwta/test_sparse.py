"""Sparse inference: equal outputs, live weights, fallbacks, and the choice by measurement."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neuronym.errors import InputError, UnknownNameError
from neuronym.lwta import (
    LWTA,
    columns,
    convert,
    sampling,
    sparse,
    sparse_layers,
    sparsify,
    sparsity_report,
    trace,
)
from neuronym.lwta.sparse_layers import SparseConv2d, SparseLinear


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Mlp(nn.Module):
    """The order of a transformer's block: a map, the activation, dropout, an identity, a map."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.drop = nn.Linear(12, 48), LWTA(8), nn.Dropout(0.5)
        self.norm, self.fc2 = nn.Identity(), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.norm(self.drop(self.act(self.fc1(x)))))


class Bottleneck(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 24, 3, padding=1), LWTA(6, 1)
        self.out = nn.Conv2d(24, 40, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.conv(x)))


def seeded(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model.eval()


def both(model: nn.Module, x: Tensor) -> tuple[nn.Module, Callable[[], bool]]:
    """Return the sparse copy, and a function that says whether the columns were used since."""
    found = sparsify(model, example=x, only_faster=False)
    used: list[None] = []

    def product(*arguments: object) -> Tensor:
        used.append(None)
        return columns.product(*arguments)  # type: ignore[arg-type]

    pytest.MonkeyPatch().setattr(sparse_layers, "product", product)

    def since() -> bool:
        answer = bool(used)
        used.clear()
        return answer

    return found, since


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_layers, "product", columns.product)  # `both` puts it back by this


@pytest.mark.parametrize("shape", [(12,), (5, 12), (3, 7, 12)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_linear_and_token_layers_equal_the_dense_evaluation(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    model, x = seeded(Mlp()).to(dtype), noise(*shape).to(dtype)
    found, used = both(model, x)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.1}.get(dtype, 0.01)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            y = found(x)
            assert used()
            assert y.dtype == dtype
            assert torch.allclose(y, model(x), atol=tolerance)
    assert isinstance(found.fc2, SparseLinear)
    assert type(found.fc1) is nn.Linear


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [1, 5, 11, 23])
def test_pointwise_convolutions_equal_the_dense_evaluation(
    size: int, memory: torch.memory_format, bias: bool
) -> None:
    model = seeded(Bottleneck(bias)).to(memory_format=memory)
    x = noise(2, 3, size, size).to(memory_format=memory)
    found, used = both(model, x)
    with torch.no_grad():
        y, expected = found(x), model(x)
    assert used()
    assert isinstance(found.out, SparseConv2d)
    assert torch.allclose(y, expected, atol=1e-5)
    assert y.is_contiguous(memory_format=memory)


def test_several_threads_add_up_in_the_same_order() -> None:
    model, x = seeded(Bottleneck(True)), noise(4, 3, 33, 31)
    found, _ = both(model, x)
    before = torch.get_num_threads()
    try:
        with torch.no_grad():
            answers = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                activations = model.act(noise(4, 24, 33, 31))
                note = sparse_layers.note_on(found.act(noise(4, 24, 33, 31)))
                assert note is not None
                weight = found.out.weight[:, :, 0, 0].t()
                answers.append(columns.product(activations, note, weight, found.out.bias))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    assert found(x).shape == (4, 40, 33, 31)


def test_the_state_dict_is_that_of_the_dense_model(tmp_path: Path) -> None:
    for model, x in ((seeded(Mlp()), noise(4, 12)), (seeded(Bottleneck(True)), noise(1, 3, 6, 6))):
        found, used = both(model, x)
        states = found.state_dict(), model.state_dict()
        assert list(states[0]) == list(states[1])
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])
        for key, value in found.named_parameters():
            assert states[0][key].data_ptr() == value.data_ptr(), "a write there is a write here"
        plain = {key: value.contiguous() for key, value in states[0].items()}
        save_file(plain, tmp_path / "weights.safetensors")
        copy.deepcopy(model).load_state_dict(load_file(tmp_path / "weights.safetensors"))
        twin = pickle.loads(pickle.dumps(copy.deepcopy(found)))
        used()
        with torch.no_grad():
            assert torch.equal(twin(x), found(x))
        assert used()
        assert str(sparsity_report(twin)) == str(sparsity_report(found))


@pytest.mark.parametrize("how", ["load", "in place", "data", "new data", "dtype"])
def test_later_changes_of_the_weights_hold_at_once(how: str) -> None:
    x = noise(4, 12)
    model = seeded(Mlp())
    found, used = both(model, x)
    other = noise(10, 48, seed=8)
    if how == "load":
        found.load_state_dict({**model.state_dict(), "fc2.weight": other})
    elif how == "in place":
        with torch.no_grad():
            found.fc2.weight.copy_(other)
    elif how == "data":
        found.fc2.weight.data.copy_(other)
    elif how == "new data":
        found.fc2.weight.data = other
    else:
        found, model, x = found.double(), model.double(), x.double()
        other = other.double()
        found.load_state_dict({**model.state_dict(), "fc2.weight": other})
    model.fc2.weight.data = other.clone()
    with torch.no_grad():
        assert torch.allclose(found(x), model(x), atol=1e-5)
    assert used()


def close(ours: Tensor | None, theirs: Tensor | None) -> bool:
    """Whether both are the same products, added up in another order at most."""
    assert ours is not None
    assert theirs is not None
    return torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_tensor_of_another_rank_is_evaluated_densely() -> None:
    made = nn.Sequential(LWTA(4, channel_dim=1), nn.Linear(64, 8)).eval()
    found = sparsify(made, example=noise(5, 64), only_faster=False)
    pixels = nn.Sequential(nn.Conv2d(3, 32, 1), LWTA(8, 1), nn.Conv2d(32, 16, 1)).eval()
    seen = sparsify(pixels, example=noise(2, 3, 6, 6), only_faster=False)
    with torch.no_grad():
        for x in (noise(3, 16, 64), noise(3, 64, 64)):
            assert close(found(x), made(x))
        assert close(seen(noise(3, 16, 16)), pixels(noise(3, 16, 16)))


def test_the_note_stays_behind_when_an_activation_is_saved(tmp_path: Path) -> None:
    model, x = seeded(Mlp()), noise(6, 12)
    found, used = both(model, x)
    kept: list[Tensor] = []
    found.get_submodule("act").register_forward_hook(lambda _, __, y: kept.append(y))
    with torch.no_grad():
        found(x)
        assert used()
        torch.save(kept[0], tmp_path / "y.pt")
        loaded = torch.load(tmp_path / "y.pt", weights_only=True)
        assert torch.equal(loaded, kept[0])
        assert close(found.fc2(loaded), found.fc2(kept[0]))
        assert close(torch.vmap(found)(x[:, None])[:, 0], model(x))


def test_what_needs_the_dense_evaluation_gets_that() -> None:
    model, x = seeded(Mlp()), noise(6, 12)
    found, used = both(model, x)
    y = found(x)  # gradients are on
    assert close(y, model(x))
    y.sum().backward()
    model(x).sum().backward()
    for ours, theirs in zip(found.parameters(), model.parameters(), strict=True):
        assert close(ours.grad, theirs.grad)
    with torch.no_grad():
        answers = []
        for net in (found.train(), model.train()):
            torch.manual_seed(2)
            answers.append(net(x))
        assert close(*answers)
        found.eval()
        model.eval()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert found(x).dtype == torch.bfloat16
        assert found(x[:0]).shape == (0, 10)
        assert not used()
        compiled = torch.compile(found, backend="aot_eager", fullgraph=True)
        assert torch.allclose(compiled(x), model(x), atol=1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing is deprecated, but people still do it
            traced = torch.jit.trace(found, x, check_trace=False)
        assert torch.allclose(traced(2 * x), model(2 * x), atol=1e-6)
        assert not used()


def test_sampled_winners_and_traces_are_those_of_the_dense_model() -> None:
    model, x = seeded(Mlp()), noise(6, 12)
    found, used = both(model, x)
    answers, winners = [], []
    for net in (found, model):
        torch.manual_seed(5)
        with torch.no_grad(), sampling(net), trace(net, keep="winners") as record:
            answers.append(net(x))
            winners.append(record[0].winners)
    assert used()
    assert torch.equal(*winners)
    assert torch.allclose(*answers, atol=1e-5)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_hook_that_changes_the_activations_is_honoured(
    context: type[torch.no_grad | torch.inference_mode],
) -> None:
    def in_place(_: nn.Module, __: object, y: Tensor) -> None:
        y[..., :20] = 0.5

    def anew(_: nn.Module, __: object, y: Tensor) -> Tensor:
        return y + 1

    x = noise(6, 12)
    for place in ("act", "drop"):
        for hook in (in_place, anew):
            model = seeded(Mlp())
            found, used = both(model, x)
            for net in (model, found):
                net.get_submodule(place).register_forward_hook(hook)
            with context():
                y, expected = found(x), model(x)
            if context is torch.inference_mode and place == "drop" and hook is in_place:
                assert used()  # the one case that cannot be seen; the docs say so
            else:
                assert close(y, expected)


def test_the_faster_way_is_chosen_and_both_times_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(Mlp(), nn.Linear(10, 48), LWTA(8), nn.Linear(48, 3)).eval()
    times = iter([0.004, 0.001, 0.001, 0.002])

    def timed(self: object, y: Tensor, dense: object, sparse: object) -> list[float]:
        return [next(times), next(times)]

    monkeypatch.setattr(sparse._Timer, "__call__", timed)
    found = sparsify(model, example=noise(2, 12))
    report = sparsity_report(found)
    assert [layer.name for layer in report.layers] == ["0.fc2", "3"]
    assert [layer.sparse for layer in report.layers] == [True, False]
    assert report.layers[1].reason == "not faster"
    assert "0.fc2 after 0.act: 4.00 ms dense, 1.00 ms sparse -> sparse" in str(report)
    assert "1 of 2 linear maps" in str(report)
    assert type(found[3]) is nn.Linear
    assert [module.hands_winners for module in (found[0].act, found[2])] == [True, False]


def test_really_timed() -> None:
    model = nn.Sequential(nn.Linear(64, 1024), LWTA(16), nn.Linear(1024, 512)).train()
    state = torch.get_rng_state()
    found = sparsify(model, example=noise(64, 64), rounds=2)
    (layer,) = sparsity_report(found).layers
    assert layer.dense_ms is not None
    assert layer.sparse_ms is not None
    assert layer.sparse == (layer.sparse_ms < layer.dense_ms)
    assert all(module.training for module in found.modules())
    assert torch.equal(state, torch.get_rng_state())
    assert not model[1].hands_winners
    assert type(model[2]) is nn.Linear
    again = sparsify(found, example=noise(64, 64), only_faster=False)
    assert isinstance(again[2], SparseLinear)
    assert sparsity_report(again).layers[0].dense_ms is None


def test_a_shared_layer_and_a_converted_network() -> None:
    timm = pytest.importorskip("timm")
    dense = timm.create_model(
        "deit_tiny_patch16_224", img_size=32, embed_dim=48, depth=2, num_heads=2, num_classes=4
    ).eval()
    model, _ = convert(dense, 12, example=(3, 32, 32))
    found = sparsify(model, only_faster=False, example=(3, 32, 32), skip=["blocks.1*"])
    report = sparsity_report(found)
    assert [layer.sparse for layer in report.layers] == [True, False]
    assert report.layers[1].reason == "skipped"
    assert report.layers[0].shapes == ((1, 5, 192),)
    x = noise(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(found(x), model(x), atol=1e-5)


def test_bad_input() -> None:
    x = noise(2, 12)
    with pytest.raises(InputError, match="no LWTA module: nothing to sparsify; convert it first"):
        sparsify(nn.Linear(12, 2), example=x)
    apart = nn.Sequential(nn.Linear(12, 48), LWTA(8), nn.LayerNorm(48), nn.Linear(48, 2))
    with pytest.raises(InputError, match=r"nothing to sparsify in Sequential: .*2 that could be"):
        sparsify(apart, example=x)
    with pytest.raises(InputError, match="does not run on an example of shape"):
        sparsify(Mlp(), example=noise(2, 13))
    with pytest.raises(InputError, match="does not say its input size"):
        sparsify(Mlp())
    with pytest.raises(UnknownNameError, match="fc2"):
        sparsify(Mlp(), example=x, skip=["fc3"])
    with pytest.raises(InputError, match="rounds must be an int of at least 1, not 0"):
        sparsify(Mlp(), example=x, rounds=0)
    with pytest.raises(InputError, match=r"was not made by neuronym\.lwta\.sparsify"):
        sparsity_report(Mlp())


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(24, 6, 3, padding=1),
        nn.Conv2d(24, 6, 1, stride=2),
        nn.Conv2d(24, 6, 1, groups=2),
        nn.Conv2d(24, 6, 1, padding=1),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(24, 6, 1)),
    ],
)
def test_other_convolutions_stay(conv: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(3, 24, 1), LWTA(6, 1), conv)
    with pytest.raises(InputError, match="nothing to sparsify"):
        sparsify(model, example=noise(1, 3, 4, 4))
