"""Model folders: round trip, and everything that can be wrong with one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from neuronym.errors import InputError, MissingError, UnreadableError
from neuronym.lwta import lwta_modules
from neuronym.models import ModelConfig, Preprocessing, load, save_folder
from neuronym.models.folder import compete

SIZE = (3, 16, 16)


def config(competitors: int | None = 8) -> ModelConfig:
    return ModelConfig(
        model="neuronym.models.small:mlp",
        num_classes=3,
        class_names=("a", "b", "c"),
        competitors=competitors,
        temperature=None if competitors is None else 2.0,
        converted=() if competitors is None else ("act",),
        preprocessing=Preprocessing(SIZE, (0.5,) * 3, (0.25,) * 3),
        details={"note": "kept"},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    module = load("neuronym.models.small:mlp", num_classes=3, input_size=SIZE, seed=4).module
    save_folder(tmp_path / "model", compete(module, 8, SIZE)[0].state_dict(), config())
    return tmp_path / "model"


def change(folder: Path, name: str, value: object) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content[name] = value
    path.write_text(json.dumps(content))


def test_round_trip(folder: Path) -> None:
    module = load("neuronym.models.small:mlp", num_classes=3, input_size=SIZE, seed=4).module
    twin = compete(module, 8, SIZE)[0].eval()
    loaded = load(str(folder))
    images = torch.randn(5, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(images), twin(images), atol=0, rtol=0)
        assert not torch.equal(loaded.module(images), module(images))
    assert loaded.class_names == ("a", "b", "c")
    assert loaded.transform == config().preprocessing
    assert [part.competitors for part in lwta_modules(loaded.module).values()] == [8]
    assert load(str(folder)).fingerprint == loaded.fingerprint


def test_a_dense_folder_does_not_compete(tmp_path: Path) -> None:
    module = load("neuronym.models.small:mlp", num_classes=3, input_size=SIZE).module
    save_folder(tmp_path / "dense", module.state_dict(), config(None))
    loaded = load(str(tmp_path / "dense"))
    assert not lwta_modules(loaded.module)
    images = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.module(images), module(images))


def test_truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UnreadableError, match="not a whole safetensors file"):
        load(str(folder))


def test_weights_of_another_format(folder: Path) -> None:
    torch.save({"a": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(UnreadableError, match=r"model.safetensors' is not a whole safetensors"):
        load(str(folder))


def test_missing_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingError, match="weight file"):
        load(str(folder))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("competitors", 4, "differ in the field 'competitors': 4 and 8"),
        ("competitors", None, "differ in the field 'competitors': None and 8"),
        ("num_classes", 5, "differ in the field 'num_classes': 5 and 3"),
        ("model", "timm:resnet18", "differ in the field 'model': timm:resnet18 and neuronym"),
        ("converted", ["other"], "differ in the field 'converted': act, other"),
        ("preprocessing", {"input_size": [3, 16, 16]}, "preprocessing is not complete"),
        ("kind", "atlas", "not the configuration of a neuronym model"),
        ("schema", 99, "schema 99"),
        ("class_names", 7, "not iterable"),
    ],
)
def test_configuration_and_weights_must_fit(
    folder: Path, field: str, value: object, text: str
) -> None:
    change(folder, field, value)
    with pytest.raises(UnreadableError, match=text) as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)


def test_a_missing_field_is_named(folder: Path) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    del content["competitors"]
    path.write_text(json.dumps(content))
    with pytest.raises(UnreadableError, match="lacks the field 'competitors'"):
        load(str(folder))


def test_broken_configuration(folder: Path) -> None:
    (folder / "config.json").write_text('{"kind": ')
    with pytest.raises(UnreadableError, match="not JSON"):
        load(str(folder))


def test_no_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(UnreadableError, match=r"it has no config.json"):
        load(str(folder))
    (folder / "checkpoints").mkdir()
    with pytest.raises(UnreadableError, match="training has not finished"):
        load(str(folder))


def rewrite(folder: Path, change_to: dict[str, torch.Tensor | None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name, value in change_to.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, path)


def test_tensors_must_fit_the_architecture(folder: Path) -> None:
    rewrite(folder, {"head.weight": torch.zeros(3, 5)})
    with pytest.raises(UnreadableError, match=r"'head.weight' has shape \(3, 5\).* \(3, 192\)"):
        load(str(folder))
    rewrite(folder, {"head.weight": None})
    with pytest.raises(UnreadableError, match=r"'head\.weight' is missing"):
        load(str(folder))
    rewrite(folder, {"head.weight": torch.zeros(3, 192), "tail": torch.zeros(1)})
    with pytest.raises(UnreadableError, match="'tail' is not part of the architecture"):
        load(str(folder))


def test_another_number_of_classes_is_refused(folder: Path) -> None:
    assert load(str(folder), num_classes=3).class_names == ("a", "b", "c")
    with pytest.raises(InputError, match="has 3 classes, not 5"):
        load(str(folder), num_classes=5)
    with pytest.raises(InputError, match=r"takes \(3, 16, 16\), not \(3, 8, 8\)"):
        load(str(folder), input_size=(3, 8, 8))


def test_competitors_that_do_not_divide(tmp_path: Path) -> None:
    module = load("neuronym.models.small:mlp", num_classes=3, input_size=SIZE).module
    bad = replace(config(), competitors=7)
    save_folder(tmp_path / "bad", module.state_dict(), bad)
    with pytest.raises(UnreadableError, match="7 competitors do not divide"):
        load(str(tmp_path / "bad"))
