"""The loop: learning, exact resumption, determinism, divergence, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from neuronym.errors import FolderInUseError, InputError, UnreadableError
from neuronym.lwta import LWTA, gradual, lwta_modules
from neuronym.models import load
from neuronym.results import Scorecard
from neuronym.train import (
    DivergedError,
    Progress,
    TrainSettings,
    build_model,
    evaluate,
    open_source,
    split,
    train,
)
from neuronym.train.scorecard import wilson
from train.synthetic import Blobs

SETTINGS = TrainSettings(
    model="neuronym.models.small:scene_net",
    competitors=8,
    input_size=(3, 16, 16),
    epochs=3,
    batch_size=16,
    optimizer="adamw",
    learning_rate=0.01,
    augment="light",
    kl_weight=1e-4,
    temperature=2.0,
    temperature_end=0.5,
    settle=0.2,
    holdout=0.25,
    workers=1,
)


class Dropping(nn.Module):
    """A network with dropout, which draws from torch's default generator as LWTA does."""

    def __init__(self, num_classes: int, input_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.input_size = input_size
        self.layer = nn.Linear(3 * input_size[1] * input_size[2], 16)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.drop(self.act(self.layer(x.flatten(1)))))
        return out


def dropping(num_classes: int, input_size: tuple[int, int, int] = (3, 16, 16)) -> nn.Module:
    return Dropping(num_classes, input_size)


