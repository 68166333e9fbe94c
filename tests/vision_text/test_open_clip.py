"""The open_clip: backend against open_clip's own encoders, on small models from disk."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import CONTEXT, TEXTS, TINY_ARCHITECTURE, photos, unit

from neuronym import vision_text
from neuronym.errors import (
    InputError,
    MissingError,
    UnavailableError,
    UnknownNameError,
    UnreadableError,
)
from neuronym.vision_text import open_clip_source
from neuronym.vision_text.open_clip_source import resolve

SIGLIP_PREPROCESSING = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


def direct(name: str, pretrained: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings by open_clip's own model, transform and tokenizer, each image alone."""
    import open_clip

    with torch.random.fork_rng(devices=[]):
        model, _, transform = open_clip.create_model_and_transforms(name, pretrained=pretrained)
    model.eval()
    tokens = open_clip.get_tokenizer(name)(list(TEXTS))
    with torch.no_grad():
        images = torch.cat([model.encode_image(transform(image)[None]) for image in photos()])
        return unit(images), unit(model.encode_text(tokens))


@pytest.fixture(scope="module")
def tiny(checkpoint: Path, tiny_architecture: str) -> Any:
    return vision_text.load(f"open_clip:{tiny_architecture}/{checkpoint}")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".training"])
def test_equals_open_clip(
    suffix: str, checkpoint: Path, tiny_architecture: str, tmp_path: Path
) -> None:
    path = checkpoint
    if suffix != ".safetensors":
        state: dict[str, Any] = load_file(checkpoint)
        if suffix == ".training":  # as open_clip's training saves it
            prefixed = {f"module.{name}": value for name, value in state.items()}
            state = {"epoch": 3, "name": "run", "state_dict": prefixed}
        path = tmp_path / f"weights{suffix}"
        torch.save(state, path)
    model = vision_text.load(f"open_clip:{tiny_architecture}/{path}")
    images, words = direct(tiny_architecture, str(path))
    ours_images, ours_words = model.embed_images(photos()), model.embed_texts(TEXTS)
    assert ours_images.dtype == ours_words.dtype == np.float32
    np.testing.assert_allclose(ours_images, images, atol=2e-6)
    np.testing.assert_allclose(ours_words, words, atol=2e-6)
    assert np.abs(words[0] - words[1]).max() > 0.05
    assert np.abs(images[0] - images[4]).max() > 0.05


def test_protocol(tiny: Any, checkpoint: Path, tiny_architecture: str) -> None:
    assert isinstance(tiny, vision_text.VisionTextModel)
    assert tiny.name == f"open_clip:{tiny_architecture}/{checkpoint}"
    assert tiny.dim == 12
    assert tiny.logit_scale == pytest.approx(np.exp(3.0), rel=1e-6)
    assert tiny.embed_images([]).shape == (0, 12)
    assert tiny.embed_texts([]).shape == (0, 12)
    lengths = np.linalg.norm(tiny.embed_images(photos()).astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_batch_size_does_not_matter(tiny: Any, checkpoint: Path, tiny_architecture: str) -> None:
    one = vision_text.load(f"open_clip:{tiny_architecture}/{checkpoint}", batch_size=1)
    np.testing.assert_allclose(one.embed_images(photos()), tiny.embed_images(photos()), atol=2e-6)
    np.testing.assert_allclose(one.embed_texts(TEXTS), tiny.embed_texts(TEXTS), atol=2e-6)


def test_long_texts_are_cut(tiny: Any) -> None:
    long = " ".join(["cat"] * CONTEXT)
    first, longer, other = tiny.embed_texts([long, long + " and more" * 400, "dog " + long])
    np.testing.assert_allclose(first, longer, atol=1e-6)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "1", "P"])
def test_image_modes(mode: str, tiny: Any) -> None:
    image = photos()[0].convert(mode)
    embedded = tiny.embed_images([image, image.convert("RGB")])
    np.testing.assert_allclose(embedded[0], embedded[1], atol=1e-6)


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (2, 2), (17, 300)])
def test_image_sizes(size: tuple[int, int], tiny: Any) -> None:
    assert np.isfinite(tiny.embed_images([Image.new("RGB", size, (200, 30, 60))])).all()


def test_image_that_its_preprocessing_cannot_handle(tmp_path: Path) -> None:
    settings = {**SIGLIP_PREPROCESSING, "resize_mode": "longest"}
    folder = tiny_models.save_open_clip_folder(
        tmp_path / "longest", TINY_ARCHITECTURE, preprocess=settings
    )
    model = vision_text.load(f"open_clip:{folder}")
    images = [photos()[0], Image.new("RGB", (1, 4000))]  # the short side shrinks to nothing
    with pytest.raises(
        UnreadableError, match=r"image 1 of size 1×4000 cannot be prepared for open"
    ):
        model.embed_images(images)


