"""Heads on frozen features: cache, training, twins, the folder, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from neuronym import models
from neuronym.errors import DivisibilityError, InputError, NeuronymError, UnknownNameError
from neuronym.lwta import lwta_modules
from neuronym.models import LoadedModel
from neuronym.store import INDEX
from neuronym.train import features as features_module
from neuronym.train.data import Subset
from neuronym.train.features import Features, cached_features
from neuronym.train.head import HeadOptions, open_backbone, train_head
from neuronym.train.head_fit import fit_head, measure_head
from neuronym.train.head_settings import HeadSettings
from train.synthetic import Blobs

RESNET = "neuronym.models.small:cifar_resnet"
SMALL = HeadSettings(competitors=4, hidden=32, epochs=15, batch_size=16, dropout=0.0, holdout=0.25)


def gaussians(count: int = 400, *, seed: int = 0, spread: float = 1.0) -> Features:
    """Three classes around three centres in 12 dimensions, of very different scales."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(0, 1, (3, 12))
    labels = rng.integers(0, 3, count)
    scales = np.logspace(-3, 3, 12)
    values = (centres[labels] * 2 + rng.normal(0, spread, (count, 12))) * scales + 5 * scales
    indices = np.arange(count, dtype=np.int64)
    return Features(values.astype(np.float32), None, labels, indices, ())


@pytest.mark.parametrize("activation", ["lwta", "relu", "linear"])
def test_a_head_learns_and_takes_raw_features(activation: str) -> None:
    settings = SMALL if activation == "lwta" else SMALL.twin(activation)
    fit = fit_head(settings, gaussians(), gaussians(200, seed=1), classes=3)
    test = gaussians(300, seed=2)
    measured, counts = measure_head(fit.head, test)
    assert measured.accuracy > 0.95
    assert counts[:, 1].sum() == 300
    assert counts[:, 0].sum() == round(300 * measured.accuracy)
    logits = fit.head(torch.from_numpy(test.values))
    assert (logits.argmax(1).numpy() == test.labels).mean() == measured.accuracy
    if activation == "lwta":
        assert measured.active_fraction == 0.25
        assert 0 < measured.kl_by_site["head.act"] < 8 * np.log(4)
    assert len(fit.history) == 15
    assert fit.history[-1]["loss"] < fit.history[0]["loss"] / 2


def test_the_folded_head_equals_the_standardised_one() -> None:
    data = gaussians()
    fit = fit_head(SMALL, data, gaussians(200, seed=1), classes=3)
    best = fit.history[fit.best_epoch - 1]
    measured, _ = measure_head(fit.head, gaussians(200, seed=1))
    assert measured.accuracy == best["accuracy"]
    assert measured.nll == pytest.approx(best["nll"], rel=1e-4)
    assert best["accuracy"] == max(row["accuracy"] for row in fit.history)


def test_equal_seeds_give_equal_weights_and_the_callers_state_stays() -> None:
    def weights(seed: int) -> torch.Tensor:
        settings = replace(SMALL, seed=seed, epochs=2)
        fit = fit_head(settings, gaussians(), gaussians(50, seed=1), classes=3)
        return torch.cat([each.flatten() for each in fit.head.state_dict().values()])

    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_several_draws_cost_no_divergence_and_average_the_loss() -> None:
    data = gaussians()

    def first_step(samples: int) -> dict[str, float]:
        one = replace(SMALL, samples=samples, epochs=1, batch_size=400)
        return fit_head(one, data, data, classes=3).history[0]

    assert first_step(16)["kl"] == pytest.approx(first_step(1)["kl"], rel=1e-5)
    many, single = (first_step(count)["cross_entropy"] for count in (64, 1))
    assert many != single
    assert many == pytest.approx(single, rel=0.1)


def test_a_feature_that_never_changes_is_harmless() -> None:
    data = gaussians()
    data.values[:, 3] = 7.0
    fit = fit_head(SMALL, data, data, classes=3)
    assert fit.history[-1]["accuracy"] > 0.95


def test_mirrored_features_are_learned_from() -> None:
    data = gaussians()
    mirrored = replace(data, values=np.zeros_like(data.values), mirrored=data.values)
    fit = fit_head(SMALL, mirrored, gaussians(200, seed=1), classes=3)
    assert fit.history[-1]["accuracy"] > 0.6  # half of what it saw was zero


def test_the_result_is_a_whole_model(tmp_path: Path) -> None:
    data = Blobs(96, broken=(3,))
    settings = replace(SMALL, input_size=(3, 16, 16))
    options = HeadOptions(features=tmp_path / "features")
    result = train_head(RESNET, data, out=tmp_path / "out", settings=settings, options=options)
    loaded = models.load(str(tmp_path / "out"))
    assert loaded.class_names == ("red", "green", "blue")
    assert loaded.input_size == (3, 16, 16)
    assert list(lwta_modules(loaded.module)) == ["head.act"]
    assert result.skipped == {"blob-3": "image 'blob-3' is truncated"}
    assert result.validation.active_fraction == 0.25
    assert sum(count for _, count in result.per_class.values()) == result.validation.images
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["validation"] == result.validation.to_dict()
    assert metrics["per_class"]["red"]["images"] == result.per_class["red"][1]
    right = sum(right for right, _ in result.per_class.values())
    assert right == round(result.validation.accuracy * result.validation.images)
    assert result.validation.accuracy > 0.9
    images = torch.stack([loaded.transform(data.image(index)) for index in range(10) if index != 3])
    assert (loaded.module(images).argmax(1).numpy() == np.delete(data.labels[:10], 3)).mean() > 0.8