class Exploding(Dropping):
    def __init__(self, num_classes: int, input_size: tuple[int, int, int]) -> None:
        super().__init__(num_classes, input_size)
        self.calls = 0
        self.layer.register_forward_hook(self._explode)

    def _explode(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        self.calls += 1
        return output * (float("inf") if self.calls > 2 else 1.0)


def exploding(num_classes: int, input_size: tuple[int, int, int] = (3, 16, 16)) -> nn.Module:
    return Exploding(num_classes, input_size)


class Stop(Exception):
    """Stands for a kill."""


def stop_at(step: int) -> Any:
    def progress(seen: Progress) -> None:
        if seen.step == step:
            raise Stop

    return progress


def tensors(folder: Path, name: str = "last.safetensors") -> dict[str, Tensor]:
    return load_file(folder / name)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "competitive"
    train(SETTINGS, Blobs(), out=folder)
    return folder


def test_both_twins_learn(finished: Path, tmp_path: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    dense = train(SETTINGS.twin(), Blobs(), out=tmp_path / "dense")
    for validation in (metrics["validation"], dense.validation.to_dict()):
        assert validation["accuracy"] > 0.9
        assert validation["nll"] < 0.7
        assert validation["images"] == 24
    assert metrics["validation"]["active_fraction"] == pytest.approx(1 / 8, abs=1e-3)
    assert list(metrics["validation"]["kl_by_site"]) == [f"layers.{i}.act" for i in range(3)]
    assert dense.validation.kl_by_site == {}
    assert dense.validation.active_fraction is not None
    assert dense.validation.active_fraction > 0.2
    losses = [record["loss"] for record in metrics["history"]]
    assert losses[-1] < losses[0]


def test_what_is_written(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        ".neuronym",
        "checkpoints",
        "config.json",
        "last.safetensors",
        "manifest.json",
        "metrics.json",
        "model.safetensors",
        "scorecard.json",
    }
    config = json.loads((finished / "config.json").read_text())
    assert config["competitors"] == 8
    assert config["class_names"] == ["red", "green", "blue"]
    assert config["converted"] == ["layers.0.act", "layers.1.act", "layers.2.act"]
    assert config["preprocessing"]["input_size"] == [3, 16, 16]
    assert config["train"]["learning_rate"] == 0.01
    assert config["temperature"] == pytest.approx(0.5)
    assert config["data"]["training data"] != config["data"]["validation data"]
    assert config["versions"]["torch"] == torch.__version__
    metrics = json.loads((finished / "metrics.json").read_text())
    assert [record["epoch"] for record in metrics["history"]] == [1, 2, 3]
    assert metrics["skipped"] == {}


def test_the_folder_loads_and_measures_the_same(finished: Path) -> None:
    loaded = load(str(finished))
    _, held = split(Blobs(), 0.25, seed=0)
    again = evaluate(loaded.module, open_source(held, loaded.preprocessing), kl=True)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert again.accuracy == metrics["validation"]["accuracy"]
    assert again.nll == pytest.approx(metrics["validation"]["nll"], abs=1e-5)
    assert again.kl_by_site == pytest.approx(metrics["validation"]["kl_by_site"], rel=1e-4)


def test_the_best_epoch_is_the_model(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    accuracies = [record["accuracy"] for record in metrics["history"]]
    best = max(range(3), key=lambda index: (accuracies[index], index))
    assert metrics["best_epoch"] == best + 1
    assert metrics["validation"]["accuracy"] == accuracies[best]
    assert same(
        tensors(finished, "model.safetensors"), tensors(finished, "checkpoints/best.safetensors")
    )


@pytest.mark.parametrize("step", [1, 4, 6, 11])
def test_a_killed_run_resumes_to_the_same_bits(finished: Path, tmp_path: Path, step: int) -> None:
    settings = replace(SETTINGS, checkpoint_minutes=1e-9)
    out = tmp_path / "run"
    with pytest.raises(Stop):
        train(settings, Blobs(), out=out, progress=stop_at(step))
    assert not (out / "config.json").exists()
    with pytest.raises(UnreadableError, match="training has not finished"):
        load(str(out))
    torch.manual_seed(step)
    steps = []
    train(settings, Blobs(), out=out, resume=True, progress=lambda seen: steps.append(seen.step))
    assert steps == list(range(step + 1, 13))
    for name in ("last.safetensors", "model.safetensors"):
        assert same(tensors(finished, name), tensors(out, name))
    theirs, ours = (
        json.loads((folder / "metrics.json").read_text())["history"] for folder in (finished, out)
    )
    for record in (*theirs, *ours):
        del record["seconds"]
    assert ours == theirs


def test_a_run_killed_between_checkpoints_goes_back_to_the_last(
    finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(Stop):
        train(SETTINGS, Blobs(), out=out, progress=stop_at(7))
    first = []
    train(SETTINGS, Blobs(), out=out, resume=True, progress=lambda seen: first.append(seen.step))
    assert first[0] == 5
    assert same(tensors(finished), tensors(out))


def test_other_random_modules_resume_too(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS, model="train.test_train_loop:dropping", optimizer="sgd", checkpoint_minutes=1e-9
    )
    train(settings, Blobs(), out=tmp_path / "whole")
    with pytest.raises(Stop):
        train(settings, Blobs(), out=tmp_path / "parts", progress=stop_at(6))
    train(settings, Blobs(), out=tmp_path / "parts", resume=True)
    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))


def test_the_seed_rules(finished: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    train(SETTINGS, Blobs(), out=tmp_path / "same")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same(tensors(finished), tensors(tmp_path / "same"))
    train(replace(SETTINGS, seed=1, holdout=0.25), Blobs(), out=tmp_path / "other")
    assert not same(tensors(finished), tensors(tmp_path / "other"))


def test_twins_start_from_the_same_weights() -> None:
    competitive = build_model(SETTINGS, 3)
    dense = build_model(SETTINGS.twin(), 3)
    assert same(competitive.loaded.module.state_dict(), dense.loaded.module.state_dict())
    assert competitive.sites == dense.sites
    assert competitive.loaded.fingerprint != dense.loaded.fingerprint


def test_a_finished_run_returns_at_once(finished: Path) -> None:
    result = train(SETTINGS, Blobs(), out=finished, resume=True, progress=stop_at(1))
    assert result.best_epoch >= 1
    assert result.config.competitors == 8


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"epochs": 4}, "cannot resume: epochs was 3, now it is 4"),
        ({"kl_weight": 0.5}, "cannot resume: kl_weight was 0.0001, now it is 0.5"),
    ],
)
def test_resuming_needs_the_same_settings(
    finished: Path, change: dict[str, Any], text: str
) -> None:
    with pytest.raises(InputError, match=text):
        train(replace(SETTINGS, **change), Blobs(), out=finished, resume=True)
    with pytest.raises(InputError, match="cannot resume: training data was"):
        train(SETTINGS, Blobs(120), out=finished, resume=True)


def test_an_output_that_is_taken(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderInUseError, match="--overwrite"):
        train(SETTINGS, Blobs(), out=finished)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FolderInUseError, match="not a neuronym run"):
        train(SETTINGS, Blobs(), out=tmp_path, overwrite=True)
    out = tmp_path / "begun"
    with pytest.raises(Stop):
        train(SETTINGS, Blobs(), out=out, progress=stop_at(1))
    with pytest.raises(FolderInUseError, match="has not finished; resume it"):
        train(SETTINGS, Blobs(), out=out)


def test_a_broken_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(SETTINGS, Blobs(), out=tmp_path / "run", progress=stop_at(5))
    path = tmp_path / "run" / "checkpoints" / "latest.pt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UnreadableError, match="not a checkpoint that this version can resume"):
        train(SETTINGS, Blobs(), out=tmp_path / "run", resume=True)


