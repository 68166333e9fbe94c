"""What goes wrong, and what the user is told: a layer, a step, a field, what to try."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuronym.errors import DivisibilityError, InputError, NeuronymError, UnreadableError
from neuronym.train import DivergedError, Progress, TrainSettings, train
from neuronym.train.checkpoint import check_same_run
from neuronym.train.divergence import first_bad_layer
from train.synthetic import Blobs

SETTINGS = TrainSettings(
    model="neuronym.models.small:scene_net",
    competitors=8,
    input_size=(3, 16, 16),
    epochs=2,
    batch_size=24,
    optimizer="adamw",
    learning_rate=0.01,
    temperature=2.0,
    holdout=0.25,
    workers=1,
)


class Bare(nn.Module):
    """Nothing that a conversion could replace."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.input_size = (3, 16, 16)
        self.layer = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(torch.relu(x.flatten(1)))
        return out


def bare(num_classes: int) -> nn.Module:
    return Bare(num_classes)


class Hot(nn.Module):
    """Too large for float16 in one layer, or infinite in evaluation only."""

    def __init__(self, num_classes: int, *, factor: float, always: bool) -> None:
        super().__init__()
        self.input_size = (3, 16, 16)
        self.hidden = nn.Linear(768, 8)
        self.act = nn.ReLU()
        self.head = nn.Linear(8, num_classes)
        self.factor, self.always = factor, always
        self.hidden.register_forward_hook(self._heat)

    def _heat(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        return output * self.factor if self.always or not self.training else output

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act(self.hidden(x.flatten(1)))) / 1e6
        return out


def hot_in_evaluation(num_classes: int) -> nn.Module:
    return Hot(num_classes, factor=float("inf"), always=False)


class Stop(Exception):
    """Stands for a kill."""


def stop(_: Progress) -> None:
    raise Stop


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        (
            {"model": "train.test_train_bad_input:bare", "input_size": None, "competitors": 4},
            InputError,
            r"nothing to replace in Bare: it calls activations as functions \(relu in",
        ),
        (
            {"competitors": 64},
            DivisibilityError,
            r"64 competitors do not divide the 32 channels of 'layers.0.act'; nearest that do: 32",
        ),
        ({"competitors": 5}, DivisibilityError, "dividing every layer: 2, 4, 8, 16, 32"),
        ({"drop_path": 0.1}, InputError, r"drop_path=0.1 finds no place in PlainNet"),
    ],
)
def test_models_that_do_not_fit(
    changes: dict[str, Any], error: type[Exception], text: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text) as caught:
        train(replace(SETTINGS, **changes), Blobs(), out=tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_an_empty_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'blobs:0' has no images"):
        train(SETTINGS, Blobs(0), out=tmp_path / "run")
    with pytest.raises(InputError, match="'blobs:0' has no images"):
        train(SETTINGS, Blobs(), validation=Blobs(0), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"competitors": 4}, "competitors was 8, now it is 4"),
        ({"model": "neuronym.models.small:mlp"}, "model was .*scene_net', now it is .*mlp'"),
        ({"gradual": 0.5}, "gradual was 0.0, now it is 0.5"),
        ({"accumulate": 2}, "accumulate was 1, now it is 2"),
    ],
)
def test_a_checkpoint_of_another_run(
    changes: dict[str, Any], text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("runs") / "run"
    settings = replace(SETTINGS, checkpoint_minutes=1e-9)
    with pytest.raises(Stop):
        train(settings, Blobs(), out=out, progress=stop)
    with pytest.raises(InputError, match=f"cannot resume: {text}"):
        train(replace(settings, **changes), Blobs(), out=out, resume=True)


def test_a_checkpoint_whose_network_has_changed(tmp_path: Path) -> None:
    settings = replace(SETTINGS, checkpoint_minutes=1e-9)
    with pytest.raises(Stop):
        train(settings, Blobs(), out=tmp_path / "run", progress=stop)
    path = tmp_path / "run" / "checkpoints" / "latest.pt"
    state = torch.load(path, weights_only=True)
    state["model"]["head.weight"] = torch.zeros(3, 64)
    torch.save(state, path)
    with pytest.raises(UnreadableError, match=r"'head.weight' has shape \(3, 64\).*needs \(3, 128"):
        train(settings, Blobs(), out=tmp_path / "run", resume=True)


def test_a_run_that_was_begun_before_a_field_existed_resumes() -> None:
    now = {"settings": SETTINGS.to_dict(), "version": "1", "processes": 1}
    older = SETTINGS.to_dict()
    for name in ("gradual", "accumulate", "mixup"):
        del older[name]
    check_same_run({"settings": older, "version": "1"}, now, where=Path("run"))
    with pytest.raises(InputError, match=r"mixup was 0.0, now it is 0.4"):
        check_same_run(
            {"settings": older, "version": "1"},
            {**now, "settings": {**now["settings"], "mixup": 0.4}},
            where=Path("run"),
        )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"gradual": 1.5}, r"gradual must be in \[0, 1\], not 1.5"),
        ({"gradual": 0.7, "settle": 0.4}, "gradual=0.7 and settle=0.4 are shares of one run"),
        ({"gradual_shape": "cubic"}, "unknown gradual_shape 'cubic'; known: linear, cosine"),
        ({"accumulate": 0}, "accumulate must be a whole number of at least 1"),
        ({"accumulate": 25}, "accumulate=25 passes need at least as many images"),
        ({"mixup": -0.1}, "mixup must be at least 0"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\)"),
    ],
)
def test_settings_that_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(NeuronymError, match=text):
        replace(SETTINGS, **changes)


def test_a_loss_that_is_infinite_on_validation_only(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS,
        model="train.test_train_bad_input:hot_in_evaluation",
        input_size=None,
        competitors=4,
    )
    text = r"loss on validation is nan after step 3 of 6: the first layer .* is 'hidden'; lower"
    with pytest.raises(DivergedError, match=text):
        train(settings, Blobs(), out=tmp_path / "run")


def test_where_values_stop_being_finite_and_what_to_try() -> None:
    net = Hot(3, factor=1e6, always=True)
    images = torch.ones(2, 3, 16, 16)
    assert "loss itself overflows" in first_bad_layer(net, images).place
    found = first_bad_layer(net, images, precision=torch.float16)
    assert "'hidden'" in found.place
    assert "bfloat16" in found.advice
    assert "input images" in first_bad_layer(net, images / 0).place
    with torch.no_grad():
        net.head.bias[0] = float("nan")
    assert first_bad_layer(net, images).place.startswith("the bias of layer 'head'")
    assert not net.hidden._forward_hooks or len(net.hidden._forward_hooks) == 1
