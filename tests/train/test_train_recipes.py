"""Recipes: every preset builds and steps; views, mixing and stochastic depth by hand."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.layers import DropPath
from torch import nn

from neuronym import probes
from neuronym.errors import InputError, UnknownNameError
from neuronym.lwta import lwta_modules
from neuronym.models import Preprocessing, load
from neuronym.train import PRESETS, RECIPES, TrainSettings, build_model, preset_of, train
from neuronym.train.depth import set_drop_path
from neuronym.train.mixing import Mix, draw_mix, mixed, partners
from neuronym.train.optim import rate_at
from neuronym.train.views import OPERATIONS, crop_box, erase, rand_augment, random_view
from train.synthetic import Blobs


def test_the_recipes_are_those_that_were_asked_for() -> None:
    deit = [f"deit-{size}-u{u}" for size in ("tiny", "small") for u in (2, 8, 12, 16, 24)]
    resnet = [f"resnet{depth}-u{u}" for depth in (18, 50) for u in (2, 4, 8)]
    assert list(RECIPES) == deit + resnet
    ours = ["scenes", "cifar10", "cifar10-inverted", "cifar10-deit"]
    assert list(PRESETS) == [*ours, *deit, *resnet]
    small = PRESETS["deit-small-u12"]
    assert (small.model, small.competitors) == ("timm:deit_small_patch16_224", 12)
    assert (small.epochs, small.warmup * small.epochs) == (300, 5)
    assert (small.mixup, small.cutmix, small.drop_path, small.weight_decay) == (0.8, 1.0, 0.1, 0.05)
    assert RECIPES["resnet50-u4"].twin().competitors is None


def test_the_rate_grows_with_the_batch_of_a_recipe() -> None:
    assert preset_of("deit-tiny-u8", batch_size=512).learning_rate == pytest.approx(5e-4)
    assert preset_of("resnet18-u2", batch_size=1024).learning_rate == pytest.approx(0.4)
    assert preset_of("cifar10", batch_size=64).learning_rate == PRESETS["cifar10"].learning_rate
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet18-u8'"):
        preset_of("resnet18-u9")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_builds(name: str) -> None:
    settings = replace(RECIPES[name], input_size=(3, 32, 32))
    built = build_model(settings, 3)
    found = lwta_modules(built.loaded.module)
    assert len(found) == (12 if "deit" in name else 17 if "resnet18" in name else 49)
    assert {part.competitors for part in found.values()} == {settings.competitors}
    dense = load(settings.model, pretrained=False, num_classes=3, input_size=(3, 32, 32)).module
    assert list(built.loaded.module.state_dict()) == list(dense.state_dict())


@pytest.mark.parametrize("name", ["deit-tiny-u24", "resnet18-u8"])
def test_a_recipe_runs(name: str, tmp_path: Path) -> None:
    settings = replace(
        preset_of(name, batch_size=12), input_size=(3, 32, 32), epochs=1, workers=1, holdout=0.4
    )
    result = train(settings, Blobs(48), out=tmp_path / "run")
    assert np.isfinite(result.history[0]["loss"])
    assert result.validation.diagnosis is not None
    assert load(str(tmp_path / "run")).module.training is False


def test_the_reduced_transformer_steps_and_keeps_its_stem_dense(tmp_path: Path) -> None:
    settings = replace(preset_of("cifar10-deit", batch_size=16), epochs=1, workers=1, holdout=0.4)
    result = train(settings, Blobs(48), out=tmp_path / "run")
    assert np.isfinite(result.history[0]["loss"])
    assert result.validation.active_fraction == 1 / 24
    module = load(str(tmp_path / "run")).module
    sites = [f"transformer.blocks.{block}.mlp.act" for block in range(6)]
    assert list(lwta_modules(module)) == sites
    assert isinstance(module.get_submodule("stem.2"), nn.ReLU)
    twin = train(settings.twin(), Blobs(48), out=tmp_path / "twin")
    assert twin.config.competitors is None
    dense = load(str(tmp_path / "twin")).module
    assert list(dense.state_dict()) == list(module.state_dict())
    assert isinstance(dense.get_submodule(sites[0]), nn.GELU)


def shard(path: Path, images: Blobs) -> None:
    with tarfile.open(path, "w") as archive:
        for index in range(len(images)):
            buffer = io.BytesIO()
            images.image(index).save(buffer, "PNG")
            assert images.labels is not None
            label = str(images.labels[index]).encode()
            for suffix, data in (("png", buffer.getvalue()), ("cls", label)):
                member = tarfile.TarInfo(f"{index:04d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("source", ["webdataset", "folder"])
def test_training_streams_shards_and_folders(source: str, tmp_path: Path) -> None:
    images = Blobs(60, side=160)
    if source == "webdataset":
        shard(tmp_path / "part-0.tar", images)
        shard(tmp_path / "part-1.tar", Blobs(30, side=160))
        spec, count = f"webdataset:{tmp_path}/part-{{0..1}}.tar", 90
    else:
        assert images.labels is not None
        for index, label in enumerate(images.labels.tolist()):
            (tmp_path / "photos" / f"class{label}").mkdir(parents=True, exist_ok=True)
            images.image(index).save(tmp_path / "photos" / f"class{label}" / f"{index}.png")
        spec, count = str(tmp_path / "photos"), 60
    settings = TrainSettings(
        model="neuronym.models.small:scene_net",
        competitors=8,
        input_size=(3, 96, 96),
        epochs=3,
        batch_size=16,
        optimizer="adamw",
        learning_rate=0.01,
        augment="imagenet",
        temperature=2.0,
        memory_mb=1,
    )
    data = probes.load(spec)
    assert len(data) == count
    result = train(settings, data, out=tmp_path / "run")
    assert result.validation.accuracy > 0.8


# Views


def test_crops_cover_the_areas_and_aspects() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box(200, 100, rng, area=(0.1, 0.6)) for _ in range(400)])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= 200).all()
    assert (boxes[:, 3] <= 100).all()
    wide, tall = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    share = wide * tall / 20000
    assert 0.09 < share.min() < 0.15
    assert 0.45 < share.max() < 0.63
    assert (wide / tall).min() > 0.72
    assert (wide / tall).max() < 1.38
    assert crop_box(400, 10, rng, area=(0.9, 1.0)) == (193, 0, 206, 10)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_operations_change_the_image_more_with_the_amount(name: str, mode: str) -> None:
    rng = np.random.default_rng(1)
    smooth = np.linspace(40, 190, 24)[:, None, None] + np.linspace(0, 40, 24)[None, :, None]
    array = np.clip(smooth * [1.0, 0.6, 0.8] + rng.normal(0, 4, (24, 24, 3)), 0, 255)
    image = Image.fromarray(array.astype(np.uint8)).convert(mode)
    changes = []
    for amount in (0.0, 0.3, 1.0):
        for sign in (-1.0, 1.0):
            found = OPERATIONS[name](image, amount, sign)
            assert (found.size, found.mode) == (image.size, image.mode)
            difference = np.asarray(found, dtype=float) - np.asarray(image, dtype=float)
            changes.append(np.abs(difference).mean())
    if name in ("auto-contrast", "equalize", "invert"):
        assert len(set(changes)) == 1
        assert changes[0] > 1
    elif (name, mode) != ("colour", "L"):
        assert changes[4] > changes[2]
        assert changes[5] > changes[3] or name == "brightness"
        if name not in ("posterize",):
            assert changes[0] < 1e-6


def test_rand_augment_and_views_obey_their_generator() -> None:
    image = Blobs(3, side=40).image(0)
    size = Preprocessing((3, 16, 16))
    kinds = {"operations": 2, "magnitude": 9.0, "spread": 0.5, "erasing": 0.5}

    def seen(seed: int) -> torch.Tensor:
        return random_view(image, np.random.default_rng(seed), size, area=(0.2, 1.0), **kinds)

    views = [seen(seed) for seed in range(8)]
    assert all(view.shape == (3, 16, 16) and view.dtype == torch.uint8 for view in views)
    assert torch.equal(seen(3), views[3])
    assert len({view.numpy().tobytes() for view in views}) == 8
    grey = random_view(
        image, np.random.default_rng(0), Preprocessing((1, 16, 16), (0.5,), (0.5,)), area=(1.0, 1.0)
    )
    assert grey.shape == (1, 16, 16)
    same = rand_augment(image, np.random.default_rng(0), operations=0, magnitude=9.0)
    assert same is image


def test_erasing_fills_a_rectangle_with_noise() -> None:
    shares = []
    for seed in range(60):
        pixels = torch.full((3, 32, 32), 255, dtype=torch.uint8)
        erase(pixels, np.random.default_rng(seed), Preprocessing((3, 32, 32)))
        changed = (pixels != 255).any(0)
        rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
        shares.append(changed.float().mean().item())
        box = changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert box.float().mean() > 0.9
    assert 0.015 < min(shares) < 0.08
    assert 0.25 < max(shares) < 0.36


# Mixing


def test_partners_are_neighbours() -> None:
    assert partners(4).tolist() == [1, 0, 3, 2]
    assert partners(3).tolist() == [1, 0, 2]
    assert partners(3, start=2).tolist() == [1, 0, 2]
    assert partners(4, start=3).tolist() == [0, 2, 1, 3]


def test_mixing_by_hand() -> None:
    images = torch.arange(2.0)[:, None, None, None].expand(2, 1, 4, 4).clone()
    labels = torch.tensor([0, 2])
    others = images.flip(0), labels.flip(0)
    blended, soft = mixed(images, labels, others, Mix(0.75), classes=3)
    assert torch.allclose(blended[0], torch.full((1, 4, 4), 0.25))
    assert soft.tolist() == [[0.75, 0, 0.25], [0.25, 0, 0.75]]
    cut, soft = mixed(images, labels, others, Mix(0.75, (0, 2, 2, 4)), classes=3)
    assert cut[0].sum() == 4
    assert cut[0, 0, :2, 2:].sum() == 4
    assert soft[0].tolist() == [0.75, 0, 0.25]
    assert images[0].sum() == 0


def test_draws_of_mixing() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert draw_mix((8, 8), mixup=0.0, cutmix=0.0) is None
        draws = [draw_mix((32, 48), mixup=0.8, cutmix=1.0) for _ in range(400)]
        only = [draw_mix((32, 48), mixup=0.0, cutmix=1.0) for _ in range(20)]
    boxes = [draw.box for draw in draws if draw and draw.box]
    assert 150 < len(boxes) < 250
    assert all(draw and draw.box for draw in only)
    for draw in draws:
        assert draw is not None
        assert 0 <= draw.weight <= 1
        if draw.box:
            top, left, bottom, right = draw.box
            assert 0 <= top <= bottom <= 32
            assert 0 <= left <= right <= 48
            assert draw.weight == pytest.approx(1 - (bottom - top) * (right - left) / (32 * 48))


def test_mixed_training_learns(tmp_path: Path) -> None:
    settings = TrainSettings(
        model="neuronym.models.small:scene_net",
        competitors=8,
        input_size=(3, 16, 16),
        epochs=4,
        batch_size=15,
        optimizer="adamw",
        learning_rate=0.01,
        mixup=0.8,
        cutmix=1.0,
        temperature=2.0,
        holdout=0.25,
        workers=1,
    )
    result = train(settings, Blobs(), out=tmp_path / "run")
    assert result.validation.accuracy > 0.9
    assert result.history[-1]["cross_entropy"] > 0.5  # mixed labels cannot be met


# Stochastic depth and rates


def test_stochastic_depth() -> None:
    net = timm.create_model("test_vit", num_classes=3)
    keys = list(net.state_dict())
    count = set_drop_path(net, 0.3)
    rates = [part.drop_prob for part in net.modules() if isinstance(part, DropPath)]
    assert len(rates) == count == 2 * len(net.blocks)
    assert rates[0] == rates[1] == 0
    assert rates[-1] == pytest.approx(0.3)
    assert rates == sorted(rates)
    assert list(net.state_dict()) == keys
    assert set_drop_path(nn.Linear(2, 2), 0.0) == 0
    with pytest.raises(InputError, match=r"drop_path=0.2 finds no place in Linear"):
        set_drop_path(nn.Linear(2, 2), 0.2)


def test_the_step_schedule() -> None:
    rates = [rate_at(step, 90, schedule="step", largest=1.0, warmup=5 / 90) for step in range(90)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[5] == rates[29] == 1
    assert rates[30] == rates[59] == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.01)
    assert rates[80] == rates[89] == pytest.approx(0.001)