def test_progress_says_rate_and_time_left(tmp_path: Path) -> None:
    seen: list[Progress] = []
    train(SETTINGS, Blobs(), out=tmp_path / "run", progress=seen.append)
    assert [each.step for each in seen] == list(range(1, 13))
    assert all(each.steps == 12 and each.epochs == 3 for each in seen)
    assert [each.epoch for each in seen] == [1] * 4 + [2] * 4 + [3] * 4
    assert all(each.images_per_second > 0 for each in seen)
    assert seen[-1].seconds_left == 0
    assert seen[0].accuracy is None
    assert seen[5].accuracy is not None
    assert seen[0].dead_units is None
    assert 0 <= (seen[5].dead_units or 0) < 224
    assert seen[5].dead_units is not None
    for each in seen[:-1]:
        left = (12 - each.step) * 16 / each.images_per_second
        assert each.seconds_left == pytest.approx(left)


def test_temperature_and_mode_follow_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, bool]] = []
    forward = LWTA.forward

    def watched(self: LWTA, z: Tensor) -> Tensor:
        if self.training and z.shape[1] == 32:
            seen.append((self.temperature, self.samples))
        return forward(self, z)

    monkeypatch.setattr(LWTA, "forward", watched)
    train(SETTINGS, Blobs(), out=tmp_path / "run")
    expected = [2.0 * (0.5 / 2.0) ** (step / 11) for step in range(12)]
    assert [temperature for temperature, _ in seen] == pytest.approx(expected)
    assert [samples for _, samples in seen] == [True] * 10 + [False] * 2


def test_the_loss_is_cross_entropy_plus_weighted_divergence(finished: Path) -> None:
    for record in json.loads((finished / "metrics.json").read_text())["history"]:
        assert record["kl"] > 0
        expected = record["cross_entropy"] + 1e-4 * record["kl"]
        assert record["loss"] == pytest.approx(expected, rel=1e-5)


def test_kl_per_position_is_the_mean_over_blocks(tmp_path: Path) -> None:
    settings = replace(SETTINGS, kl_per_position=True, kl_weight=1e-9, epochs=1)
    result = train(settings, Blobs(), out=tmp_path / "run")
    assert 0 < result.history[0]["kl"] < 3 * np.log(8)


def test_a_large_divergence_weight_makes_winners_random(tmp_path: Path) -> None:
    free = train(replace(SETTINGS, kl_weight=0.0), Blobs(), out=tmp_path / "free")
    held = train(replace(SETTINGS, kl_weight=1.0, epochs=12), Blobs(), out=tmp_path / "held")
    assert sum(held.validation.kl_by_site.values()) < 0.75 * sum(
        free.validation.kl_by_site.values()
    )


def test_half_precision(tmp_path: Path) -> None:
    result = train(replace(SETTINGS, precision="bfloat16"), Blobs(), out=tmp_path / "run")
    assert result.validation.accuracy > 0.9
    assert tensors(tmp_path / "run")["head.weight"].dtype == torch.float32


def test_skipped_sites_stay_dense(tmp_path: Path) -> None:
    settings = replace(SETTINGS, skip=("layers.0.*",), epochs=1)
    train(settings, Blobs(), out=tmp_path / "run")
    loaded = load(str(tmp_path / "run"))
    assert list(lwta_modules(loaded.module)) == ["layers.1.act", "layers.2.act"]
    assert isinstance(loaded.module.layers[0].act, nn.ReLU)


def test_training_goes_on_from_a_folder(finished: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, model=str(finished), epochs=1, learning_rate=1e-6)
    result = train(settings, Blobs(), out=tmp_path / "more")
    assert result.config.model == "neuronym.models.small:scene_net"
    assert result.history[0]["loss"] < 0.8
    assert load(str(tmp_path / "more")).input_size == (3, 16, 16)
    with pytest.raises(InputError, match="competes among 8; competitors=4 is another network"):
        train(replace(settings, competitors=4), Blobs(), out=tmp_path / "four")
    with pytest.raises(InputError, match="dense=True cannot undo it"):
        train(settings.twin(), Blobs(), out=tmp_path / "dense")


def test_divergence_names_step_and_layer(tmp_path: Path) -> None:
    settings = replace(SETTINGS, model="train.test_train_loop:exploding", kl_weight=0.0)
    with pytest.raises(DivergedError, match=r"at step 3 of 12: .* not finite is 'layer'"):
        train(settings, Blobs(), out=tmp_path / "run")


