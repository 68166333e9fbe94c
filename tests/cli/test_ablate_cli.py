"""``neuronym ablate`` and what other commands do with the edited model that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuronym import lwta, vision_text
from neuronym.cli import main
from neuronym.cli._changes import units_of
from neuronym.errors import InputError, UnreadableError
from neuronym.models import (
    Change,
    Edit,
    LoadedModel,
    ModelConfig,
    Preprocessing,
    applied,
    load,
    save_edited,
    save_folder,
)
from neuronym.results import Atlas, EffectReport, SiteInfo, Unit
from neuronym.search import match_text

SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small competitive model folder."""
    path = tmp_path_factory.mktemp("ablate") / "model"
    dense = load("neuronym.models.small:mlp", num_classes=3, input_size=(3, SIZE, SIZE))
    module, report = lwta.convert(dense.module, 4, example=(3, SIZE, SIZE))
    config = ModelConfig(
        model="neuronym.models.small:mlp",
        num_classes=3,
        class_names=("cat", "dog", "ship"),
        competitors=4,
        temperature=0.67,
        converted=tuple(site.name for site in report.replaced),
        preprocessing=Preprocessing(input_size=(3, SIZE, SIZE)),
    )
    save_folder(path, module.state_dict(), config)
    return path


def site_of(folder: Path) -> str:
    return next(iter(lwta.lwta_modules(load(str(folder)).module)))


def images(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def atlas_of(folder: Path, where: Path) -> Path:
    model = load(str(folder))
    site = site_of(folder)
    units = tuple(
        Unit(
            site=site,
            unit=k,
            block=k // 4,
            name=("sky", "water", "open water", None)[k % 4],
            score=0.1,
            p_value=None,
            runner_up_names=(),
            runner_up_scores=(),
            firing_rate=0.5,
            win_rate=0.25,
            top_images=(),
            top_activations=(),
        )
        for k in range(8)
    )
    made_from = {"model": {"spec": str(folder), "fingerprint": model.fingerprint}}
    info = SiteInfo(site, 8, -1, 4, "winner", 1)
    Atlas((info,), units, {}, made_from).save(where)
    return where


def test_effects_an_edit_and_the_edited_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, site = images(tmp_path / "data"), site_of(folder)
    asked = ["--hand-over", f"{site}/0,4-6", "--scale", f"{site}/9=2.5"]
    outs = ["--out", str(tmp_path / "out"), "--apply", str(tmp_path / "edited")]
    seen = ["--image", str(data / "cat" / "0.png"), "--images", str(data)]
    status = main(["ablate", "--model", str(folder), *asked, *seen, *outs, "-q"])
    shown = capsys.readouterr().out
    assert status == 0
    assert f"hand_over {site}/0,4,5,6" in shown
    assert "8 images:" in shown
    edit = Edit.load(tmp_path / "out" / "edit.json")
    assert edit.changes == (
        Change(site, (0, 4, 5, 6), "hand_over"),
        Change(site, (9,), "scale", factor=2.5),
    )
    effect = EffectReport.load(tmp_path / "out" / "effect.json")
    assert effect.images == 8
    assert [row.name for row in effect.per_class] == ["cat", "dog"]
    assert EffectReport.load(tmp_path / "out" / "image.json").images == 1
    model, edited = load(str(folder)), load(str(tmp_path / "edited"))
    x = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = model.module(x)
        with applied(model, edit):
            expected = model.module(x)
        assert torch.equal(edited.module(x), expected)
        assert not torch.equal(plain, expected)
    assert edited.spec == str(tmp_path / "edited")
    assert edited.fingerprint != model.fingerprint
    again = ["--edit", str(tmp_path / "out" / "edit.json"), "--force", f"{site}/13", "--json"]
    assert main(["ablate", "--model", str(folder), *again, *seen[:2]]) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["edit"]["changes"]) == 3
    assert record["image"]["images"] == 1
    assert main(["ablate", "--model", str(folder), *asked, *outs]) == 2
    assert "already holds a run of 'ablation'" in capsys.readouterr().err
    assert main(["ablate", "--model", str(folder), *asked, *outs, "--overwrite"]) == 0


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_an_edited_model_is_exported(
    folder: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if ending == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    model, site = load(str(folder)), site_of(folder)
    changes = [
        Change(site, (0, 1), "hand_over"),
        Change(site, (4,), "hand_over", to=5),
        Change(site, (9,), "silence"),
    ]
    save_edited(model, changes, tmp_path / "edited")
    out = tmp_path / f"model.{ending}"
    assert main(["export", "--model", str(tmp_path / "edited"), "--out", str(out)]) == 0
    assert "differ from the network's by at most" in capsys.readouterr().err  # it was run
    x = torch.randn(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = load(str(tmp_path / "edited")).module(x)
        plain = model.module(x)
    if ending == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {"images": x.numpy()})[0])
    else:
        extra = {"neuronym.json": ""}
        found = torch.export.load(out, extra_files=extra).module()(x)
        assert site in json.loads(extra["neuronym.json"])["edits"]
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, plain, atol=1e-2)


