"""The hf: backend against the direct computation with transformers, on small models from disk."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import CONTEXT, TEXTS, photos, unit

from neuronym import vision_text
from neuronym.errors import InputError, MissingError, UnavailableError, UnreadableError
from neuronym.vision_text import hub

FAMILIES = ["clip", "siglip", "siglip2", "siglip2-fixed"]


@pytest.fixture
def folder(request: pytest.FixtureRequest, hf_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the CLIP folder that a test may damage."""
    return Path(shutil.copytree(hf_folders["clip"], tmp_path / "model"))


def direct(folder: Path, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings by transformers' own documented calls, each input alone."""
    from transformers import AutoModel, AutoProcessor

    model = AutoModel.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    images, words = [], []
    with torch.no_grad():
        for image in photos():
            pixels = processor.image_processor(images=image, return_tensors="pt")
            images.append(model.get_image_features(**pixels).pooler_output)
        for text in texts:
            tokens = processor.tokenizer(
                [text],
                padding="max_length",
                max_length=CONTEXT,
                truncation=True,
                return_tensors="pt",
            )
            words.append(model.get_text_features(**tokens).pooler_output)
    return unit(torch.cat(images)), unit(torch.cat(words))


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_transformers(family: str, hf_folders: dict[str, Path]) -> None:
    model = vision_text.load(f"hf:{hf_folders[family]}")
    # Gemma's tokenizer keeps capitals, SigLIP 2 was trained on lower case: the twin lowers first.
    texts = [text.lower() for text in TEXTS] if family == "siglip2-fixed" else list(TEXTS)
    images, words = direct(hf_folders[family], texts)
    ours_images, ours_words = model.embed_images(photos()), model.embed_texts(TEXTS)
    assert ours_images.dtype == ours_words.dtype == np.float32
    assert ours_images.shape == (7, model.dim)
    assert ours_words.shape == (6, model.dim)
    np.testing.assert_allclose(ours_images, images, atol=2e-6)
    np.testing.assert_allclose(ours_words, words, atol=2e-6)
    assert np.abs(words[0] - words[1]).max() > 0.05
    assert np.abs(images[0] - images[4]).max() > 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_capitals_do_not_count(family: str, hf_folders: dict[str, Path]) -> None:
    model = vision_text.load(f"hf:{hf_folders[family]}")
    lower, upper = model.embed_texts(["red dog", "Red DOG"])
    np.testing.assert_allclose(lower, upper, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_protocol(family: str, hf_folders: dict[str, Path]) -> None:
    spec = f"hf:{hf_folders[family]}"
    model = vision_text.load(spec)
    assert isinstance(model, vision_text.VisionTextModel)
    assert model.name == spec
    assert model.logit_scale == pytest.approx(np.exp(3.0), rel=1e-6)
    assert model.dim == {"clip": 10}.get(family, 16)
    assert model.embed_images([]).shape == (0, model.dim)
    assert model.embed_texts([]).shape == (0, model.dim)
    lengths = np.linalg.norm(model.embed_texts(TEXTS).astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_size_does_not_matter(family: str, hf_folders: dict[str, Path]) -> None:
    spec = f"hf:{hf_folders[family]}"
    one, many = vision_text.load(spec, batch_size=1), vision_text.load(spec, batch_size=4)
    np.testing.assert_allclose(one.embed_images(photos()), many.embed_images(photos()), atol=2e-6)
    np.testing.assert_allclose(one.embed_texts(TEXTS), many.embed_texts(TEXTS), atol=2e-6)
    assert one.fingerprint == many.fingerprint


@pytest.mark.parametrize("family", FAMILIES)
def test_long_texts_are_cut(family: str, hf_folders: dict[str, Path]) -> None:
    model = vision_text.load(f"hf:{hf_folders[family]}")
    long = "a photo of a cat and a dog and a red cat"
    first, longer, other = model.embed_texts([long, long + " and more" * 400, "dog " + long])
    np.testing.assert_allclose(first, longer, atol=1e-6)
    assert np.abs(first - other).max() > 1e-3


def test_siglip_never_gets_an_attention_mask(hf_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hf_folders["siglip"], tmp_path / "siglip"))
    tiny_models.edit_json(
        folder / "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"]
    )
    masked = vision_text.load(f"hf:{folder}").embed_texts(TEXTS)
    plain = vision_text.load(f"hf:{hf_folders['siglip']}").embed_texts(TEXTS)
    np.testing.assert_allclose(masked, plain, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16", "LA"])
def test_image_modes(mode: str, hf_folders: dict[str, Path]) -> None:
    model = vision_text.load(f"hf:{hf_folders['clip']}")
    image = photos()[0].convert("L").convert(mode) if mode == "I;16" else photos()[0].convert(mode)
    embedded = model.embed_images([image, image.convert("RGB")])
    np.testing.assert_allclose(embedded[0], embedded[1], atol=1e-6)


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (2, 2), (17, 300)])
@pytest.mark.parametrize("family", FAMILIES)
def test_image_sizes(family: str, size: tuple[int, int], hf_folders: dict[str, Path]) -> None:
    model = vision_text.load(f"hf:{hf_folders[family]}")
    embedded = model.embed_images([Image.new("RGB", size, (200, 30, 60))])
    assert np.isfinite(embedded).all()


