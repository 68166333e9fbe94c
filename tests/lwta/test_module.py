"""The module: parameters in sight, seeds, modes, copies, compilation."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from neuronym.errors import DivisibilityError, InputError, UnknownNameError
from neuronym.lwta import LWTA, functional, lwta_modules, sampling, set_temperature, trace


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 24), LWTA(8), nn.Linear(24, 12), LWTA(4), nn.Linear(12, 3))


X = torch.randn(10, 6, generator=torch.Generator().manual_seed(1))


def test_evaluation_is_deterministic_and_training_is_seeded() -> None:
    net = model()
    net.eval()
    state = torch.get_rng_state()
    assert torch.equal(net(X), net(X))
    assert torch.equal(state, torch.get_rng_state())
    net.train()
    torch.manual_seed(3)
    first = net(X)
    assert not torch.equal(first, net(X))
    torch.manual_seed(3)
    assert torch.equal(first, net(X))


def test_the_module_is_the_function() -> None:
    z = torch.randn(3, 24, 5, 5, generator=torch.Generator().manual_seed(1))
    layer = LWTA(8, 1)
    torch.manual_seed(2)
    y = layer(z)
    torch.manual_seed(2)
    assert torch.equal(y, functional.compete(z, 8, channel_dim=1))
    assert torch.equal(layer.eval()(z), functional.compete(z, 8, channel_dim=1, mode="argmax"))


def test_one_key_per_forward() -> None:
    layer = LWTA(2)
    torch.manual_seed(4)
    layer(torch.zeros(1000, 10))
    after = torch.rand(1)
    torch.manual_seed(4)
    layer(torch.zeros(3, 2))
    assert torch.equal(after, torch.rand(1))


def test_sampling_samples_in_evaluation_and_undoes_itself() -> None:
    net = model().eval()
    expected = net(X)
    with sampling(net) as same:
        assert same is net
        assert not torch.equal(net(X), net(X))
    assert torch.equal(net(X), expected)
    with pytest.raises(RuntimeError, match="inside"), sampling(net):
        raise RuntimeError("inside")
    assert [layer.mode for layer in lwta_modules(net).values()] == ["auto", "auto"]
    with pytest.raises(InputError, match="no LWTA module: nothing to sample"), sampling(X_NET):
        pass


X_NET = nn.Sequential(nn.Linear(2, 2), nn.ReLU())


def test_modes_of_a_module() -> None:
    z = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    always = LWTA(4, mode="argmax").train()
    assert torch.equal(always(z), functional.compete(z, 4, mode="argmax"))
    assert LWTA(4, mode="sample").eval().samples
    with pytest.raises(UnknownNameError, match="known: auto, sample, argmax"):
        LWTA(4, mode="max")


def test_no_weights_no_buffers_and_a_print_that_says_it_all() -> None:
    layer = LWTA(8, 1, temperature=0.5)
    assert not layer.state_dict()
    assert repr(layer) == "LWTA(competitors=8, channel_dim=1, temperature=0.5)"
    assert "mode='sample'" in repr(LWTA(8, mode="sample"))


def test_copies_and_pickles_leave_a_running_trace_behind() -> None:
    net = model().train()
    with trace(net) as record:
        twin = copy.deepcopy(net)
        other = pickle.loads(pickle.dumps(net))
        twin(X)
        other(X)
        assert len(record) == 0
        net(X)
        assert len(record) == 2


def test_set_temperature() -> None:
    net = model()
    assert set_temperature(net, 0.3) == 2
    assert {layer.temperature for layer in lwta_modules(net).values()} == {0.3}
    with pytest.raises(InputError, match="above 0, not -1"):
        set_temperature(net, -1)
    with pytest.raises(InputError, match="no LWTA module: no temperature"):
        set_temperature(X_NET, 1)


def test_checkpointed_layers_repeat_their_winners() -> None:
    net = model().train()
    grads = []
    for segmented in (False, True):
        torch.manual_seed(6)
        net.zero_grad()
        with trace(net) as record:
            y = checkpoint(net, X, use_reentrant=False) if segmented else net(X)
            kl = record[0].kl
            assert kl is not None
            loss = y.square().sum() + kl
        loss.backward()
        grads.append([p.grad.clone() for p in net.parameters()])  # type: ignore[union-attr]
    for plain, again in zip(*grads, strict=True):
        assert torch.allclose(plain, again, atol=1e-6)


def test_compiles_without_a_graph_break() -> None:
    net = model()
    for mode in (net.eval(), net.train()):
        compiled = torch.compile(mode, backend="aot_eager", fullgraph=True)
        torch.manual_seed(1)
        found = compiled(X)
        found.sum().backward()
        assert found.shape == (10, 3)
    net.eval()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(X), net(X), atol=1e-6)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: LWTA(1), InputError, "competitors=1 is the identity"),
        (lambda: LWTA(4, channel_dim=1.5), InputError, "channel_dim must be an int, not 1.5"),
        (lambda: LWTA(4, temperature=0.0), InputError, "above 0, not 0.0"),
        (lambda: LWTA(5)(torch.zeros(2, 8)), DivisibilityError, "nearest that do: 4 or 8"),
        (lambda: LWTA(4, 3)(torch.zeros(2, 8)), InputError, "channel_dim 3 is outside"),
    ],
)
def test_bad_input(build, error, message: str) -> None:
    with pytest.raises(error) as caught:
        build()
    assert message in str(caught.value)
