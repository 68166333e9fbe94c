"""Sites: names, calls, and the dimension of the units, on networks whose answers are known."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from neuronym.errors import InputError
from neuronym.record import find_sites


class Residual(nn.Module):
    """A residual block with a ReLU that is called twice and works in place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.conv2(out) + x
        return self.drop(self.relu(out))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2)
        self.block = Residual(6)
        self.unused = nn.Linear(4, 4)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.stem(x))
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens)[0]
        return self.head(tokens.mean(1))


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network()


SAMPLE = torch.zeros(2, 3, 13, 13)


def hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def test_wildcards_cross_dots_and_equal_tensors_are_one_site(network) -> None:
    sites = find_sites(network, "block*", SAMPLE)
    assert [site.name for site in sites] == [
        "block.conv1",
        "block.bn1",
        "block.relu",
        "block.conv2",
        "block",
    ]
    last = sites[-1]
    assert set(last.aliases) == {"block.relu#1", "block.drop"}
    assert all(site.channel_dim == 1 and site.units == 6 for site in sites)
    assert all(site.layout == "map" and site.positions == 36 for site in sites)


def test_second_call_is_a_site_of_its_own(network) -> None:
    sites = find_sites(network, "block.relu", SAMPLE)
    assert [(site.name, site.module, site.call) for site in sites] == [
        ("block.relu", "block.relu", 0),
        ("block.relu#1", "block.relu", 1),
    ]
    only = find_sites(network, "block.relu#1", SAMPLE)
    assert [site.name for site in only] == ["block.relu#1"]
    with pytest.raises(InputError, match=r"'block\.relu#2' cannot be a site: it is not called"):
        find_sites(network, "block.relu#2", SAMPLE)


def test_in_place_activation_does_not_hide_what_was_before(network) -> None:
    # bn1's tensor is overwritten by the ReLU after it: same object, another state, two sites.
    names = [site.name for site in find_sites(network, "block.bn1, block.relu", SAMPLE)]
    assert names == ["block.bn1", "block.relu", "block.relu#1"]


def test_several_patterns_and_a_list(network) -> None:
    one = find_sites(network, "stem, head.1", SAMPLE)
    two = find_sites(network, ["stem", "head.?"], SAMPLE)
    assert [site.name for site in one] == ["stem", "head.1"]
    assert [site.name for site in two] == ["stem", "head.0", "head.1"]
    assert (one[1].channel_dim, one[1].layout, one[1].positions, one[1].units) == (
        -1,
        "image",
        1,
        5,
    )


def test_what_a_wildcard_matches_and_is_no_site_is_listed(network) -> None:
    sites = find_sites(network, "*", SAMPLE)
    assert "it is not called" in sites.left_out["unused"]
    assert "returns a tuple" in sites.left_out["attention"]
    assert {"stem", "block", "head"} <= {site.name for site in sites}


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("blok*", r"site pattern 'blok\*' matches no module; nearest: block"),
        ("stem, haed", "site pattern 'haed' matches no module; nearest: head"),
        ("unused", "'unused' cannot be a site: it is not called in a forward pass"),
        ("attention", "'attention' cannot be a site: it returns a tuple, not a tensor"),
        ("unus*", "none of the 1 modules that match 'unus.*' can be a site"),
        (" , ", "no site pattern"),
        ([], "no site pattern"),
    ],
)
def test_patterns_that_give_nothing(network, pattern, text) -> None:
    with pytest.raises(InputError, match=text):
        find_sites(network, pattern, SAMPLE)
    assert hooks(network) == 0


def test_model_is_left_as_it_was(network) -> None:
    network.train()
    network.block.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    find_sites(network, "*", torch.randn(2, 3, 13, 13, generator=torch.Generator().manual_seed(0)))
    assert network.training
    assert not network.block.training
    assert hooks(network) == 0
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_hooks_are_removed_after_a_failure(network) -> None:
    with pytest.raises(RuntimeError):
        find_sites(network, "*", torch.zeros(2, 4, 13, 13))
    assert hooks(network) == 0
    assert network.training


def test_a_sample_of_one_image_is_refused(network) -> None:
    with pytest.raises(InputError, match="at least 2 images"):
        find_sites(network, "*", SAMPLE[:1])


