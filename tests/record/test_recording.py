"""Recording: pooled activations and counts against a plain loop, reuse by content, clean-up."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from neuronym.errors import InputError, UnreadableError
from neuronym.probes import from_images
from neuronym.record import MaskReader, Plan, RecordOptions, find_sites, record


class Best(nn.Module):
    """Passes the larger of each two channels; remembers its mask only for the reader below."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        pairs = x.unflatten(1, (-1, 2))
        first = pairs[:, :, :1] >= pairs[:, :, 1:]
        mask = torch.cat([first, ~first], 2).flatten(1, 2)
        self.masks.append(mask)
        return x * mask


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.best = Best()
        self.head = nn.Linear(4, 3)
        self.fail = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.best(self.conv(x))
        if self.fail:
            raise RuntimeError("the model breaks here")
        return self.head(x.relu().mean((2, 3)))


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 255 - 0.5


def mask_reader(network: Network) -> MaskReader:
    @contextlib.contextmanager
    def opened():
        network.best.masks.clear()
        yield lambda name, call: network.best.masks[call]

    return MaskReader({"best": 2}, opened)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(1)
    return Network()


@pytest.fixture
def probes():
    generator = np.random.default_rng(0)
    images = [
        Image.fromarray(generator.integers(0, 256, (11, 11, 3), dtype=np.uint8)) for _ in range(7)
    ]
    return from_images(images, ids=[f"p{i}" for i in range(7)])


class Broken:
    """A probe set of which two images cannot be read."""

    def __init__(self, base, broken) -> None:
        self.base, self.broken = base, broken
        self.name, self.ids = "broken", base.ids
        self.labels = self.label_names = None
        self.fingerprint = "b" * 16

    def __len__(self) -> int:
        return len(self.base)

    def image(self, index: int) -> Image.Image:
        if index in self.broken:
            raise UnreadableError(f"image {self.ids[index]!r} is broken: truncated")
        return self.base.image(index)


def sites_of(network: Network, pattern: str = "*"):
    return find_sites(network, pattern, torch.zeros(2, 3, 11, 11), competitive=["best"])


def plain_loop(network: Network, probes, indices) -> dict[str, Tensor]:
    """Every site's unpooled output, one image at a time."""
    outputs: dict[str, list[Tensor]] = {"conv": [], "best": [], "head": []}
    with torch.no_grad():
        for index in indices:
            conv = network.conv(to_tensor(probes.image(index))[None])
            best = network.best(conv)
            outputs["conv"].append(conv)
            outputs["best"].append(best)
            outputs["head"].append(network.head(best.relu().mean((2, 3))))
    return {name: torch.cat(values) for name, values in outputs.items()}


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_against_a_plain_loop(network, probes, batch_size) -> None:
    found = record(
        network,
        probes,
        sites_of(network),
        transform=to_tensor,
        options=RecordOptions(batch_size=batch_size, workers=0),
        masks=mask_reader(network),
    )
    expected = plain_loop(network, probes, range(7))
    best = expected["best"]
    assert found.poolings == {"conv": "mean", "best": "winner", "head": "mean"}
    assert found.competitors == {"conv": None, "best": 2, "head": None}
    assert found.indices.tolist() == list(range(7))
    for name in ("conv", "best"):
        pooled = expected[name].mean((2, 3)).numpy()
        np.testing.assert_allclose(found.activations(name), pooled, atol=1e-6)
        np.testing.assert_allclose(found.firing_rate(name), (pooled > 0).mean(0))
    np.testing.assert_allclose(found.activations("head"), expected["head"].numpy(), atol=1e-6)
    assert found.active_fraction("best") == pytest.approx(float((best != 0).float().mean()))
    won = (best != 0).float().mean((0, 2, 3)).numpy()
    np.testing.assert_allclose(found.win_rate("best"), won, atol=1e-7)
    assert found.win_rate("best").reshape(-1, 2).sum(1).tolist() == pytest.approx([1, 1])
    assert found.win_rate("conv") is None


def test_a_winner_below_zero_is_counted_by_its_mask(network, probes) -> None:
    with torch.no_grad():
        network.conv.bias.fill_(-10)  # every response is negative: values would name the losers
    found = record(
        network, probes, sites_of(network, "best"), transform=to_tensor, masks=mask_reader(network)
    )
    assert found.win_rate("best").sum() == pytest.approx(2)
    assert (found.activations("best").sum(1) < 0).all()
    assert found.firing_rate("best").tolist() == [0, 0, 0, 0]
    assert found.active_fraction("best") == 0.5


def test_a_winner_that_is_zero_is_active(network, probes) -> None:
    with torch.no_grad():
        network.conv.weight.zero_()
        network.conv.bias.zero_()
    found = record(network, probes, sites_of(network), transform=to_tensor)
    assert found.active_fraction("best") == 0.0  # without a mask, the values count
    found = record(
        network, probes, sites_of(network), transform=to_tensor, masks=mask_reader(network)
    )
    assert (found.active_fraction("conv"), found.active_fraction("best")) == (0.0, 0.5)


