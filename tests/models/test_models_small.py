"""The small networks: shapes, widths, and that every activation is found."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuronym.errors import InputError
from neuronym.lwta import lwta_modules
from neuronym.models import load
from neuronym.models.folder import compete
from neuronym.models.small import PlainNet, scale_norms

NETS = {"cifar_resnet": 7, "cifar_inverted": 6, "scene_net": 3, "mlp": 1}


@pytest.mark.parametrize("name", sorted(NETS))
@pytest.mark.parametrize("competitors", [2, 8, 16])
def test_every_activation_competes(name: str, competitors: int) -> None:
    loaded = load(f"neuronym.models.small:{name}", num_classes=5)
    module, _ = compete(loaded.module, competitors, loaded.input_size)
    assert len(lwta_modules(module)) == NETS[name]
    assert not any(isinstance(part, nn.ReLU) for part in module.modules())
    images = torch.randn(2, *loaded.input_size, generator=torch.Generator().manual_seed(0))
    active = []
    for part in lwta_modules(module).values():
        part.register_forward_hook(lambda _, __, out: active.append((out != 0).float().mean()))
    with torch.no_grad():
        assert module(images).shape == (2, 5)
    torch.testing.assert_close(
        torch.stack(active), torch.full((len(active),), 1 / competitors), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("name", sorted(NETS))
def test_other_sizes_and_grey(name: str) -> None:
    loaded = load(f"neuronym.models.small:{name}", num_classes=2, input_size=(1, 40, 24))
    assert loaded.input_size == (1, 40, 24)
    assert len(loaded.preprocessing.mean) == 1
    with torch.no_grad():
        assert loaded.module(torch.zeros(3, 1, 40, 24)).shape == (3, 2)


def test_the_gain_does_not_matter_to_the_dense_twin() -> None:
    plain = load("neuronym.models.small:scene_net", num_classes=4, seed=5).module
    scaled = load("neuronym.models.small:scene_net", num_classes=4, seed=5).module
    scale_norms(plain, 1.0)
    images = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    outputs = []
    for module in (plain, scaled):
        hidden = module.train().layers(images)
        outputs.append(hidden / hidden.abs().max())
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-3, rtol=0)


def test_widths_and_strides_must_be_as_many() -> None:
    with pytest.raises(InputError, match="2 widths and 1 strides"):
        PlainNet(2, (3, 8, 8), widths=(8, 8), strides=(2,), gain=1.0)


def test_a_reduced_transformer_competes_in_its_hidden_layers() -> None:
    loaded = load("neuronym.models.tokens:cifar_deit", num_classes=5)
    module, _ = compete(loaded.module, 24, loaded.input_size)
    assert len(lwta_modules(module)) == 10  # four of them in the stem
    responses: list[torch.Tensor] = []
    for name, part in lwta_modules(module).items():
        if name.endswith("mlp.act"):
            part.register_forward_hook(lambda _, given, __: responses.append(given[0].std()))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert module(images).shape == (4, 5)
    torch.testing.assert_close(torch.stack(responses), torch.full((6,), 3.0), atol=0.5, rtol=0)
    plain = load("neuronym.models.tokens:cifar_deit_plain", num_classes=5).module
    assert list(plain.state_dict()) == list(module.state_dict())
    scaled, own = (
        float(each.get_submodule("transformer.blocks.0.mlp.fc1").weight.detach().std())
        for each in (module, plain)
    )
    assert scaled == pytest.approx(1 / 96**0.5, rel=1e-4)
    assert own == pytest.approx(0.02, rel=0.02)
    grey = load("neuronym.models.tokens:cifar_deit", num_classes=2, input_size=(1, 40, 24))
    with torch.no_grad():
        assert grey.module(torch.zeros(3, 1, 40, 24)).shape == (3, 2)
    with pytest.raises(InputError, match="multiple of 8 pixels, not 32 × 30"):
        load("neuronym.models.tokens:cifar_deit", num_classes=2, input_size=(3, 32, 30))