def test_loading_leaves_random_state(checkpoint: Path, tiny_architecture: str) -> None:
    before = torch.random.get_rng_state()
    vision_text.load(f"open_clip:{tiny_architecture}/{checkpoint}")
    assert torch.equal(before, torch.random.get_rng_state())


def test_folder_with_its_own_preprocessing(tmp_path: Path) -> None:
    """A SigLIP as open_clip publishes it: timm tower, text tower with bias, squashed images."""
    config = {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_proj": "linear"},
        "text_cfg": {**TINY_ARCHITECTURE["text_cfg"], "no_causal_mask": True, "pool_type": "last"},
    }
    folder = tiny_models.save_open_clip_folder(
        tmp_path / "siglip", config, preprocess=SIGLIP_PREPROCESSING
    )
    images, words = direct(f"local-dir:{folder}")
    for spec in (f"open_clip:{folder}", f"open_clip:local-dir:{folder}"):
        model = vision_text.load(spec)
        assert model.dim == 64
        np.testing.assert_allclose(model.embed_images(photos()), images, atol=2e-6)
        np.testing.assert_allclose(model.embed_texts(TEXTS), words, atol=2e-6)


def test_coca(tmp_path: Path) -> None:
    config = {
        **TINY_ARCHITECTURE,
        "vision_cfg": {
            **TINY_ARCHITECTURE["vision_cfg"],
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "output_tokens": True,
        },
        "text_cfg": {**TINY_ARCHITECTURE["text_cfg"], "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {
            "context_length": CONTEXT,
            "vocab_size": 49408,
            "width": 16,
            "heads": 2,
            "layers": 1,
            "attn_pooler_heads": 2,
        },
        "custom_text": True,
    }
    folder = tiny_models.save_open_clip_folder(tmp_path / "coca", config, preprocess={})
    images, words = direct(f"local-dir:{folder}")
    model = vision_text.load(f"open_clip:{folder}")
    np.testing.assert_allclose(model.embed_images(photos()), images, atol=2e-6)
    np.testing.assert_allclose(model.embed_texts(TEXTS), words, atol=2e-6)


def test_text_tower_of_transformers(tmp_path: Path) -> None:
    from transformers import BertConfig, BertTokenizer

    text_folder = tmp_path / "bert"
    text_folder.mkdir()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "dog", "red", "a", "photo", "of"]
    (text_folder / "vocab.txt").write_text("\n".join(names))
    BertTokenizer(str(text_folder / "vocab.txt")).save_pretrained(text_folder)
    BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    ).save_pretrained(text_folder)
    config = {
        **TINY_ARCHITECTURE,
        "text_cfg": {
            "hf_model_name": str(text_folder),
            "hf_tokenizer_name": str(text_folder),
            "hf_model_pretrained": False,
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "linear",
            "context_length": CONTEXT,
        },
    }
    name = "tiny-bert-ViT"
    (tmp_path / f"{name}.json").write_text(json.dumps(config))
    import open_clip

    open_clip.add_model_config(tmp_path / f"{name}.json")
    try:
        path = tmp_path / "weights.safetensors"
        config["text_cfg"]["hf_model_pretrained"] = False
        with torch.random.fork_rng(devices=[]):
            state = open_clip.create_model(name, pretrained_text=False).state_dict()
        save_file(state, path)
        images, words = direct(name, str(path))
        model = vision_text.load(f"open_clip:{name}/{path}")
        np.testing.assert_allclose(model.embed_images(photos()), images, atol=2e-6)
        np.testing.assert_allclose(model.embed_texts(TEXTS), words, atol=2e-6)
        assert model.fingerprint == vision_text.load(f"open_clip:{name}/{path}").fingerprint
    finally:
        open_clip.factory._MODEL_CONFIG_PATHS.pop()
        open_clip.factory._MODEL_CONFIGS.pop(name)


