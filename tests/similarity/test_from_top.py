"""WPMI and SoftWPMI from top images, in whatever blocks, against the whole matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuronym.errors import InputError, UnknownNameError
from neuronym.similarity import (
    SIMILARITIES,
    DotProducts,
    HeldEmbeddings,
    TopImages,
    rank_concepts,
    rank_from_top,
    top_images,
)
from reference import similarity as literal

IMAGES, CONCEPTS, DIM = 150, 41, 7
KEYS = np.arange(IMAGES, dtype=np.int64) * 7 - 300
NAMES = ["wpmi", "soft_wpmi"]


class Counted(HeldEmbeddings):
    """Notes what is read."""

    def __init__(self, vectors, keys) -> None:
        super().__init__(vectors, keys)
        self.read: list[np.ndarray] = []

    def rows(self, keys):
        self.read.append(keys)
        return super().rows(keys)


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(IMAGES, DIM, generator=generator) / 4 + 0.1
    texts = torch.randn(CONCEPTS, DIM, generator=generator) / 4
    sites = [torch.randn(IMAGES, units, generator=generator).relu() for units in (6, 3)]
    sites[0][:, 2] = 0  # silent
    sites[0][:, 3] = 0
    sites[0][[4, 90], 3] = torch.tensor([1.0, 2.0])  # fewer images than ranks
    sites[0][:, 4] = sites[0][:, 4].clamp(max=0.1)  # saturated
    return images, texts, sites


def tops_of(sites, top_k) -> list[TopImages]:
    found = [top_images(each, top_k, keys=KEYS) for each in sites]
    return [TopImages(KEYS[indices.numpy()], counts.numpy()) for indices, counts in found]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("budget", [None, 20_000, 1])
def test_same_as_the_whole_matrix(name, centre, budget, data, monkeypatch) -> None:
    images, texts, sites = data
    if budget is not None:
        monkeypatch.setattr("neuronym.similarity.likelihood.BUDGET_BYTES", budget)
        monkeypatch.setattr("neuronym.similarity.likelihood._SIDE", 13)
    scores = images.double() @ texts.double().T
    scores -= scores.mean(0) * centre
    order = torch.from_numpy(KEYS.argsort())
    found = rank_from_top(
        name,
        tops_of(sites, 12),
        HeldEmbeddings(images[order.flip(0)].numpy(), KEYS[order.flip(0).numpy()]),
        texts,
        keep=5,
        keywords={"top_k": 12, "scale": 3.0},
        mean=images.mean(0).numpy() if centre else None,
    )
    for activations, ranking in zip(sites, found, strict=True):
        # The same ties: images in an order whose own keys have the order of KEYS' priorities.
        rows, counts = top_images(activations, 12, keys=KEYS)
        expected = by_hand(name, rows, counts, scores)
        ordered = expected.sort(dim=1, descending=True, stable=True)
        torch.testing.assert_close(
            ranking.scores.double(), ordered.values[:, :5], rtol=1e-5, atol=2e-5
        )
        picked = expected.gather(1, ranking.concepts)
        torch.testing.assert_close(picked, ordered.values[:, :5], rtol=1e-5, atol=2e-5)


def by_hand(name, rows, counts, scores):
    """The formula for given top images, float64, all at once."""
    chances = torch.softmax(3.0 * scores, 1)
    member = 0.998 - torch.arange(12.0).double() / 12 * 0.028
    if name == "wpmi":
        member = torch.ones(12).double()
    likelihood = torch.zeros(len(rows), scores.shape[1], dtype=torch.float64)
    for unit, count in enumerate(counts.tolist()):
        terms = 1 + member[:count, None] * (chances[rows[unit, :count]] - 1) + 1e-7
        likelihood[unit] = terms.log().sum(0) * 12 / max(count, 1)
    live = counts > 0
    prior = torch.logsumexp(likelihood[live], 0) - np.log(int(live.sum()))
    weight = {"wpmi": 0.6, "soft_wpmi": 1.0}[name]
    return torch.where(live[:, None], likelihood - weight * prior, torch.zeros(()).double())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("budget", [None, 20_000])
def test_activations_in_memory_take_the_same_way(name, dtype, budget, data, monkeypatch) -> None:
    images, texts, sites = data
    if budget is not None:
        monkeypatch.setattr("neuronym.similarity.likelihood.BUDGET_BYTES", budget)
        monkeypatch.setattr("neuronym.similarity.likelihood.block_length", lambda *_, **__: 3)
    scores = DotProducts(images.to(dtype), texts.to(dtype)).centred()
    found = rank_concepts(
        name, [each.to(dtype) for each in sites], scores, keep=3, keywords={"top_k": 20}
    )
    matrix = scores.block(0, CONCEPTS).double().numpy()
    for activations, ranking in zip(sites, found, strict=True):
        twin = getattr(literal, name)(activations.double().numpy(), matrix, top_k=20)
        expected = torch.from_numpy(twin).sort(dim=1, descending=True, stable=True).values[:, :3]
        torch.testing.assert_close(ranking.scores.double(), expected, rtol=1e-5, atol=2e-5)
        assert ranking.scores.dtype == dtype


def test_only_the_embeddings_of_top_images_are_read(data, monkeypatch) -> None:
    images, texts, sites = data
    tops = tops_of(sites, 5)
    table = Counted(images.numpy(), KEYS)
    rank_from_top("soft_wpmi", tops, table, texts)
    needed = np.unique(np.concatenate([each.keys[each.used] for each in tops]))
    assert np.array_equal(np.concatenate(table.read), needed)
    assert len(needed) < IMAGES
    monkeypatch.setattr("neuronym.similarity.likelihood._CHUNK", 8)
    table.read.clear()
    rank_from_top("soft_wpmi", tops, table, texts)
    assert max(len(keys) for keys in table.read) == 8
    assert np.array_equal(np.concatenate(table.read), needed)


@pytest.mark.parametrize("name", NAMES)
def test_long_and_sharp(name) -> None:
    """Many ranks and a sharp softmax: products far below float32's smallest number."""
    generator = torch.Generator().manual_seed(3)
    activations = torch.rand(900, 4, generator=generator)
    scores = torch.randn(900, 30, generator=generator)
    keywords = {"top_k": 700, "scale": 40.0, "prior_weight": 0}
    found = SIMILARITIES[name](activations, scores, **keywords)
    expected = SIMILARITIES[name](activations.double(), scores.double(), **keywords)
    assert float(expected.abs().max()) > 500
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=5e-3)


