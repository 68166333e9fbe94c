"""Sharing: a folder, what save_pretrained writes, and the hub at its network border."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.test_models_head import headed_folder
from neuronym.errors import InputError, MissingError, UnavailableError, UnreadableError
from neuronym.models import load
from neuronym.models.sharing import HubModel

METRICS = {
    "validation": {"images": 40, "accuracy": 0.875, "nll": 0.5, "active_fraction": 0.125},
    "per_class": {
        "a": {"right": 20, "images": 20},
        "b": {"right": 5, "images": 10},
        "c": {"right": 10, "images": 10},
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path, _ = headed_folder(tmp_path / "model")
    (path / "metrics.json").write_text(json.dumps(METRICS))
    return path


def images() -> torch.Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_what_train_and_save_pretrained_write_is_the_same(folder: Path, tmp_path: Path) -> None:
    model = HubModel.from_pretrained(folder)
    assert not model.training
    model.save_pretrained(tmp_path / "saved")
    again = HubModel.from_pretrained(tmp_path / "saved")
    assert again.config == model.config
    assert again.metrics == METRICS
    assert load(str(tmp_path / "saved")).fingerprint == load(str(folder)).fingerprint
    for name in ("config.json", "metrics.json"):
        written = json.loads((tmp_path / "saved" / name).read_text())
        assert written == json.loads((folder / name).read_text())
    with torch.no_grad():
        assert torch.equal(again(images()), load(str(folder)).module(images()))
    assert again.loaded.class_names == ("a", "b", "c")


def test_the_card_carries_metrics_configuration_and_how_to_load(
    folder: Path, tmp_path: Path
) -> None:
    HubModel.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    from huggingface_hub import ModelCard

    card = ModelCard.load(tmp_path / "saved" / "README.md")
    assert card.data.library_name == "neuronym"
    assert card.data.pipeline_tag == "image-classification"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.875)
    for text in (
        "| accuracy | 0.8750 |",
        "| b | 5 | 10 |",
        "from_pretrained(",
        "| competitors | 8",
    ):
        assert text in card.text
    assert card.text.index("| b | 5 | 10 |") < card.text.index("| a | 20 | 20 |")


def test_a_card_of_one_s_own_stays(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "README.md").write_text("mine")
    HubModel.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "README.md").read_text() == "mine"


class FakeApi:
    """Stands for the hub: keeps what is uploaded."""

    kept: Path
    calls: list[dict[str, Any]]

    def __init__(self, *, token: str | None = None) -> None:
        self.token = token

    def create_repo(self, *, repo_id: str, private: bool | None, exist_ok: bool) -> Any:
        self.calls.append({"created": repo_id, "private": private, "token": self.token})
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id: str, folder_path: Path, **rest: Any) -> str:
        shutil.copytree(folder_path, self.kept / repo_id)
        self.calls.append({"message": rest["commit_message"]})
        return f"https://hub.invalid/{repo_id}/commit/1"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FakeApi]:
    FakeApi.kept, FakeApi.calls = tmp_path / "hub", []
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", FakeApi)
    return FakeApi


def test_push_uploads_a_folder_that_loads(folder: Path, hub: type[FakeApi]) -> None:
    address = HubModel.from_pretrained(folder).push_to_hub("ada/engine", private=True, token="t")
    assert address.endswith("ada/engine/commit/1")
    assert hub.calls[0] == {"created": "ada/engine", "private": True, "token": "t"}
    pushed = hub.kept / "ada" / "engine"
    assert load(str(pushed)).fingerprint == load(str(folder)).fingerprint
    assert "from_pretrained('ada/engine')" in (pushed / "README.md").read_text()


def test_a_push_that_fails_is_one_line(
    folder: Path, hub: type[FakeApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    model = HubModel.from_pretrained(folder)
    monkeypatch.setattr(hub, "create_repo", refused)
    with pytest.raises(UnavailableError, match="could not be pushed to 'ada/engine': no route to"):
        model.push_to_hub("ada/engine")
    with pytest.raises(InputError, match="hub repository 'not a name'"):
        model.push_to_hub("not a name")


def test_a_repository_loads_as_model_and_by_spec(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def snapshot(name: str, **arguments: Any) -> Path:
        asked.append((name, arguments.get("revision")))
        return folder

    monkeypatch.setattr("neuronym.models.sharing.snapshot_download", snapshot)
    monkeypatch.setattr("neuronym.models.sharing.snapshot", snapshot)
    loaded = load("hf:ada/engine", num_classes=3)
    assert loaded.spec == "hf:ada/engine"
    assert loaded.fingerprint == load(str(folder)).fingerprint
    HubModel.from_pretrained("ada/engine", revision="v1")
    assert asked == [("ada/engine", None), ("ada/engine", "v1")]
    with pytest.raises(InputError, match="has 3 classes, not 4"):
        load("hf:ada/engine", num_classes=4)
    with pytest.raises(InputError, match=r"takes \(3, 16, 16\), not \(3, 32, 32\)"):
        load("hf:ada/engine", input_size=(3, 32, 32))


def test_a_repository_does_not_run_foreign_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"model": "os:abort"}))
    monkeypatch.setattr("neuronym.models.sharing.snapshot", lambda *_, **__: folder)
    with pytest.raises(InputError, match="names the code 'os:abort', which is not run"):
        HubModel.from_pretrained("ada/engine")
    content["head"]["backbone"] = {"model": "os:abort"}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="names the code 'os:abort'"):
        HubModel.from_pretrained("ada/engine")


def test_offline_and_wrong_names_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="'nobody/nothing' is not in the local cache") as one:
        HubModel.from_pretrained("nobody/nothing")
    with pytest.raises(UnavailableError, match="could not be fetched") as two:
        HubModel.from_pretrained("nobody/nothing", cache_dir=tmp_path, local_files_only=True)
    with pytest.raises(MissingError, match="neither a model folder nor a repository"):
        HubModel.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableError, match=r"it has no config\.json"):
        HubModel.from_pretrained(tmp_path / "empty")
    assert "\n" not in str(one.value) + str(two.value)