def test_broken_images_are_skipped_and_listed(network, probes) -> None:
    broken = Broken(probes, {0, 4})
    found = record(network, broken, sites_of(network), transform=to_tensor)
    assert found.indices.tolist() == [1, 2, 3, 5, 6]
    assert [(each.index, each.id) for each in found.skipped] == [(0, "p0"), (4, "p4")]
    assert len(found) == 5
    expected = plain_loop(network, probes, [1, 2, 3, 5, 6])["head"].numpy()
    np.testing.assert_allclose(found.activations("head"), expected, atol=1e-6)
    with pytest.raises(InputError, match="every one of the 7 images"):
        record(network, Broken(probes, set(range(7))), sites_of(network), transform=to_tensor)


def test_reuse_is_by_content(network, probes, tmp_path) -> None:
    sites = sites_of(network)

    def run(**changes):
        options = RecordOptions(**{"folder": tmp_path, "model_fingerprint": "m1", **changes})
        return record(network, probes, sites, transform=to_tensor, options=options)

    first = run()
    with torch.no_grad():
        network.head.bias += 1
    np.testing.assert_array_equal(run().activations("head"), first.activations("head"))
    assert run(batch_size=2).store.folder == first.store.folder  # no effect on the numbers
    for change in ({"model_fingerprint": "m2"}, {"pooling": "max"}):
        other = run(**change)
        assert other.store.folder != first.store.folder
        assert not np.allclose(other.activations("head"), first.activations("head"))
    assert run(model_fingerprint=None).store.folder != first.store.folder
    sample = torch.zeros(2, 3, 11, 11)
    fewer = Plan(
        network,
        probes,
        find_sites(network, "head", sample),
        transform=to_tensor,
        options=RecordOptions(folder=tmp_path, model_fingerprint="m1"),
    )
    assert fewer.find() is None


def test_a_function_of_ones_own_is_never_reused(network, probes, tmp_path) -> None:
    def doubled(activations, won):
        return 2 * activations.mean(-1)

    options = RecordOptions(pooling=doubled, folder=tmp_path, model_fingerprint="m1")
    sites = sites_of(network)
    first = record(network, probes, sites, transform=to_tensor, options=options)
    again = record(network, probes, sites, transform=to_tensor, options=options)
    assert first.store.folder != again.store.folder
    expected = 2 * plain_loop(network, probes, range(7))["conv"].mean((2, 3)).numpy()
    np.testing.assert_allclose(again.activations("conv"), expected, atol=1e-6)


def test_damaged_recording_is_made_again(network, probes, tmp_path) -> None:
    options = RecordOptions(folder=tmp_path, model_fingerprint="m1")
    first = record(network, probes, sites_of(network), transform=to_tensor, options=options)
    expected = first.activations("head")
    for path in first.store.folder.rglob("*"):
        if path.is_file() and path.name[0].isdigit():
            path.write_bytes(b"garbage")
    again = record(network, probes, sites_of(network), transform=to_tensor, options=options)
    np.testing.assert_array_equal(again.activations("head"), expected)


def test_temporary_folder_goes_with_the_recording(network, probes) -> None:
    found = record(network, probes, sites_of(network, "head"), transform=to_tensor)
    folder = found.store.folder
    assert folder.is_dir()
    assert folder.parent == Path(tempfile.gettempdir())
    del found
    assert not folder.exists()


def test_model_is_as_before_also_after_a_failure(network, probes, tmp_path) -> None:
    network.train()
    sites = sites_of(network)
    record(network, probes, sites, transform=to_tensor)
    network.fail = True
    options = RecordOptions(folder=tmp_path, model_fingerprint="m1")
    with pytest.raises(RuntimeError, match="breaks here"):
        record(network, probes, sites, transform=to_tensor, options=options)
    assert network.training
    assert all(not part._forward_hooks for part in network.modules())
    assert os.listdir(tmp_path) == []


def test_progress_reaches_the_total(network, probes) -> None:
    seen = []
    options = RecordOptions(
        batch_size=2, progress=lambda done, total, note: seen.append((done, total))
    )
    record(network, Broken(probes, {3}), sites_of(network), transform=to_tensor, options=options)
    assert seen[-1] == (7, 7)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_sites_that_do_not_give_what_they_gave(network, probes) -> None:
    sites = sites_of(network)
    with pytest.raises(InputError, match=r"expected .* must reach the model in one size"):
        record(network, probes, sites, transform=lambda image: to_tensor(image)[:, :9, :9])
    with pytest.raises(InputError, match="no site to record"):
        record(network, probes, [], transform=to_tensor)
    with pytest.raises(InputError, match=r"must give \(images, units\)"):
        record(
            network,
            probes,
            sites,
            transform=to_tensor,
            options=RecordOptions(pooling=lambda activations, won: activations),
        )
    wrong = MaskReader({"best": 2}, lambda: contextlib.nullcontext(lambda name, call: None))
    with pytest.raises(InputError, match="gave no mask of site 'best'"):
        record(network, probes, sites, transform=to_tensor, masks=wrong)
    found = record(network, probes, sites, transform=to_tensor)
    with pytest.raises(InputError, match="no site 'haed'; nearest: head"):
        found.activations("haed")
