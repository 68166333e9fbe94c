"""SPECs, devices, bad arguments, and what all backends share."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from neuronym import vision_text
from neuronym.errors import InputError, UnavailableError, UnknownNameError
from neuronym.vision_text import BACKENDS
from neuronym.vision_text.identity import digest_state
from neuronym.vision_text.towers import TowerParts, TwoTowers, crop_extreme

CPU = torch.device("cpu")


def counting_parts(largest: list[int], *, image_dim: int = 3, text_dim: int = 3) -> TowerParts:
    """Towers that embed an image by its mean colour and note the largest batch they saw."""

    def images(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        largest.append(len(inputs["pixels"]))
        return inputs["pixels"].repeat(1, image_dim // 3)

    def prepare(image: Image.Image) -> dict[str, torch.Tensor]:
        array = np.asarray(image, np.float32)
        return {"pixels": torch.from_numpy(array.mean(axis=(0, 1)))[None] + 1}

    return TowerParts(
        prepare_image=prepare,
        tokenize=lambda texts: {"length": torch.tensor([[len(text)] for text in texts])},
        encode_images=images,
        encode_texts=lambda inputs: inputs["length"].repeat(1, text_dim) + 1.0,
        logit_scale=7.0,
        identify=lambda: "f" * 16,
    )


def test_backends_are_the_documented_ones() -> None:
    assert list(BACKENDS) == ["pocket", "open_clip", "hf"]


@pytest.mark.parametrize("spec", ["pokcet", "openclip:ViT-B-32/openai", "clip", ""])
def test_unknown_backend(spec: str) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown vision-text model .* known: pocket, open"):
        vision_text.load(spec)


def test_near_miss_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'pocket'\?"):
        vision_text.load("pokcet")


@pytest.mark.parametrize(
    ("spec", "variant"),
    [("pocket", "efficientnet_lite0"), ("pocket:efficientnet_lite2", "efficientnet_lite2")],
)
def test_pocket_variants(spec: str, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_pocket(*given: object, **options: object) -> tuple[object, ...]:
        return (*given, options)

    module = ModuleType("neuronym.vision_text.pocket")
    module.load_pocket = load_pocket  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    loaded = vision_text.load(spec, device="cpu", batch_size=5)
    assert loaded == (variant, {"device": "cpu", "batch_size": 5})


@pytest.mark.parametrize("spec", ["open_clip", "open_clip:", "hf", "hf:"])
def test_backend_without_a_model(spec: str) -> None:
    with pytest.raises(InputError, match="names no model; forms: pocket, open_clip:ARCH/"):
        vision_text.load(spec)


def test_spec_of_another_type() -> None:
    with pytest.raises(InputError, match="a vision-text SPEC is a string, not a PosixPath"):
        vision_text.load(Path("/tmp"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("gpu", InputError, r"unknown device 'gpu'; use 'cpu'"),
        ("cuda:99", UnavailableError, r"device 'cuda:99' is not on this machine"),
    ],
)
def test_bad_device(
    device: str, error: type[Exception], message: str, hf_folders: dict[str, Path]
) -> None:
    with pytest.raises(error, match=message):
        vision_text.load(f"hf:{hf_folders['clip']}", device=device)


def test_bad_batch_size(hf_folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="batch_size must be at least 1, not 0"):
        vision_text.load(f"hf:{hf_folders['clip']}", batch_size=0)


def test_memory_is_bounded_by_the_batch() -> None:
    largest: list[int] = []
    model = TwoTowers("x", counting_parts(largest), device=CPU, batch_size=4)
    images = [Image.new("RGB", (2, 2), (index, 2 * index, 9)) for index in range(11)]
    embedded = model.embed_images(images)
    assert largest == [1, 4, 4, 3]  # the first is the trial when it is made
    expected = np.array([[index + 1, 2 * index + 1, 10] for index in range(11)], float)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embedded, expected, atol=1e-6)
    assert (model.name, model.dim, model.logit_scale, model.fingerprint) == ("x", 3, 7.0, "f" * 16)


def test_the_tokenizer_serves_one_thread_at_a_time() -> None:
    """Fast tokenizers keep padding and truncation as state and fail when two threads meet."""
    inside: list[int] = []
    most: list[int] = []

    def tokenize(texts: list[str]) -> dict[str, torch.Tensor]:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.005)
        inside.pop()
        return {"length": torch.tensor([[len(text)] for text in texts])}

    parts = replace(counting_parts([]), tokenize=tokenize)
    model = TwoTowers("x", parts, device=CPU)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(model.embed_texts, [["cat"]] * 12))
    assert max(most) == 1


def test_towers_of_different_spaces() -> None:
    with pytest.raises(
        InputError, match=r"x gives images of shape \(1, 3\) and texts of .*\(1, 5\)"
    ):
        TwoTowers("x", counting_parts([], text_dim=5), device=CPU)


def test_bad_inputs() -> None:
    model = TwoTowers("x", counting_parts([]), device=CPU)
    with pytest.raises(InputError, match=r"not one string: \['cat'\]"):
        model.embed_texts("cat")
    with pytest.raises(InputError, match="text 1 is a int, not a string"):
        model.embed_texts(["cat", 3])  # type: ignore[list-item]
    with pytest.raises(InputError, match="image 0 is a ndarray; embed_images takes Pillow images"):
        model.embed_images([np.zeros((4, 4, 3))])  # type: ignore[list-item]


@pytest.mark.parametrize("size", [(20, 400), (400, 20), (3, 1999), (21, 333)])
def test_crop_of_extreme_images_keeps_the_centre(size: tuple[int, int]) -> None:
    from torchvision.transforms import CenterCrop, Compose, Resize

    transform = Compose([Resize(24), CenterCrop(24)])
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    cropped = crop_extreme(image)
    assert max(cropped.size) <= 16 * min(size) + 1
    difference = np.abs(
        np.asarray(transform(image), np.int16) - np.asarray(transform(cropped), np.int16)
    )
    assert difference.mean() < 4


def test_crop_leaves_other_images_alone() -> None:
    image = Image.new("RGB", (160, 10))
    assert crop_extreme(image) is image


def test_digest_sees_names_types_shapes_and_values() -> None:
    base = torch.arange(6, dtype=torch.float32)
    states = [
        {"a": base},
        {"b": base},
        {"a": base.double()},
        {"a": base.reshape(2, 3)},
        {"a": base + 1e-6},
        {"a": base, "b": torch.tensor(1.0)},
        {"a": base.bfloat16()},
    ]
    assert len({digest_state(state) for state in states}) == len(states)
    one = {"a": base, "b": base.reshape(2, 3).T}
    other = {"b": base.reshape(2, 3).T.contiguous(), "a": base.clone()}
    assert digest_state(one) == digest_state(other)


def test_importing_loads_no_backend() -> None:
    code = (
        "import sys\n"
        "import neuronym.vision_text\n"
        "heavy = {'torch', 'open_clip', 'transformers', 'timm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
