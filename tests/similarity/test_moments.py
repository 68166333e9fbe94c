"""The cosine from moments is the cosine of the matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuronym.errors import InputError
from neuronym.similarity import (
    SIMILARITIES,
    DotProducts,
    ImageSums,
    UnitSums,
    cosine_from_moments,
    rank_concepts,
    rank_from_moments,
)
from reference import similarity as literal

IMAGES, UNITS, CONCEPTS, DIM = 60, 5, 9, 4


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, DIM, generator=generator) / 3
    images[:, 3] = 0.7  # a direction without any spread
    texts = torch.randn(CONCEPTS, DIM, generator=generator)
    texts[2] = 0
    texts[3] = torch.tensor([0.0, 0.0, 0.0, 1.0])  # the same score for every image
    activations = torch.randn(IMAGES, UNITS, generator=generator).relu()
    activations[:, 1] = 0
    activations[:, 2] = 2.5
    return activations, images, texts


def sums(activations, images) -> tuple[UnitSums, ImageSums]:
    q, i = activations.double().numpy(), images.double().numpy()
    return (
        UnitSums(q.T @ i, q.sum(0), (q * q).sum(0)),
        ImageSums(len(i), i.sum(0), i.T @ i),
    )


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("step", [1, 4, 99])
def test_equals_the_literal_cosine(centred, step, data, monkeypatch) -> None:
    monkeypatch.setattr("neuronym.similarity.moments.block_length", lambda *_, **__: step)
    activations, images, texts = data
    found = cosine_from_moments(*sums(activations, images), texts, centred=centred)
    expected = literal.cosine_from_images(
        activations.double().numpy(),
        images.double().numpy(),
        texts.double().numpy(),
        centred=centred,
    )
    silent = [2, 3] if centred else [2]  # rounding is all that the centred constant leaves
    assert (found[:, silent] == 0).all()
    assert (found[1] == 0).all()
    rest = [m for m in range(CONCEPTS) if m not in silent]
    np.testing.assert_allclose(found.numpy()[:, rest], expected[:, rest], atol=1e-9)
    assert centred or abs(expected[2, 3] - 1) < 1e-12
    scores = DotProducts(images, texts)
    scores = scores.centred() if centred else scores
    matrix = SIMILARITIES["cosine"](activations, scores.block(0, CONCEPTS))
    np.testing.assert_allclose(found.numpy()[:, rest], matrix.numpy()[:, rest], atol=2e-6)


@pytest.mark.parametrize("centred", [False, True])
def test_ranks_as_the_matrices_do(centred, data, monkeypatch) -> None:
    monkeypatch.setattr("neuronym.similarity.moments.block_length", lambda *_, **__: 4)
    activations, images, texts = data
    texts = texts[[0, 1, 4, 5, 6, 7, 8]]
    sites = [activations[:, :2], activations[:, 3:]]  # a constant leaves rounding to rank
    moments = [sums(each, images)[0] for each in sites]
    found = rank_from_moments(moments, sums(sites[0], images)[1], texts, keep=3, centred=centred)
    scores = DotProducts(images.double(), texts.double())
    expected = rank_concepts("cosine", sites, scores.centred() if centred else scores, keep=3)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-9, atol=1e-9)
        assert torch.equal(ours.concepts, theirs.concepts)


@pytest.mark.parametrize("factor", [1e-30, 1e-8, 1e8, 1e30])
def test_does_not_depend_on_the_scale(factor, data) -> None:
    activations, images, texts = (each.double() for each in data)
    expected = cosine_from_moments(*sums(activations, images), texts, centred=True)
    for scaled in (
        cosine_from_moments(*sums(activations * factor, images), texts, centred=True),
        cosine_from_moments(*sums(activations, images * factor), texts, centred=True),
        cosine_from_moments(*sums(activations, images), texts * factor, centred=True),
    ):
        torch.testing.assert_close(scaled, expected, rtol=1e-9, atol=1e-12)


def test_refuses(data) -> None:
    activations, images, texts = data
    units, whole = sums(activations, images)
    with pytest.raises(InputError, match=r"texts must be \(concepts, 4\)"):
        cosine_from_moments(units, whole, texts[:, :3])
    with pytest.raises(InputError, match="NaN or infinity"):
        cosine_from_moments(units, whole, texts / 0)
    with pytest.raises(InputError, match="length 3 and the images' are of length 4"):
        cosine_from_moments(sums(activations, images[:, :3])[0], whole, texts)
    with pytest.raises(InputError, match="sums of units must be float64"):
        UnitSums(units.products, units.sums.astype(np.float32), units.squares)
    with pytest.raises(InputError, match=r"squares of units must be float64 of shape \(5,\)"):
        UnitSums(units.products, units.sums, units.squares[:4])
    with pytest.raises(InputError, match="products of embeddings hold NaN"):
        ImageSums(3, whole.sums, whole.products * np.nan)
    with pytest.raises(InputError, match="at least 1 image, not 0"):
        ImageSums(0, whole.sums, whole.products)