def test_fingerprint_is_by_content(
    tiny: Any, checkpoint: Path, tiny_architecture: str, tmp_path: Path
) -> None:
    state = load_file(checkpoint)
    torch.save(state, tmp_path / "same.pt")
    same = vision_text.load(f"open_clip:{tiny_architecture}/{tmp_path / 'same.pt'}")
    assert same.fingerprint == tiny.fingerprint
    assert len(tiny.fingerprint) == 16

    state["ln_final.bias"][0] += 1e-3
    save_file(state, tmp_path / "changed.safetensors")
    changed = vision_text.load(f"open_clip:{tiny_architecture}/{tmp_path / 'changed.safetensors'}")

    (tmp_path / "beside").mkdir()
    beside = Path(shutil.copy(checkpoint, tmp_path / "beside"))
    described = {"preprocess_cfg": SIGLIP_PREPROCESSING}
    (tmp_path / "beside" / "open_clip_config.json").write_text(json.dumps(described))
    other_images = vision_text.load(f"open_clip:{tiny_architecture}/{beside}")

    quick = {**TINY_ARCHITECTURE, "quick_gelu": True}
    folder = tiny_models.save_open_clip_folder(tmp_path / "quick", quick, preprocess={})
    shutil.copy(checkpoint, folder / "open_clip_model.safetensors")
    other_gelu = vision_text.load(f"open_clip:{folder}")
    prints = {m.fingerprint for m in (tiny, changed, other_images, other_gelu)}
    assert len(prints) == 4


