"""Units that are held: the same output at every position, whoever wins."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from neuronym.errors import InputError
from neuronym.intervene import Change, Edit, applied
from neuronym.lwta import LWTA, sparsify, trace
from neuronym.lwta.sparse_layers import SparseConv2d


def network() -> nn.Sequential:
    """Eight channels in blocks of four, then a 1 × 1 convolution that can read winners alone."""
    made = nn.Sequential(nn.Conv2d(3, 8, 3), LWTA(4, 1), nn.Conv2d(8, 5, 1)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(generator=generator)
    return made


IMAGES = torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(1))
HELD = (Change("1", (2,), "hold", value=0.7), Change("1", (5, 6), "hold", value=-0.2))


@torch.no_grad()
def by_hand(model: nn.Sequential) -> torch.Tensor:
    hidden = model[1](model[0](IMAGES))
    hidden[:, 2], hidden[:, 5:7] = 0.7, -0.2
    return model[2](hidden)


def test_a_held_unit_is_constant_and_the_rest_competes_as_before() -> None:
    model = network()
    wanted = by_hand(model)
    with torch.no_grad(), trace(model, keep="winners") as before:
        plain = model(IMAGES)
    with torch.no_grad(), applied(model, HELD), trace(model, keep="winners") as during:
        held = model(IMAGES)
    torch.testing.assert_close(held, wanted)
    assert not torch.allclose(held, plain)
    assert torch.equal(before[0].mask, during[0].mask)
    with torch.no_grad():
        assert torch.equal(model(IMAGES), plain)


def test_a_sparse_layer_sees_what_a_loser_passes() -> None:
    model = network()
    sparse = sparsify(model, example=IMAGES, only_faster=False)
    assert isinstance(sparse[2], SparseConv2d)
    with torch.no_grad(), applied(sparse, HELD):
        torch.testing.assert_close(sparse(IMAGES), by_hand(model), rtol=1e-5, atol=1e-5)


def test_expectations_and_training_hold_it_too() -> None:
    model = network()
    model[1].mode = "expected"
    with torch.no_grad(), applied(model, HELD):
        torch.testing.assert_close(model(IMAGES), by_hand(model))
    model[1].mode = "auto"
    seen = []
    model[1].register_forward_hook(lambda _, __, output: seen.append(output))
    with applied(model, HELD), torch.random.fork_rng():
        model.train()(IMAGES).sum().backward()
    assert (seen[0][:, 2] == 0.7).all()
    assert (seen[0][:, 5:7] == -0.2).all()


def test_a_dense_site_holds_as_it_forces() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        with applied(model, Change("0", (1,), "hold", value=0.5)):
            held = model(inputs)
        with applied(model, Change("0", (1,), "force", value=0.5)):
            assert torch.equal(model(inputs), held)


def test_it_is_saved(tmp_path: Path) -> None:
    edit = Edit(HELD, "a model", "0123")
    edit.save(tmp_path / "edit.json")
    assert Edit.load(tmp_path / "edit.json") == edit


def test_bad_input() -> None:
    with pytest.raises(InputError, match="'hold' at site '1' needs a value"):
        Change("1", (0,), "hold")
    with pytest.raises(InputError, match="'silence' at site '1' takes no value"):
        Change("1", (0,), "silence", value=1.0)
    with pytest.raises(InputError, match="finite number, not nan"):
        Change("1", (0,), "hold", value=float("nan"))
    with pytest.raises(InputError, match="contradict each other: hold and silence"):
        Edit((Change("1", (0,), "hold", value=1.0), Change("1", (0,), "silence")))