class Opaque(nn.Module):
    """Computes outside torch, so that no operation says where the units are."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy().transpose(0, 2, 1).copy())


class Declared(Opaque):
    channel_dim = 1


def test_unknown_dimension_must_be_declared() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Opaque(), Declared())
    sample = torch.zeros(2, 4, 4)
    with pytest.raises(InputError, match=r"'1' .* not known; declare it, e.g. channel_dims=\{'1'"):
        find_sites(model, "1", sample)
    assert [site.name for site in find_sites(model, "*", sample)] == ["0", "2"]
    assert find_sites(model, "2", sample)[0].channel_dim == 1
    declared = find_sites(model, "1", sample, channel_dims={"1": 1})[0]
    assert (declared.channel_dim, declared.units, declared.layout) == (1, 4, "map")
    assert find_sites(model, "?", sample, channel_dims={"*": -1})[1].layout == "tokens"
    with pytest.raises(InputError, match=r"channel_dim 3 does not fit .* \(2, 4, 4\)"):
        find_sites(model, "1", sample, channel_dims={"1": 3})
    with pytest.raises(InputError, match="channel_dim 0 does not fit"):
        find_sites(model, "1", sample, channel_dims={"1": 0})
    with pytest.raises(InputError, match="channel_dims names '7'"):
        find_sites(model, "1", sample, channel_dims={"1": 1, "7": 1})


def test_output_that_does_not_begin_with_the_images() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Flatten(0, 1))
    with pytest.raises(InputError, match=r"\(6, 4\) does not begin with the 2 images"):
        find_sites(model, "1", torch.zeros(2, 3, 4))


def test_competitive_module_gives_its_name() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    assert find_sites(model, "0", torch.zeros(2, 4))[0].name == "0"
    site = find_sites(model, "0", torch.zeros(2, 4), competitive=["0.1"])[0]
    assert (site.name, site.aliases) == ("0.1", ("0",))


# Names, with the dimension of the units and the layout, of networks as libraries ship them.
# Square maps and as many channels as pixels are what a guess from shapes gets wrong.
KNOWN = {
    "timm:resnet18": {"layer2": (1, "map"), "layer2.0.act2": (1, "map"), "fc": (-1, "image")},
    "timm:tf_efficientnet_lite0": {"blocks.6": (1, "map"), "blocks.3.1": (1, "map")},
    "timm:convnext_atto": {
        "stages.0.blocks.0.norm": (1, "map"),
        "stages.1.blocks.1": (1, "map"),
        "stages.1.blocks.1.mlp.act": (1, "map"),
    },
    "timm:deit_tiny_patch16_224": {
        "patch_embed": (-1, "tokens"),
        "blocks.3.mlp.act": (-1, "tokens"),
        "blocks.3": (-1, "tokens"),
        "blocks.3.attn": (-1, "tokens"),
        "head": (-1, "image"),
    },
    "timm:mixer_s32_224": {"blocks.3": (-1, "tokens")},
    "torchvision:convnext_tiny": {"features.0.1": (1, "map"), "features.1.0": (1, "map")},
    "torchvision:swin_t": {"features.1.0": (-1, "map"), "features.1.0.mlp.1": (-1, "map")},
    "torchvision:densenet121": {"features.denseblock1": (1, "map")},
}


@pytest.mark.parametrize("spec", list(KNOWN))
def test_dimension_of_the_units_in_real_networks(spec) -> None:
    library, name = spec.split(":")
    with torch.device("meta"):  # shapes only: no weights are drawn and nothing is computed
        if library == "timm":
            model = timm.create_model(name)
        else:
            model = torchvision.models.get_model(name, weights=None)
        sites = find_sites(model, list(KNOWN[spec]), torch.zeros(2, 3, 224, 224))
    found = {site.name: (site.channel_dim, site.layout) for site in sites}
    assert found == KNOWN[spec]
    tokens = {site.name: site.class_token for site in sites if site.layout == "tokens"}
    if "deit" in spec:
        assert tokens == {
            "patch_embed": False,
            "blocks.3.mlp.act": True,
            "blocks.3": True,
            "blocks.3.attn": True,
        }
    else:
        assert not any(tokens.values())
