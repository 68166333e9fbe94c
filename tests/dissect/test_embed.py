"""Embeddings: means over templates, kept by content, one decode for two models."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dissect.planted import (
    ATTRIBUTES,
    PlantedVisionText,
    WithBroken,
    concepts,
    detectors,
    probe_set,
    strengths,
    transform,
)
from neuronym.embed import EmbedOptions, embed_concepts, embed_images, record_and_embed
from neuronym.errors import InputError
from neuronym.record import Plan, RecordOptions, find_sites


class Slanted(PlantedVisionText):
    """Embeddings depend on the template; their norm is 1, or 2."""

    def __init__(self, norm: float = 1.0) -> None:
        super().__init__("slanted")
        self.norm = norm

    def embed_texts(self, texts):
        vectors = super().embed_texts(texts)
        vectors[:, 0] += [0.5 if "photo" in text else 0.0 for text in texts]
        return self.norm * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("norm", [1.0, 2.0])
def test_mean_over_templates_has_unit_norm_where_the_models_have(norm) -> None:
    model = Slanted(norm)
    words = concepts(("{}", "a photo of {}"))
    found = embed_concepts(model, words)
    prompts = [model.embed_texts([word, f"a photo of {word}"]).mean(0) for word in words.words]
    expected = np.stack(prompts)
    if norm == 1.0:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.dtype == np.float32


def test_images_in_order_without_the_broken_ones() -> None:
    probes = WithBroken(probe_set(20), [0, 7])
    found = embed_images(PlantedVisionText(), probes, options=EmbedOptions(batch_size=6))
    kept = [i for i in range(20) if i not in (0, 7)]
    assert found.indices.tolist() == kept
    assert [each.id for each in found.skipped] == ["planted-0", "planted-7"]
    np.testing.assert_allclose(found.vectors, strengths(20)[kept], atol=1 / 255)


def test_kept_by_content(tmp_path) -> None:
    options = EmbedOptions(folder=tmp_path)
    model, probes = PlantedVisionText(), WithBroken(probe_set(20), [3])
    first = embed_images(model, probes, options=options)
    again = embed_images(model, probes, options=options)
    assert model.images == 19
    np.testing.assert_array_equal(again.vectors, first.vectors)
    np.testing.assert_array_equal(again.indices, first.indices)
    assert again.skipped == first.skipped
    other = PlantedVisionText("planted-2")
    embed_images(other, probes, options=options)
    embed_images(model, probe_set(20, seed=1), options=options)
    assert (other.images, model.images) == (19, 39)

    words = embed_concepts(model, concepts(), options=options)
    np.testing.assert_array_equal(embed_concepts(model, concepts(), options=options), words)
    assert model.texts == ATTRIBUTES
    embed_concepts(model, concepts("photo"), options=options)
    assert model.texts == 2 * ATTRIBUTES


def test_damaged_embeddings_are_made_again(tmp_path) -> None:
    options = EmbedOptions(folder=tmp_path)
    model = PlantedVisionText()
    first = embed_images(model, probe_set(20), options=options)
    for path in tmp_path.rglob("0.0*"):
        path.write_bytes(b"garbage")
    again = embed_images(model, probe_set(20), options=options)
    np.testing.assert_array_equal(again.vectors, first.vectors)
    assert model.images == 40


@pytest.mark.parametrize("known", ["nothing", "embeddings", "recording", "both"])
def test_one_decode_serves_both_models(tmp_path, known) -> None:
    module = detectors()
    probes = WithBroken(probe_set(30), [4])
    sites = find_sites(module, "detect", torch.zeros(2, 3, 8, 8))
    record_options = RecordOptions(folder=tmp_path / "recordings", model_fingerprint="m")
    plan = Plan(module, probes, sites, transform=transform, options=record_options)
    options = EmbedOptions(folder=tmp_path / "embeddings", batch_size=7)
    if known in ("embeddings", "both"):
        embed_images(PlantedVisionText(), probes, options=options)
    if known in ("recording", "both"):
        record_and_embed(plan, PlantedVisionText("other"), probes, options=options)
    read = []
    image = probes.image
    probes.image = lambda index: (read.append(index), image(index))[1]
    model = PlantedVisionText()
    recording, embeddings = record_and_embed(plan, model, probes, options=options)
    assert len(read) == (0 if known == "both" else 30)
    assert model.images == (0 if known in ("embeddings", "both") else 29)
    assert recording.indices.tolist() == embeddings.indices.tolist()
    expected = strengths(30)[recording.indices][:, module.order[:5]]
    np.testing.assert_allclose(recording.activations("detect")[:, :5], expected, atol=1 / 255)
    np.testing.assert_allclose(embeddings.vectors, strengths(30)[recording.indices], atol=1 / 255)


def test_what_a_model_must_not_give() -> None:
    class Short(PlantedVisionText):
        def embed_images(self, images):
            return super().embed_images(images)[:, :-1]

        def embed_texts(self, texts):
            vectors = super().embed_texts(texts)
            vectors[2] = np.nan
            return vectors

    with pytest.raises(InputError, match=r"'planted' gave \(20, 15\) for 20 images; expected \(20"):
        embed_images(Short(), probe_set(20))
    with pytest.raises(InputError, match="NaN or infinity for 1 of 16 texts, the first: 'cloud'"):
        embed_concepts(Short(), concepts())


def test_progress_of_texts_and_images() -> None:
    seen: list[tuple[int, int]] = []
    options = EmbedOptions(progress=lambda done, total, note: seen.append((done, total)))
    embed_concepts(PlantedVisionText(), concepts(), options=options)
    embed_images(PlantedVisionText(), probe_set(20), options=options)
    assert (16, 16) in seen
    assert seen[-1] == (20, 20)