def test_settings_beside_a_checkpoint_are_used(
    tiny: Any, checkpoint: Path, tiny_architecture: str, tmp_path: Path
) -> None:
    path = Path(shutil.copy(checkpoint, tmp_path))
    described = {"preprocess_cfg": SIGLIP_PREPROCESSING}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    model = vision_text.load(f"open_clip:{tiny_architecture}/{path}")
    wide = Image.linear_gradient("L").resize((90, 30)).convert("RGB")
    squashed = wide.resize((32, 32), Image.Resampling.BICUBIC)
    # Mean 0.5 and std 0.5 on a squashed image; the default would crop and use CLIP's mean and std.
    pixels = torch.from_numpy(np.asarray(squashed, np.float32)).permute(2, 0, 1)[None]
    twin = tiny_models.make_open_clip(tiny_architecture)
    with torch.no_grad():
        expected = unit(twin.encode_image((pixels / 255 - 0.5) / 0.5))
    np.testing.assert_allclose(model.embed_images([wide]), expected, atol=2e-6)
    assert np.abs(tiny.embed_images([wide]) - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("architecture", "mode", "mean"),
    [("ViT-B-16-SigLIP", "squash", 0.5), ("ViT-B-32", "shortest", 0.48145466)],
)
def test_lone_checkpoint_of_a_published_architecture(
    architecture: str, mode: str, mean: float, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pt"
    path.touch()
    source = resolve(f"{architecture}/{path}", "open_clip:x")
    assert source.checkpoint == path
    assert source.preprocess["resize_mode"] == mode
    assert source.preprocess["mean"][0] == mean


def test_architecture_whose_published_settings_differ(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.touch()
    assert resolve(f"ViT-H-14/{path}", "open_clip:x").preprocess == {}


def test_hub_tag_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag brings its own file, preprocessing and quick GELU."""
    asked: list[tuple[str, list[str]]] = []

    def cached(repository: str, names: list[str], *, spec: str) -> Path:
        asked.append((repository, names))
        return tmp_path / names[0]

    monkeypatch.setattr(open_clip_source, "cached_or_fetched_file", cached)
    source = resolve("ViT-B-32/openai", "open_clip:ViT-B-32/openai")
    safe, usual = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
    assert asked == [("timm/vit_base_patch32_clip_224.openai", [safe, usual])]
    assert source.quick_gelu
    assert source.preprocess["interpolation"] == "bicubic"
    assert not resolve("ViT-B-32/laion2b_s34b_b79k", "x").quick_gelu


def test_quick_gelu_reaches_the_model(checkpoint: Path, tiny_architecture: str) -> None:
    from neuronym.vision_text.open_clip import _build

    plain = resolve(f"{tiny_architecture}/{checkpoint}", "x")
    quick = open_clip_source.Source(
        plain.architecture, plain.checkpoint, plain.config, quick_gelu=True
    )
    kinds = []
    for source in (plain, quick):
        model, _ = _build(source, "x")
        kinds.append({type(module).__name__ for module in model.modules()})
    assert "QuickGELU" not in kinds[0]
    assert "QuickGELU" in kinds[1]


@pytest.mark.parametrize(
    "spec",
    [
        "open_clip:ViT-B-32/laion2b_s34b_b79k",
        "open_clip:ViT-B-16-SigLIP/webli",
        "open_clip:hf-hub:nobody-here/no-model",
    ],
)
def test_hub_without_network(spec: str) -> None:
    with pytest.raises(UnavailableError) as raised:
        vision_text.load(spec)
    text = str(raised.value)
    assert text.startswith(f"{spec} needs the network")
    assert "'pocket'" in text
    assert "\n" not in text


def test_tokenizer_from_the_hub_without_network(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    with pytest.raises(UnavailableError, match=r"'timm/ViT-B-16-SigLIP' is not in the local cache"):
        vision_text.load(f"open_clip:ViT-B-16-SigLIP/{tmp_path / 'weights.pt'}")


def test_unknown_architecture() -> None:
    with pytest.raises(UnknownNameError, match=r"no architecture 'ViT-B32'; nearest: ViT-B-32"):
        vision_text.load("open_clip:ViT-B32/openai")


def test_unknown_tag() -> None:
    with pytest.raises(UnknownNameError, match=r"tag of ViT-B-32 'opnai'.*Did you mean 'openai'"):
        vision_text.load("open_clip:ViT-B-32/opnai")


def test_no_tag() -> None:
    with pytest.raises(InputError, match=r"names no weights; give open_clip:ARCH/TAG.*openai"):
        vision_text.load("open_clip:ViT-B-32")


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"checkpoint 'runs/best.pt' does not exist$"):
        vision_text.load("open_clip:ViT-B-32/runs/best.pt")
    (tmp_path / "best.pt").touch()
    relative = str(tmp_path / "best.pt").lstrip("/")
    with pytest.raises(MissingError, match=r"did you mean open_clip:ViT-B-32//"):
        vision_text.load(f"open_clip:ViT-B-32/{relative}")


def test_tag_that_this_architecture_has_not(tiny_architecture: str) -> None:
    with pytest.raises(UnknownNameError, match=r"tiny-ViT has no hub tags, and 'openai' is no"):
        vision_text.load(f"open_clip:{tiny_architecture}/openai")


WORDS = b"just a few words\n" * 50
CUT_ZIP = b"PK\x03\x04 cut off"


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".pt", b""),
        (".pt", WORDS),
        (".pt", CUT_ZIP),
        (".safetensors", b""),
        (".safetensors", WORDS),
        (".npz", WORDS),
    ],
)
def test_file_that_is_no_checkpoint(
    suffix: str, content: bytes, tiny_architecture: str, tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=r"the file is not a (model|checkpoint)") as raised:
        vision_text.load(f"open_clip:{tiny_architecture}/{path}")
    assert "\n" not in str(raised.value)


def test_truncated_checkpoint(checkpoint: Path, tiny_architecture: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(UnreadableError, match="the file is not a model"):
        vision_text.load(f"open_clip:{tiny_architecture}/{path}")


def test_pickled_code_is_not_run(tiny_architecture: str, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str, str]]:
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(
        UnreadableError, match="the file is not a checkpoint that can be read safely"
    ):
        vision_text.load(f"open_clip:{tiny_architecture}/{tmp_path / 'trap.pt'}")
    assert not (tmp_path / "ran").exists()


def test_checkpoint_of_another_architecture(checkpoint: Path) -> None:
    with pytest.raises(UnreadableError, match="does not fit the architecture") as raised:
        vision_text.load(f"open_clip:ViT-S-32/{checkpoint}")
    assert "\n" not in str(raised.value)


def test_checkpoint_without_its_architecture(checkpoint: Path) -> None:
    with pytest.raises(
        InputError, match=r"checkpoint without its architecture; give open_clip:ARCH"
    ):
        vision_text.load(f"open_clip:{checkpoint}")


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"the folder has no open_clip_config.json"):
        vision_text.load(f"open_clip:{tmp_path}")
    with pytest.raises(MissingError, match="there is no such folder"):
        vision_text.load("open_clip:local-dir:/no/such/folder")
    with pytest.raises(MissingError, match="there is no such folder"):
        vision_text.load("open_clip:/no/such/folder")
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 3}}')
    with pytest.raises(UnreadableError, match="the folder has no weights"):
        vision_text.load(f"open_clip:{tmp_path}")
    (tmp_path / "open_clip_model.safetensors").touch()
    with pytest.raises(UnreadableError, match="no whole 'model_cfg'"):
        vision_text.load(f"open_clip:{tmp_path}")
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(UnreadableError, match="is not JSON"):
        vision_text.load(f"open_clip:{tmp_path}")


def test_folder_instead_of_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; give open_clip:FOLDER or a file"):
        vision_text.load(f"open_clip:ViT-B-32/{tmp_path}")


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UnavailableError, match=r"pip install 'neuronym\[open-clip\]'"):
        vision_text.load("open_clip:ViT-B-32/openai")