def test_divergence_of_weights(tmp_path: Path) -> None:
    settings = replace(SETTINGS, optimizer="sgd", learning_rate=1e30, schedule="constant")
    with pytest.raises(DivergedError, match=r"at step \d+ of 12: .*(layer|output)"):
        train(settings, Blobs(), out=tmp_path / "run")


def test_validation_of_other_classes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="have different classes"):
        train(SETTINGS, Blobs(), validation=Blobs(classes=4), out=tmp_path / "run")
    with pytest.raises(InputError, match="holdout=0 keeps no image apart"):
        train(replace(SETTINGS, holdout=0.0), Blobs(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_broken_images_do_not_stop_training(tmp_path: Path) -> None:
    result = train(
        SETTINGS, Blobs(broken=[2, 50]), validation=Blobs(24, broken=[1]), out=tmp_path / "run"
    )
    assert set(result.skipped) == {"blob-2", "blob-50", "blob-1"}
    assert result.validation.images == 23


def test_the_competition_is_measured_every_epoch_and_scored(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    sites = [f"layers.{index}.act" for index in range(3)]
    for record in metrics["history"]:
        assert list(record["dead_units"]) == list(record["win_entropy"]) == sites
        assert all(0 <= value <= 1 for value in record["win_entropy"].values())
        assert all(value > 0 for value in record["kl_by_site"].values())
    layers = metrics["validation"]["diagnosis"]["layers"]
    best = metrics["history"][metrics["best_epoch"] - 1]
    assert {layer["name"]: layer["dead_units"] for layer in layers} == best["dead_units"]
    card = Scorecard.load(finished / "scorecard.json")
    assert card["accuracy"].value == metrics["validation"]["accuracy"]
    low, high = card["accuracy"].interval or (1, 0)
    assert low < card["accuracy"].value <= high <= 1
    assert card["accuracy"].n == 24
    assert card["units.dead"].n == 32 + 64 + 128
    assert card["units.dead"].value == sum(best["dead_units"].values())
    assert card["active_fraction/layers.2.act"].value == pytest.approx(1 / 8, abs=1e-3)
    assert card["win_entropy/layers.0.act/3"].value == layers[0]["entropy"][3]
    assert card["kl/layers.1.act"].value == metrics["validation"]["kl_by_site"]["layers.1.act"]
    assert card.provenance["settings"]["competitors"] == 8


def test_a_dense_twin_has_no_competition_to_score(tmp_path: Path) -> None:
    result = train(replace(SETTINGS.twin(), epochs=1), Blobs(), out=tmp_path / "run")
    assert result.validation.diagnosis is None
    assert "dead_units" not in result.history[0]
    names = [metric.name for metric in Scorecard.load(tmp_path / "run" / "scorecard.json").metrics]
    assert names == ["accuracy", "nll", "active_fraction"]


def test_wilson_by_hand() -> None:
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_a_gradual_run_begins_dense_and_ends_competitive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = train(SETTINGS.twin(), Blobs(), out=tmp_path / "dense")
    shares: list[float] = []
    forward = gradual.GradualLWTA.forward

    def watched(self: gradual.GradualLWTA, z: Tensor) -> Tensor:
        if self.training and z.shape[1] == 32:
            shares.append(self.share)
        return forward(self, z)

    monkeypatch.setattr(gradual.GradualLWTA, "forward", watched)
    settings = replace(SETTINGS, model=str(tmp_path / "dense"), gradual=0.5)
    result = train(settings, Blobs(), out=tmp_path / "run", validation=None)
    assert shares == pytest.approx([step / 6 for step in range(6)] + [1.0] * 6)
    assert [record["share"] for record in result.history] == [0.5, 1.0, 1.0]
    # Validation is of pure competition even while training is half dense.
    assert result.validation.active_fraction == pytest.approx(1 / 8, abs=1e-3)
    loaded = load(str(tmp_path / "run"))
    assert {type(part) for part in lwta_modules(loaded.module).values()} == {LWTA}
    keys = list(tensors(tmp_path / "dense"))
    assert list(tensors(tmp_path / "run")) == keys
    assert result.validation.accuracy > 0.9
    assert dense.validation.accuracy > 0.9


def test_a_gradual_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    settings = replace(SETTINGS, gradual=0.6, checkpoint_minutes=1e-9)
    train(settings, Blobs(), out=tmp_path / "whole")
    with pytest.raises(Stop):
        train(settings, Blobs(), out=tmp_path / "run", progress=stop_at(5))
    train(settings, Blobs(), out=tmp_path / "run", resume=True)
    assert same(tensors(tmp_path / "whole"), tensors(tmp_path / "run"))
