"""Embeddings: means over templates, kept by content, one decode for two models."""

from __future__ import annotations

import numpy as np
import pytest

from dissect.planted import (
    ATTRIBUTES,
    PlantedVisionText,
    concepts,
    probe_set,
    strengths,
)
from neuronym.embed import EmbedOptions, embed_batch, embed_concepts
from neuronym.errors import InputError
from neuronym.probes import batches


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


def test_words_are_kept_by_content(tmp_path) -> None:
    options = EmbedOptions(folder=tmp_path)
    model = PlantedVisionText()
    words = embed_concepts(model, concepts(), options=options)
    np.testing.assert_array_equal(embed_concepts(model, concepts(), options=options), words)
    assert model.texts == ATTRIBUTES
    embed_concepts(model, concepts("photo"), options=options)
    assert model.texts == 2 * ATTRIBUTES
    embed_concepts(PlantedVisionText("planted-2"), concepts(), options=options)
    assert len(list(tmp_path.iterdir())) == 3


def test_damaged_embeddings_are_made_again(tmp_path) -> None:
    options = EmbedOptions(folder=tmp_path)
    model = PlantedVisionText()
    first = embed_concepts(model, concepts(), options=options)
    for path in tmp_path.rglob("0.0*"):
        path.write_bytes(b"garbage")
    np.testing.assert_array_equal(embed_concepts(model, concepts(), options=options), first)
    assert model.texts == 2 * ATTRIBUTES


def test_what_a_model_must_not_give() -> None:
    class Short(PlantedVisionText):
        def embed_images(self, images):
            return super().embed_images(images)[:, :-1]

        def embed_texts(self, texts):
            vectors = super().embed_texts(texts)
            vectors[2] = np.nan
            return vectors

    with batches(probe_set(20), batch_size=20) as stream:
        batch = next(stream)
    np.testing.assert_allclose(embed_batch(PlantedVisionText(), batch), strengths(20), atol=1 / 255)
    with pytest.raises(InputError, match=r"'planted' gave \(20, 15\) for 20 images; expected \(20"):
        embed_batch(Short(), batch)
    with pytest.raises(InputError, match="NaN or infinity for 1 of 16 texts, the first: 'cloud'"):
        embed_concepts(Short(), concepts())


def test_progress_of_texts() -> None:
    seen: list[tuple[int, int]] = []
    options = EmbedOptions(progress=lambda done, total, note: seen.append((done, total)))
    embed_concepts(PlantedVisionText(), concepts(), options=options)
    assert seen[-1] == (16, 16)