def test_the_backbone_is_frozen_and_the_given_model_untouched(tmp_path: Path) -> None:
    given = models.load(RESNET, input_size=(3, 16, 16), num_classes=3)
    before = {name: value.clone() for name, value in given.module.state_dict().items()}
    backbone = open_backbone(given, SMALL)
    assert torch.equal(given.module.head.weight, before["head.weight"])
    features = backbone.features(Blobs(20), options=HeadOptions(keep=False))
    images = torch.stack([given.transform(Blobs(20).image(index)) for index in range(20)])
    with torch.no_grad():
        own = torch.flatten(given.module.pool(given.module.features(images)), 1)
    np.testing.assert_allclose(features.values, own.numpy(), rtol=1e-3, atol=1e-3)
    for name, value in given.module.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("site", [("stages.1", None, 96), ("stages.0", "max", 48)])
def test_a_head_on_any_site(tmp_path: Path, site: tuple[str, str | None, int]) -> None:
    name, pooling, units = site
    settings = replace(SMALL, site=name, pooling=pooling, input_size=(3, 16, 16), epochs=2)
    options = HeadOptions(features=tmp_path / "features")
    result = train_head(RESNET, Blobs(60), out=tmp_path / "o", settings=settings, options=options)
    head = result.config.head
    assert head is not None
    assert (head.site, head.features, head.pooling) == (name, units, pooling or "mean")
    assert models.load(str(result.folder)).module(torch.zeros(2, 3, 16, 16)).shape == (2, 3)


def test_a_head_on_a_trained_folder_and_its_twin(tmp_path: Path) -> None:
    settings = replace(SMALL, input_size=(3, 16, 16), epochs=2)
    options = HeadOptions(features=tmp_path / "features")
    first = train_head(RESNET, Blobs(60), out=tmp_path / "a", settings=settings, options=options)
    twin = replace(settings, input_size=None).twin()
    second = train_head(
        str(first.folder), Blobs(60), out=tmp_path / "b", settings=twin, options=options
    )
    loaded = models.load(str(second.folder))
    assert list(lwta_modules(loaded.module)) == ["backbone.head.act"]
    assert second.config.competitors is None
    assert loaded.module(torch.zeros(2, 3, 16, 16)).shape == (2, 3)


def reusable(side: int = 16) -> LoadedModel:
    """A backbone whose features may be kept: a published architecture."""
    return models.load("timm:resnet18", pretrained=False, input_size=(3, side, side), seed=0)


def features_of(source: Blobs | Subset, folder: Path, *, mirrored: bool = False) -> Features:
    backbone = open_backbone(reusable(), HeadSettings())
    return backbone.features(source, mirrored=mirrored, options=HeadOptions(features=folder))


def test_features_are_computed_once_and_parts_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "BLOCK", 16)
    data = Blobs(40, broken=(5, 39))
    every = features_of(data, tmp_path)
    assert data.reads == 40
    assert len(list(tmp_path.glob(f"*/{INDEX}"))) == 3
    part = Subset(data, np.array([38, 5, 2, 17]), name="/part")
    few = features_of(part, tmp_path)
    assert data.reads == 40, "a part is read from the cache"
    assert few.indices.tolist() == [0, 2, 3]
    assert [(each.index, each.id) for each in few.skipped] == [(1, "blob-5")]
    place = {index: row for row, index in enumerate(every.indices.tolist())}
    wanted = every.values[[place[38], place[2], place[17]]]
    assert np.array_equal(few.values, wanted)
    assert few.labels.tolist() == data.labels[[38, 2, 17]].tolist()


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_module, "BLOCK", 16)

    class Stopped(Blobs):
        def image(self, index: int):
            if index == 33:
                raise KeyboardInterrupt
            return super().image(index)

    with pytest.raises(KeyboardInterrupt):
        features_of(Stopped(40), tmp_path)
    data = Blobs(40)
    features_of(data, tmp_path)
    assert data.reads == 8, "two blocks of 16 were kept"


def test_other_weights_have_other_features(tmp_path: Path) -> None:
    data = Blobs(20)
    first = features_of(data, tmp_path)
    module = reusable()
    with torch.no_grad():
        module.module.conv1.weight.mul_(2)
    other = open_backbone(replace(module, fingerprint=""), HeadSettings())
    second = other.features(data, options=HeadOptions(features=tmp_path))
    assert data.reads == 40
    assert not np.array_equal(first.values, second.values)