def test_no_evidence_at_all_gives_zeros(data) -> None:
    images, texts, _ = data
    tops = [TopImages(np.zeros((4, 3), np.int64), np.zeros(4, np.int64))]
    (found,) = rank_from_top("soft_wpmi", tops, HeldEmbeddings(images.numpy()), texts, keep=2)
    assert (found.scores == 0).all()
    assert found.concepts.tolist() == [[0, 1]] * 4
    assert rank_from_top("wpmi", [], HeldEmbeddings(images.numpy()), texts) == []


def test_refuses(data) -> None:
    images, texts, sites = data
    tops, table = tops_of(sites, 12), HeldEmbeddings(images.numpy(), KEYS)
    with pytest.raises(InputError, match=r"'cosine' needs the activations .* wpmi and soft_wpmi"):
        rank_from_top("cosine", tops, table, texts)
    with pytest.raises(UnknownNameError, match="soft_wpmi"):
        rank_from_top("softwpmi", tops, table, texts)
    with pytest.raises(InputError, match="takes no keyword 'labels'"):
        rank_from_top("wpmi", tops, table, texts, keywords={"labels": 1})
    with pytest.raises(InputError, match="top_k is 9 and the top images were counted for 12"):
        rank_from_top("wpmi", tops, table, texts, keywords={"top_k": 9})
    with pytest.raises(InputError, match=r"texts must be \(concepts, 7\)"):
        rank_from_top("wpmi", tops, table, texts[:, :6])
    with pytest.raises(InputError, match=r"mean must be \(7,\)"):
        rank_from_top("wpmi", tops, table, texts, mean=np.zeros(6))
    with pytest.raises(InputError, match="have no embedding, the first is"):
        rank_from_top("wpmi", tops, HeldEmbeddings(images.numpy()), texts)
    with pytest.raises(InputError, match="keys must be different"):
        HeldEmbeddings(images.numpy(), KEYS * 0)
    with pytest.raises(InputError, match=r"embeddings must be \(images, dim\)"):
        HeldEmbeddings(images[0].numpy())
    for poisoned in (texts.index_fill(0, torch.tensor(40), float("nan")), texts * 1e30 * 1e30):
        with pytest.raises(InputError, match="NaN or infinity"):
            rank_from_top("wpmi", tops, table, poisoned)


@pytest.mark.parametrize("budget", [256 << 20, 1])
def test_an_image_that_is_not_finite_is_refused(budget, data, monkeypatch) -> None:
    images, texts, sites = data
    monkeypatch.setattr("neuronym.similarity.likelihood.BUDGET_BYTES", budget)
    tops = tops_of(sites, 12)
    images[int(np.flatnonzero(tops[0].keys[0, 0] == KEYS)[0]), 2] = float("inf")
    with pytest.raises(InputError, match="NaN or infinity"):
        rank_from_top("soft_wpmi", tops, HeldEmbeddings(images.numpy(), KEYS), texts)


@pytest.mark.parametrize(
    ("keys", "counts", "text"),
    [
        (np.zeros((2, 3), np.int32), np.zeros(2, np.int64), "keys of top images must be int64"),
        (np.zeros(3, np.int64), np.zeros(2, np.int64), r"shape \(units, top_k\)"),
        (np.zeros((2, 3), np.int64), np.zeros(3, np.int64), r"counts of shape \(3,\)"),
        (np.zeros((2, 3), np.int64), np.array([1, 4]), "from 0 to 3"),
        (np.zeros((2, 3), np.int64), np.array([1, -1]), "from 0 to 3"),
    ],
)
def test_top_images_that_do_not_fit(keys, counts, text) -> None:
    with pytest.raises(InputError, match=text):
        TopImages(keys, counts)
