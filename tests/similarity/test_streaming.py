"""Ranking concepts block by block gives what the whole matrix gives."""

from __future__ import annotations

import pytest
import torch

from neuronym.errors import InputError, UnknownNameError
from neuronym.similarity import SIMILARITIES, DotProducts, rank_concepts


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(90, 6, generator=generator)
    texts = torch.randn(23, 6, generator=generator)
    texts[9] = texts[4]  # two concepts that tie exactly
    sites = [torch.randn(90, k, generator=generator).relu() for k in (5, 3)]
    sites[0][:, 2] = 0
    return sites, DotProducts(images / 6, texts / 6)


@pytest.mark.parametrize("name", list(SIMILARITIES))
@pytest.mark.parametrize("step", [1, 4, 23])
def test_same_as_sorting_the_whole_matrix(name, step, data, monkeypatch) -> None:
    sites, scores = data
    monkeypatch.setattr("neuronym.similarity.streaming.block_length", lambda *_, **__: step)
    rankings = rank_concepts(name, sites, scores, keep=4)
    assert len(rankings) == 2
    for activations, ranking in zip(sites, rankings, strict=True):
        matrix = SIMILARITIES[name](activations, scores.block(0, 23))
        ordered = matrix.sort(dim=1, descending=True, stable=True)
        torch.testing.assert_close(ranking.scores, ordered.values[:, :4], rtol=1e-4, atol=1e-5)
        picked = matrix.gather(1, ranking.concepts)
        torch.testing.assert_close(picked, ordered.values[:, :4], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("step", [1, 3, 23])
def test_equals_come_in_the_order_of_concepts(step, data, monkeypatch) -> None:
    sites, scores = data
    monkeypatch.setattr("neuronym.similarity.streaming.block_length", lambda *_, **__: step)
    dead = rank_concepts("cosine", [torch.zeros(90, 1)], scores, keep=3)[0]
    assert dead.concepts.tolist() == [[0, 1, 2]]
    found = rank_concepts("auroc", sites, scores, keep=23)[1].concepts
    for row in found.tolist():
        assert row.index(4) + 1 == row.index(9)


def test_centred_scores_have_no_mean(data) -> None:
    _, scores = data
    block = scores.block(0, 23)
    torch.testing.assert_close(
        scores.centred().block(0, 23), block - block.mean(0), rtol=1e-5, atol=1e-6
    )


def test_labels_of_the_data_set_replace_the_top_images(data) -> None:
    sites, scores = data
    present = torch.arange(90) % 3 == 0
    rankings = rank_concepts("auroc", sites, scores, keep=23, labels={9: present, 20: ~present})
    for activations, ranking in zip(sites, rankings, strict=True):
        expected = SIMILARITIES["auroc"](
            activations, torch.zeros(90, 2), labels=torch.stack([present, ~present], 1)
        )
        for column, concept in enumerate((9, 20)):
            at = (ranking.concepts == concept).nonzero()[:, 1]
            found = ranking.scores.gather(1, at[:, None])[:, 0]
            torch.testing.assert_close(found, expected[:, column])


def test_a_function_of_ones_own(data, monkeypatch) -> None:
    sites, scores = data
    monkeypatch.setattr("neuronym.similarity.streaming.block_length", lambda *_, **__: 4)

    def product(activations, concept_scores, *, factor=1.0):
        return factor * activations.T @ concept_scores

    rankings = rank_concepts(product, sites, scores, keep=3, keywords={"factor": -1.0})
    expected = (-sites[1].T @ scores.block(0, 23)).topk(3, dim=1)
    torch.testing.assert_close(rankings[1].scores, expected.values)
    with pytest.raises(InputError, match=r"must give \(units, concepts\) \(5, 4\), not \(4, 5\)"):
        rank_concepts(lambda a, p: (a.T @ p).T, sites, scores)
    with pytest.raises(InputError, match="finite"):
        rank_concepts(lambda a, p: (a.T @ p) / 0, sites, scores)


def test_keep_more_than_there_are_gives_all(data) -> None:
    sites, scores = data
    assert rank_concepts("cosine", sites, scores, keep=99)[0].scores.shape == (5, 23)
    assert rank_concepts("cosine", [], scores) == []


def test_refuses(data) -> None:
    sites, scores = data
    with pytest.raises(UnknownNameError, match="unknown similarity 'cos'"):
        rank_concepts("cos", sites, scores)
    with pytest.raises(InputError, match="takes no keyword 'scale'"):
        rank_concepts("cosine", sites, scores, keywords={"scale": 1.0})
    with pytest.raises(InputError, match="takes no labels"):
        rank_concepts("cosine", sites, scores, labels={0: torch.ones(90, dtype=torch.bool)})
    with pytest.raises(InputError, match="labels by concept index"):
        rank_concepts("auroc", sites, scores, keywords={"labels": None})
    with pytest.raises(InputError, match="of 89 images"):
        rank_concepts("cosine", [sites[0][:89]], scores)
    broken = DotProducts(scores.images, scores.texts.clone())
    broken.texts[17] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        rank_concepts("cosine", sites, broken)
    with pytest.raises(InputError, match="length 6 and text embeddings 5"):
        DotProducts(scores.images, scores.texts[:, :5])