def test_code_of_one_s_own_is_not_kept(tmp_path: Path) -> None:
    data = Blobs(20)
    for _ in range(2):
        backbone = open_backbone(RESNET, replace(SMALL, input_size=(3, 16, 16)))
        backbone.features(data, options=HeadOptions(features=tmp_path))
    assert data.reads == 40
    assert not list(tmp_path.glob("*"))


def test_mirrored_features_are_those_of_mirrored_images(tmp_path: Path) -> None:
    data, turned = Blobs(12), Blobs(12)
    turned.arrays, turned.fingerprint = np.ascontiguousarray(turned.arrays[:, :, ::-1]), "turned"
    both = features_of(data, tmp_path, mirrored=True)
    np.testing.assert_allclose(both.mirrored, features_of(turned, tmp_path).values, atol=1e-5)


def test_large_features_lie_in_a_file() -> None:
    backbone = open_backbone(reusable(), HeadSettings())
    small = HeadOptions(keep=False, memory_mb=0)
    found = backbone.features(Blobs(20), options=small)
    assert isinstance(found.values.base, np.memmap) or isinstance(found.values, np.memmap)
    own = backbone.features(Blobs(20), options=HeadOptions(keep=False))
    assert np.array_equal(found.values, own.values)


class Blind(nn.Module):
    input_size = (3, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.mean((2, 3)) / 0)


def blind() -> nn.Module:
    return Blind()


def test_bad_settings_are_refused() -> None:
    with pytest.raises(DivisibilityError, match=r"7 competitors do not divide the 32.*4 or 8"):
        replace(SMALL, competitors=7)
    with pytest.raises(InputError, match="twin without competition"):
        HeadSettings(activation="relu", competitors=8)
    with pytest.raises(InputError, match="competitors must be given"):
        HeadSettings(competitors=None)
    with pytest.raises(UnknownNameError, match="activation of the head 'gelu'"):
        HeadSettings(activation="gelu")
    for name, value in (("epochs", 0), ("dropout", 1.0), ("scale", 0.0), ("kl_weight", -1.0)):
        with pytest.raises(InputError, match=f"{name} must be"):
            replace(SMALL, **{name: value})
    with pytest.raises(UnknownNameError, match="Did you mean 'hidden'"):
        HeadSettings.from_dict({"hiden": 3})
    assert HeadSettings.from_dict(SMALL.to_dict()) == SMALL


def test_bad_backbones_and_data_are_refused(tmp_path: Path) -> None:
    sized = replace(SMALL, input_size=(3, 16, 16))

    def refuse(
        text: str,
        backbone: str | LoadedModel = RESNET,
        data: Blobs | None = None,
        *,
        settings: HeadSettings = sized,
        validation: Blobs | None = None,
        kind: type[Exception] = InputError,
    ) -> None:
        with pytest.raises(kind, match=text) as caught:
            train_head(
                backbone,
                data or Blobs(40),
                out=tmp_path / "out",
                settings=settings,
                validation=validation,
            )
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()

    unlabelled, one = Blobs(40), Blobs(40, classes=1)
    unlabelled.labels = None
    refuse("has no labels", data=unlabelled)
    refuse("one class", data=one)
    refuse("have different classes", validation=Blobs(20, classes=4))
    refuse("nearest", settings=replace(sized, site="stagse.1"))
    refuse("stands for stages.0.conv1, stages", settings=replace(sized, site="stages.0.conv*"))
    refuse("needs a site", settings=replace(sized, pooling="max"))
    refuse(
        "unknown pooling",
        settings=replace(sized, site="stages.1", pooling="median"),
        kind=UnknownNameError,
    )
    refuse("holdout=0", settings=replace(sized, holdout=0.0))
    refuse("unknown timm model", "timm:resnet19", kind=NeuronymError)
    given = models.load(RESNET, input_size=(3, 16, 16))
    refuse("is for a SPEC", given, settings=replace(SMALL, input_size=(3, 32, 32)))
    foreign = replace(given, transform=lambda image: torch.zeros(3, 16, 16), fingerprint="")
    refuse("its own transform", foreign)
    refuse("cannot be made again from its SPEC", replace(given, spec="timm:resnet18"))
    refuse("SPEC 'timm:resnet34' makes: tensor", replace(reusable(), spec="timm:resnet34"))


def test_features_must_be_finite(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image 'blob-0' are not finite"):
        train_head(f"{__name__}:blind", Blobs(40), out=tmp_path / "out", settings=SMALL)


def test_labels_are_those_of_the_readable_images() -> None:
    data = Blobs(30, broken=(0, 7, 8))
    backbone = open_backbone(RESNET, replace(SMALL, input_size=(3, 16, 16)))
    found = cached_features(
        backbone.model, data, backbone.preprocessing, backbone=backbone.fingerprint
    )
    good = [index for index in range(30) if index not in (0, 7, 8)]
    assert found.indices.tolist() == good
    assert found.labels.tolist() == data.labels[good].tolist()
    broken = Blobs(5, broken=range(5))
    with pytest.raises(InputError, match="no readable image; the first fails with: image 'blob-0'"):
        backbone.features(broken)
