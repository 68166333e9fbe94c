"""The pocket model as a vision-text model: protocol, determinism, offline loading, real input."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuronym.errors import (
    InputError,
    UnavailableError,
    UnknownNameError,
    UnreadableError,
)
from neuronym.probes.scenes import GROUPS, SceneSet
from neuronym.vision_text import VisionTextModel, load
from neuronym.vision_text.pocket import PocketModel, PocketOptions, load_pocket, model
from neuronym.vision_text.pocket.arrays import (
    SHIPPED,
    ImageArrays,
    TextArrays,
    read_arrays,
    write_arrays,
)

WORDS = ["dog", "a red fire engine", "striped", "three small stars on grass", "ambulance", ""]


@pytest.fixture(scope="module")
def pocket() -> PocketModel:
    return load_pocket(options=PocketOptions(cache=False))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    scenes = SceneSet(5, seed=11)
    return [scenes.image(index) for index in range(len(scenes))]


def test_it_follows_the_protocol(pocket: PocketModel, pictures: list[Image.Image]) -> None:
    assert isinstance(pocket, VisionTextModel)
    images, texts = pocket.embed_images(pictures), pocket.embed_texts(WORDS)
    assert images.dtype == texts.dtype == np.float32
    assert images.shape == (len(pictures), pocket.dim)
    assert texts.shape == (len(WORDS), pocket.dim)
    assert np.isfinite(images).all()
    assert np.isfinite(texts).all()
    assert pocket.name == "pocket"
    assert pocket.logit_scale > 1
    assert len(pocket.fingerprint) == 16
    assert pocket.attributes == tuple(f"{g}:{v}" for g, values in GROUPS.items() for v in values)


def test_nothing_in_gives_nothing_out(pocket: PocketModel) -> None:
    assert pocket.embed_images([]).shape == (0, pocket.dim)
    assert pocket.embed_texts([]).shape == (0, pocket.dim)


def test_embeddings_are_deterministic(pocket: PocketModel, pictures: list[Image.Image]) -> None:
    state = torch.random.get_rng_state()
    assert np.array_equal(pocket.embed_images(pictures), pocket.embed_images(pictures))
    assert np.array_equal(pocket.embed_texts(WORDS), pocket.embed_texts(WORDS))
    assert torch.equal(state, torch.random.get_rng_state())


def test_an_embedding_does_not_depend_on_its_batch(
    pocket: PocketModel, pictures: list[Image.Image]
) -> None:
    mixed = [*pictures, pictures[0].resize((32, 32)), pictures[1].resize((500, 300))]
    together = pocket.embed_images(mixed)
    alone = np.concatenate([pocket.embed_images([picture]) for picture in mixed])
    assert np.abs(together - alone).max() < 1e-4 * np.abs(together).max()
    texts = pocket.embed_texts(WORDS)
    single = np.concatenate([pocket.embed_texts([word]) for word in WORDS])
    assert np.abs(texts - single).max() < 1e-4 * np.abs(texts).max()
    again = pocket.embed_texts([*WORDS[::-1], WORDS[0]])
    assert np.array_equal(again[-1], again[-2])


def test_small_batches_give_the_same(pocket: PocketModel, pictures: list[Image.Image]) -> None:
    pocket_of_two = load_pocket(batch_size=2, options=PocketOptions(cache=False))
    assert pocket_of_two.fingerprint == pocket.fingerprint
    difference = pocket_of_two.embed_images(pictures) - pocket.embed_images(pictures)
    assert np.abs(difference).max() < 1e-4


def test_any_image_is_taken(pocket: PocketModel) -> None:
    odd = [Image.new(mode, (50, 60), 1) for mode in ("L", "P", "1", "I;16", "F")]
    odd += [Image.new("RGBA", (40, 40), (9, 9, 9, 0)), Image.new("CMYK", (64, 48))]
    odd += [Image.new("RGB", size) for size in ((1, 1), (2000, 2), (3, 900))]
    rows = pocket.embed_images(odd)
    assert np.isfinite(rows).all()


def test_bad_input_is_named(pocket: PocketModel) -> None:
    with pytest.raises(InputError, match="must be a PIL image, not a ndarray"):
        pocket.embed_images([np.zeros((4, 4, 3), dtype=np.uint8)])  # type: ignore[list-item]
    with pytest.raises(InputError, match="must be a list of strings, not the string 'dog'"):
        pocket.embed_texts("dog")
    with pytest.raises(InputError, match="must be a string, not a int"):
        pocket.embed_texts(["dog", 3])  # type: ignore[list-item]
    with pytest.raises(InputError, match="batch_size must be at least 1, not 0"):
        load_pocket(batch_size=0)
    with pytest.raises(InputError, match="at least 32, not 8"):
        load_pocket(options=PocketOptions(image_size=8))
    with pytest.raises(UnknownNameError, match="Did you mean 'efficientnet_lite0'"):
        load("pocket:efficientnet_lit0")


def test_scene_attributes_are_found(pocket: PocketModel) -> None:
    """Every group far above chance on scenes of a new seed; the benchmark has the figures."""
    scenes = SceneSet(96, seed=20_077)
    images = pocket.embed_images([scenes.image(index) for index in range(len(scenes))])
    for group, values in GROUPS.items():
        scores = images @ pocket.embed_texts(list(values)).T
        found = (scores - scores.mean(0)).argmax(1)
        truth = [values.index(scene[group]) for scene in scenes.scenes]
        right = float((found == truth).mean())
        assert right > min(0.9, 2 / len(values)), f"{group}: {right:.2f}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("crimson", {"colour:red"}),
        ("something striped", {"pattern:striped"}),
        (
            "three small red stars on grass",
            {"count:three", "size:small", "colour:red", "shape:star", "background:grass"},
        ),
        ("a photo of a red bus", {"colour:red"}),
        ("dog", set()),
    ],
)
def test_attributes_are_read_from_texts(pocket: PocketModel, text: str, expected: set[str]) -> None:
    row = pocket.embed_texts([text])[0, -len(pocket.attributes) :]
    largest = float(pocket.embed_texts(["red"])[0, -len(pocket.attributes) :].max())
    said = {name for name, value in zip(pocket.attributes, row, strict=True) if value > largest / 2}
    assert said == expected


def test_it_says_once_that_others_are_better(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    monkeypatch.setattr(model, "_notice_given", threading.Event())
    with caplog.at_level(logging.WARNING):
        pocket = load_pocket(options=PocketOptions(cache=False))
        assert not caplog.records, "loading alone says nothing: the next step may fail"
        for _ in range(2):
            pocket.embed_texts(["dog"])
    notices = [record for record in caplog.records if "open_clip:ARCH" in record.message]
    assert len(notices) == 1


def test_it_loads_with_no_network() -> None:
    """In a fresh process in which no socket can be made; sentence-transformers is not imported."""
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise OSError('no network here')\n"
        "socket.socket.__init__ = refuse\n"
        "socket.create_connection = socket.getaddrinfo = refuse\n"
        "from PIL import Image\n"
        "from neuronym import vision_text\n"
        "pocket = vision_text.load('pocket')\n"
        "pocket.embed_texts(['dog']); pocket.embed_images([Image.new('RGB', (8, 8))])\n"
        "assert 'sentence_transformers' not in sys.modules\n"
        "print(pocket.fingerprint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == load_pocket().fingerprint


def test_other_arrays_are_another_model(pocket: PocketModel, tmp_path: Path) -> None:
    text, _ = read_arrays(SHIPPED / "text.safetensors", TextArrays)
    image, _ = read_arrays(SHIPPED / "efficientnet_lite0.safetensors", ImageArrays)
    write_arrays(tmp_path / "text.safetensors", text)
    write_arrays(
        tmp_path / "efficientnet_lite0.safetensors", replace(image, tiny_bias=image.tiny_bias + 1)
    )
    options = PocketOptions(arrays=tmp_path, cache=False)
    assert load_pocket(options=options).fingerprint != pocket.fingerprint
    resized = load_pocket(options=PocketOptions(image_size=160, cache=False))
    assert resized.fingerprint != pocket.fingerprint


def test_arrays_are_checked(tmp_path: Path) -> None:
    text, _ = read_arrays(SHIPPED / "text.safetensors", TextArrays)
    image, _ = read_arrays(SHIPPED / "efficientnet_lite0.safetensors", ImageArrays)
    options = PocketOptions(arrays=tmp_path, cache=False)
    with pytest.raises(
        UnavailableError, match=r"no fitted arrays for 'efficientnet_lite0'.*fit-pocket"
    ):
        load_pocket(options=options)
    (tmp_path / "text.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(UnreadableError, match="is not a safetensors file"):
        load_pocket(options=options)
    write_arrays(tmp_path / "text.safetensors", image)
    with pytest.raises(UnreadableError, match="does not hold the pocket model's TextArrays"):
        load_pocket(options=options)
    write_arrays(tmp_path / "text.safetensors", text)
    fewer = replace(image, attribute_weights=image.attribute_weights[:-1])
    write_arrays(tmp_path / "efficientnet_lite0.safetensors", fewer)
    with pytest.raises(UnreadableError, match=r"are for \d+ descriptors, not"):
        load_pocket(options=options)
    with pytest.raises(InputError, match="'labels' holds a number that half precision cannot"):
        write_arrays(tmp_path / "x.safetensors", replace(text, labels=text.labels * 1e9))


def test_a_concept_set_is_embedded_once(
    pocket: PocketModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NEURONYM_NO_CACHE", raising=False)
    words = [f"word number {index}" for index in range(80)]
    cached = load_pocket(options=PocketOptions(cache_folder=tmp_path))
    first = cached.embed_texts(words)
    assert len(list(tmp_path.glob("*.f32"))) == 1

    def never(texts: list[str]) -> None:
        raise AssertionError("the encoder ran again")

    monkeypatch.setattr(cached._minilm, "embed", never)
    assert np.array_equal(cached.embed_texts(words), first)
    assert np.allclose(pocket.embed_texts(words), first, atol=1e-4)
    with pytest.raises(AssertionError, match="ran again"):
        cached.embed_texts(words[::-1])


@pytest.mark.shared_data
def test_real_photos_find_their_names(pocket: PocketModel, shared_data: Path) -> None:
    """Photos that fitting never saw, among the names of their labels."""
    from neuronym import probes
    from neuronym.fit_pocket import held_out_photo

    photos = probes.load(str(shared_data / "imagenet-photos.parquet"))
    assert photos.labels is not None
    assert photos.label_names is not None
    rows = [row for row, name in enumerate(photos.ids) if held_out_photo(name)][::4]
    names = [photos.label_names[photos.labels[row]].split(",")[0] for row in rows]
    scores = pocket.embed_images([photos.image(row) for row in rows]) @ pocket.embed_texts(names).T
    right = (scores - scores.mean(0)).argmax(1) == np.arange(len(rows))
    assert right.mean() > 0.7
