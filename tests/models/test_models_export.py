"""Export of the deterministic network, torch.compile, and exchange of state dicts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from models.test_models_head import headed_folder
from neuronym import lwta, probes
from neuronym.errors import FolderInUseError, InputError, UnavailableError, UnknownNameError
from neuronym.models import HeadConfig, HeadedModel, LoadedModel, Preprocessing, load
from neuronym.models.export import EXTRA, FORMATS, export, export_details

NETWORKS = {
    "timm:test_resnet": (8, (3, 64, 64)),
    "timm:test_vit": (24, (3, 160, 160)),
    "timm:test_convnext": (8, (3, 64, 64)),
}


def competitive(spec: str) -> LoadedModel:
    competitors, size = NETWORKS[spec]
    loaded = load(spec, pretrained=False, input_size=size, seed=1)
    module, _ = lwta.convert(loaded.module, competitors=competitors, example=size)
    return replace(loaded, module=module, fingerprint="")


def photos(loaded: LoadedModel, shared_data: Path, count: int) -> Tensor:
    source = probes.load(str(shared_data / "imagenet-photos.parquet"))
    return torch.stack([loaded.transform(source.image(index)) for index in range(count)])


def onnx(path: Path) -> Callable[[Tensor], Tensor]:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda batch: torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])


@pytest.mark.shared_data
@pytest.mark.parametrize("spec", list(NETWORKS))
def test_an_onnx_file_gives_the_logits_of_the_network(
    spec: str, tmp_path: Path, shared_data: Path
) -> None:
    pytest.importorskip("onnxscript")
    loaded = competitive(spec)
    result = export(loaded, tmp_path / "net.onnx")
    assert result.kind == ".onnx"
    assert result.agree
    run = onnx(result.path)
    for count in (1, 5):  # the batch is free
        batch = photos(loaded, shared_data, count)
        with torch.no_grad():
            wanted = loaded.module(batch)
        found = run(batch)
        # Nearly equal competitors may change places by rounding: a small jump, not a wrong class.
        torch.testing.assert_close(found, wanted, atol=5e-3, rtol=5e-3)
        assert torch.equal(found.argmax(1), wanted.argmax(1))


@pytest.mark.shared_data
@pytest.mark.parametrize("spec", list(NETWORKS))
def test_an_exported_program_gives_the_logits_of_the_network(
    spec: str, tmp_path: Path, shared_data: Path
) -> None:
    loaded = competitive(spec)
    result = export(loaded, tmp_path / "net.pt2", check=False)
    assert result.difference is None
    extra = {EXTRA: ""}
    program = torch.export.load(result.path, extra_files=extra).module()
    batch = photos(loaded, shared_data, 5)
    with torch.no_grad():
        torch.testing.assert_close(program(batch), loaded.module(batch), atol=5e-3, rtol=5e-3)
    details = json.loads(extra[EXTRA])
    assert details == json.loads(json.dumps(export_details(loaded)))
    assert set(details["competitors"].values()) == {NETWORKS[spec][0]}


def test_a_trained_folder_is_exported_with_its_classes(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    import onnx as library

    folder, _ = headed_folder(tmp_path / "model")
    loaded = load(str(folder))
    result = export(loaded, tmp_path / "net.onnx")
    assert result.difference is not None
    assert result.difference < 1e-5
    content = library.load(result.path)
    details = {each.key: each.value for each in content.metadata_props}
    details = json.loads(details[EXTRA])
    assert details["class_names"] == ["a", "b", "c"]
    transform = Preprocessing.from_dict(details["preprocessing"])
    image = Image.effect_mandelbrot((20, 20), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    assert torch.equal(transform(image), loaded.transform(image))


def test_a_head_on_a_site_is_exported(tmp_path: Path) -> None:
    backbone = load("timm:resnet18", pretrained=False, input_size=(3, 64, 64))
    config = HeadConfig("layer2", 128, cut=False, pooling="max", channel_dim=1)
    module = HeadedModel(backbone.module, nn.Linear(128, 3), config)
    loaded = replace(backbone, module=module, fingerprint="", class_names=None)
    result = export(loaded, tmp_path / "net.pt2")
    assert result.difference is not None
    assert result.difference < 1e-5


class Branches(nn.Module):
    input_size = (3, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum().item() > 0 else x.amax((2, 3))


def branches() -> nn.Module:
    return Branches()


def test_bad_exports_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = headed_folder(tmp_path / "model")
    loaded = load(str(folder))
    with pytest.raises(UnknownNameError, match=r"export format '.onx'; known: .onnx, .pt2"):
        export(loaded, tmp_path / "net.onx")
    (tmp_path / "kept.pt2").write_text("mine")
    with pytest.raises(FolderInUseError, match="exists already"):
        export(loaded, tmp_path / "kept.pt2")
    assert (tmp_path / "kept.pt2").read_text() == "mine"
    branching = load(f"{__name__}:branches")
    with pytest.raises(InputError, match="cannot trace the Branches") as caught:
        export(branching, tmp_path / "branch.pt2")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"pip install 'neuronym\[export\]'"):
        export(loaded, tmp_path / "net.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.pt2", "model"]


def test_a_file_that_computes_something_else_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuronym.models import export as module

    folder, _ = headed_folder(tmp_path / "model")
    write, _ = module.FORMATS[".pt2"]
    wrong = (write, lambda path: lambda batch: torch.ones(len(batch), 3) * 100)
    monkeypatch.setitem(module.FORMATS, ".pt2", wrong)
    with pytest.raises(InputError, match=r"logits differ from the network's by .*not kept"):
        export(load(str(folder)), tmp_path / "net.pt2")
    assert not (tmp_path / "net.pt2").exists()


@pytest.mark.parametrize("spec", list(NETWORKS))
def test_state_dicts_are_exchanged_with_the_dense_model(spec: str) -> None:
    competitors, size = NETWORKS[spec]
    dense = load(spec, pretrained=False, input_size=size, seed=1).module
    other = load(spec, pretrained=False, input_size=size, seed=2).module
    converted, _ = lwta.convert(other, competitors=competitors, example=size)
    assert list(converted.state_dict()) == list(dense.state_dict())
    converted.load_state_dict(dense.state_dict())
    other.load_state_dict(converted.state_dict())
    batch = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(other(batch), dense(batch))
        twin, _ = lwta.convert(dense, competitors=competitors, example=size)
        assert torch.equal(converted.eval()(batch), twin.eval()(batch))
        assert not torch.allclose(converted(batch), dense(batch))


@pytest.mark.parametrize("spec", list(NETWORKS))
def test_the_deterministic_network_is_one_graph(spec: str) -> None:
    loaded = competitive(spec)
    compiled = torch.compile(loaded.module, backend="aot_eager", fullgraph=True)
    batch = torch.randn(2, *loaded.input_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(compiled(batch), loaded.module(batch), atol=5e-3, rtol=5e-3)
    torch.compiler.reset()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_deterministic_network_compiles(tmp_path: Path) -> None:
    folder, model = headed_folder(tmp_path / "model")
    compiled = torch.compile(load(str(folder)).module, fullgraph=True)
    batch = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(compiled(batch), model(batch), atol=1e-5, rtol=1e-5)
    torch.compiler.reset()


@pytest.mark.parametrize("channel_dim", [1, -1])
def test_the_graph_has_the_gradient_of_the_mask(channel_dim: int) -> None:
    module = lwta.LWTA(4, channel_dim).eval()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 8, 8, generator=generator, requires_grad=True)
    upstream = torch.randn(3, 8, 8, generator=generator)
    (wanted,) = torch.autograd.grad(module(z), z, upstream)
    (found,) = torch.autograd.grad(compiled(z), z, upstream)
    assert torch.equal(found, wanted)
    torch.compiler.reset()


def test_logits_that_are_not_finite_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = headed_folder(tmp_path / "model")
    loaded = load(str(folder))
    write, _ = FORMATS[".pt2"]
    broken = (write, lambda path: lambda batch: torch.full((len(batch), 3), torch.nan))
    monkeypatch.setitem(FORMATS, ".pt2", broken)
    with pytest.raises(InputError, match="the file's logits are not finite"):
        export(loaded, tmp_path / "a.pt2")
    with torch.no_grad():
        for part in loaded.module.parameters():
            part.fill_(torch.nan)
    with pytest.raises(InputError, match="own logits are not finite"):
        export(loaded, tmp_path / "b.pt2")
    assert not list(tmp_path.glob("*.pt2"))