def test_an_edited_model_stands_alone_and_can_be_edited_again(folder: Path, tmp_path: Path) -> None:
    model, site = load(str(folder)), site_of(folder)
    once, twice = Change(site, (0,), "hand_over"), Change(site, (1,), "hand_over")
    save_edited(model, once, tmp_path / "once")
    save_edited(load(str(tmp_path / "once")), twice, tmp_path / "twice")
    (tmp_path / "once").rename(tmp_path / "gone")
    x = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), applied(model, [once, twice]):
        assert torch.equal(load(str(tmp_path / "twice")).module(x), model.module(x))
    weights = tmp_path / "gone" / "base" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 0x40
    weights.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"the edit in .* was made from another model"):
        load(str(tmp_path / "gone"))
    (tmp_path / "gone" / "manifest.json").unlink()
    with pytest.raises(UnreadableError, match="not a model folder"):
        load(str(tmp_path / "gone"))


def test_a_model_by_name_is_kept_by_name(tmp_path: Path) -> None:
    model = load("neuronym.models.small:mlp")
    name = next(name for name, part in model.module.named_modules() if part.__class__ is not None
                and name and part.__class__.__name__ == "ReLU")  # fmt: skip
    save_edited(model, Change(name, (0,), "silence"), tmp_path / "edited")
    assert not (tmp_path / "edited" / "base").exists()
    edited = load(str(tmp_path / "edited"))
    assert edited.fingerprint != model.fingerprint
    other = load("neuronym.models.small:mlp", seed=1)
    with pytest.raises(InputError, match="save that one by save_folder first"):
        save_edited(other, Change(name, (0,), "silence"), tmp_path / "other")
    assert not (tmp_path / "other" / "edit.json").exists()
    nowhere = LoadedModel(model.module, model.transform, None, "my network", model.input_size)
    with pytest.raises(InputError, match="base 'my network' cannot be loaded"):
        save_edited(nowhere, Change(name, (0,), "silence"), tmp_path / "other")


def test_units_by_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    atlas = atlas_of(folder, tmp_path / "atlas")
    image = images(tmp_path / "data") / "dog" / "1.png"
    asked = ["ablate", "--atlas", str(atlas), "--image", str(image)]
    assert main([*asked, "--name", "*water", "--do", "hand-over", "--json"]) == 0
    (change,) = json.loads(capsys.readouterr().out)["edit"]["changes"]
    assert change["units"] == [1, 2, 5, 6]
    assert main([*asked, "--name", "water", "--do", "scale=0.5"]) == 0
    assert "(water, water)" in capsys.readouterr().out
    for wrong, text in (
        (["--name", "watr"], "no unit has a name that matches 'watr'; nearest: water"),
        (["--name", "sky", "--do", "force"], "unknown action for --do 'force'"),
        (["--name", "sky", "--do", "scale"], "--do takes scale=FACTOR with a number"),
        (["--name", "sky", "--do", "silence=2"], "--do silence takes no value"),
    ):
        assert main([*asked, *wrong]) == 2
        assert text in capsys.readouterr().err