def test_threads_share_a_model(hf_folders: dict[str, Path]) -> None:
    model = vision_text.load(f"hf:{hf_folders['clip']}", batch_size=64)
    groups = [
        [f"{text} {index}" * repeat for text in TEXTS] for index, repeat in enumerate([1, 90])
    ]
    groups *= 100
    alone = [model.embed_texts(group) for group in groups[:2]]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(model.embed_texts, groups))
    for index, embedded in enumerate(together):
        np.testing.assert_allclose(embedded, alone[index % 2], atol=2e-6)


def test_loading_leaves_random_state(hf_folders: dict[str, Path]) -> None:
    before = torch.random.get_rng_state()
    vision_text.load(f"hf:{hf_folders['clip']}").embed_texts(["cat"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_fingerprint_is_by_content(folder: Path, hf_folders: dict[str, Path]) -> None:
    def fingerprint() -> str:
        return vision_text.load(f"hf:{folder}").fingerprint

    original = fingerprint()
    assert original == vision_text.load(f"hf:{hf_folders['clip']}").fingerprint
    assert original != vision_text.load(f"hf:{hf_folders['siglip']}").fingerprint
    model = vision_text.load(f"hf:{folder}")
    model.embed_texts(TEXTS)  # the tokenizer keeps the last padding as its state
    assert model.fingerprint == original

    weights = load_file(folder / "model.safetensors")
    weights["text_model.final_layer_norm.bias"][0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    changed_weight = fingerprint()
    tiny_models.edit_json(
        folder / "processor_config.json",
        image_processor={
            **json.loads((folder / "processor_config.json").read_text())["image_processor"],
            "image_mean": [0.5, 0.5, 0.5],
        },
    )
    changed_preprocessing = fingerprint()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    changed_tokenizer = fingerprint()
    assert len({original, changed_weight, changed_preprocessing, changed_tokenizer}) == 4


def test_half_precision_weights_become_float32(folder: Path) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    model = vision_text.load(f"hf:{folder}")
    rounded = AutoModel.from_pretrained(folder).float()
    assert model.embed_texts(["cat"]).dtype == np.float32
    tokens = torch.tensor([[68, 53, 69]])
    with torch.no_grad():
        expected = unit(rounded.get_text_features(tokens).pooler_output)
    np.testing.assert_allclose(model.embed_texts(["cat"]), expected, atol=2e-6)


def test_pickled_weights_are_read_as_tensors_only(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    before = vision_text.load(f"hf:{_with_bin(folder, weights)}").embed_texts(TEXTS)
    assert before.shape == (6, 10)
    _with_bin(folder, {**weights, "extra": Path("/")})  # any other class must be refused
    with pytest.raises(UnreadableError, match="cannot be loaded"):
        vision_text.load(f"hf:{folder}")


def _with_bin(folder: Path, content: dict[str, object]) -> Path:
    torch.save(content, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no weights"),
        ("processor_config.json", "has no image preprocessor"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_folder_that_lacks_a_file(name: str, message: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(UnreadableError, match=message):
        vision_text.load(f"hf:{folder}")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_broken_file(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"\x00 nothing of the kind")
    with pytest.raises(UnreadableError, match="cannot be loaded") as raised:
        vision_text.load(f"hf:{folder}")
    assert "\n" not in str(raised.value)


def test_missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"logit_scale": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnreadableError, match="no file model-00001-of-00002"):
        vision_text.load(f"hf:{folder}")


def test_incomplete_weights_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnreadableError, match=r"lack 1 tensors.*'visual_projection.weight'"):
        vision_text.load(f"hf:{folder}")


def test_weights_that_are_not_finite(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnreadableError, match="not finite"):
        vision_text.load(f"hf:{folder}")


def test_model_without_towers(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    with torch.random.fork_rng(devices=[]):
        bert = BertModel(
            BertConfig(
                vocab_size=30,
                hidden_size=8,
                num_hidden_layers=1,
                num_attention_heads=1,
                intermediate_size=8,
            )
        )
    bert.save_pretrained(folder)
    with pytest.raises(InputError, match="is a BertModel: it has no get_image_features and no"):
        vision_text.load(f"hf:{folder}")


def test_code_of_a_repository_is_not_run(folder: Path, tmp_path: Path) -> None:
    tiny_models.edit_json(
        folder / "config.json",
        model_type="homemade",
        auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"},
    )
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UnreadableError, match="never run"):
        vision_text.load(f"hf:{folder}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("spec", ["hf:/no/such/folder", "hf:./missing", "hf:a/b/c"])
def test_missing_folder(spec: str) -> None:
    with pytest.raises(MissingError, match="there is no such folder"):
        vision_text.load(spec)


def test_file_instead_of_folder(folder: Path) -> None:
    with pytest.raises(UnreadableError, match="is a file; give the folder"):
        vision_text.load(f"hf:{folder / 'config.json'}")


def test_repository_without_network() -> None:
    with pytest.raises(UnavailableError) as raised:
        vision_text.load("hf:nobody-here/no-model")
    text = str(raised.value)
    assert text.startswith("hf:nobody-here/no-model needs the network")
    assert "'pocket'" in text
    assert "\n" not in text


def test_repository_in_the_cache(
    hf_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--small--clip"
    shutil.copytree(hf_folders["clip"], repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cached = vision_text.load("hf:small/clip")
    local = vision_text.load(f"hf:{hf_folders['clip']}")
    assert cached.name == "hf:small/clip"
    assert cached.fingerprint == local.fingerprint
    np.testing.assert_array_equal(cached.embed_texts(TEXTS), local.embed_texts(TEXTS))
    (repository / "snapshots" / commit / "model.safetensors").unlink()  # cut-off download
    with pytest.raises(UnavailableError, match="hf:small/clip needs the network"):
        vision_text.load("hf:small/clip")


def test_silent_network_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    never = Event()
    monkeypatch.setattr(hub, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(hub, "_hub_problem", lambda: str(never.wait(30)))
    with pytest.raises(UnavailableError, match=r"no answer within 0.05 s"):
        vision_text.load("hf:nobody-here/no-model")
    never.set()


def test_unreachable_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(UnavailableError, match=r"cannot be reached \(.*refused"):
        vision_text.load("hf:nobody-here/no-model")


def test_missing_package(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UnavailableError, match=r"pip install 'neuronym\[huggingface\]'"):
        vision_text.load(f"hf:{folder}")