def test_units_that_match_a_text(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("night\nwater\ngrass\nsand\ncircle\nfence\nred\ndog\n")
    site, atlas = site_of(folder), tmp_path / "atlas"
    asked = ["--images", "scenes:80", "--concepts", str(words), "--vision-text", "pocket", "-q"]
    asked += ["--similarity", "cosine", "--sites", site, "--out", str(atlas)]
    assert main(["dissect", "--model", str(folder), *asked]) == 0
    model = vision_text.load("pocket")
    expected = match_text(Atlas.load(atlas), model, "night", specific=0.01).matching
    assert expected
    capsys.readouterr()
    asked = ["ablate", "--atlas", str(atlas), "--do", "hand_over", "--out", str(tmp_path / "out")]
    assert main([*asked, "--match", "night"]) == 0
    (change,) = Edit.load(tmp_path / "out" / "edit.json").changes
    assert change.units == tuple(sorted(unit.unit for unit in expected))
    assert main([*asked, "--match", "fence", "--overwrite"]) == 2
    said = capsys.readouterr().err
    assert "no unit fits 'fence'" in said
    assert said.count("\n") == 1
    assert main(["ablate", "--model", str(folder), "--match", "x", "--out", "x"]) == 2
    assert "--match needs --atlas" in capsys.readouterr().err


def test_bad_input_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = site_of(folder)
    out = ["--out", str(tmp_path / "out")]
    cases = (
        (["--silence", "bodi/0", *out], "no site 'bodi'"),
        (["--silence", "bodi#³/0", *out], "no site 'bodi#³'"),
        (["--silence", f"{site}/³", *out], "--silence takes SITE/UNIT"),
        (["--silence", f"{site}/1-³", *out], "--silence takes SITE/UNIT"),
        (["--silence", f"{site}/1-٣", *out], "--silence takes SITE/UNIT"),
        (["--hand-over", f"{site}/1=³", *out], "SITE/UNIT=RIVAL"),
        (["--silence", f"{site}/0-999999999", *out], "no layer has a unit 999999999; the largest"),
        (
            ["--scale", f"{site}/{'9' * 5000}=2", *out],
            "no layer has a unit 99999999999999999999...",
        ),
        (["--hand-over", f"{site}/1=1000000", *out], "no layer has a unit 1000000"),
        (["--silence", f"{site}/1", *out, "--apply", out[1]], "are the same folder"),
        (["--silence", f"{site}/1", *out, "--apply", f"{out[1]}/../out"], "are the same folder"),
        (["--silence", f"{site}/1", *out, "--apply", f"{out[1]}/in"], "one inside the other"),
        (["--silence", f"{site}/99999", *out], "has units 0 to"),
        (["--silence", f"{site}/0-3", *out], "every unit of block 0 (units 0 to 3)"),
        (["--silence", f"{site}/3-1", *out], "runs backwards"),
        (["--silence", site, *out], "--silence takes SITE/UNIT"),
        (["--hand-over", f"{site}/1=x", *out], "SITE/UNIT=RIVAL"),
        (["--scale", f"{site}/1", *out], "--scale takes SITE/UNIT=FACTOR with a number"),
        (["--force", f"{site}/1=2", *out], "takes no value"),
        (["--silence", f"{site}/0"], "nothing to do with the edit"),
        (out, "nothing to change"),
        (["--name", "*", *out], "--name needs --atlas"),
        (["--edit", str(tmp_path / "none.json"), *out], "does not exist"),
        (["--silence", f"{site}/0", "--image", "none.png"], "image 'none.png' does not exist"),
    )
    for arguments, text in cases:
        assert main(["ablate", "--model", str(folder), *arguments]) == 2, arguments
        said = capsys.readouterr().err
        assert text in said
        assert said.count("\n") == 1
    assert main(["ablate", "--silence", "a/0", *out]) == 2
    assert "give --model, or --atlas" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    Edit((Change(site, (0,), "silence"),), "x", "0" * 16).save(tmp_path / "edit.json")
    assert (
        main(["ablate", "--model", str(folder), "--edit", str(tmp_path / "edit.json"), *out]) == 2
    )
    assert "was made from another model: its fingerprint is 0000" in capsys.readouterr().err


def test_units_as_they_are_typed() -> None:
    assert units_of("a/3,5-7,b.c/007,3,6-8", option="--silence") == {
        "a": [3, 5, 6, 7],
        "b.c": [7, 3, 6, 8],
    }
    assert units_of("a/999998-999999,0", option="--silence") == {"a": [999998, 999999, 0]}
