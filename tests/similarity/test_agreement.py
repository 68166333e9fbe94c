"""Every similarity against its literal float64 twin."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from neuronym.errors import InputError
from neuronym.similarity import SIMILARITIES, top_images
from reference import similarity as literal

REORDER = {"top_fraction": 0.4, "power": 2.0, "score_power": 0, "seed": 3}
SOFT = {"top_k": 7, "scale": 3.0}
KEYWORDS = {  # name -> [(keywords of ours, keywords of the twin)]
    "cosine": [({}, {})],
    "cosine_cubed": [({}, {})],
    "rank_reorder": [({}, {}), (REORDER, REORDER)],
    "wpmi": [({}, {}), ({"top_k": 5, "prior_weight": 1.0}, {"top_k": 5, "weight": 1.0})],
    "soft_wpmi": [
        ({}, {}),
        ({**SOFT, "prior_weight": 0.5}, {**SOFT, "weight": 0.5}),
        ({"top_k": 20, "membership": (1.0, 0.5)},) * 2,
    ],
    "jensen_shannon": [({}, {}), ({"scale": 3.0},) * 2],
    "auroc": [({}, {}), ({"top_fraction": 0.2, "min_images": 3},) * 2],
}
CASES = [(name, *pair) for name, pairs in KEYWORDS.items() for pair in pairs]


def matrices(seed: int, images: int = 120, units: int = 9, concepts: int = 11):
    """Activations with ties, constant and all-zero units; scores with a constant concept."""
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn(images, units, generator=generator, dtype=torch.float64)
    activations[:, 1] = activations[:, 1].clamp(min=0)  # half of the images tie at zero
    activations[:, 2] = activations[:, 2].mul(2).round()  # ties everywhere
    activations[:, 3] = 0
    activations[:, 4] = -1.75
    activations[:, 5] = 0
    activations[[5, 20, 21], 5] = torch.tensor([2.0, 0.5, 0.5], dtype=torch.float64)
    activations[:, 6] = -activations[:, 6].abs()  # never above zero
    scores = 0.2 + 0.05 * torch.randn(images, concepts, generator=generator, dtype=torch.float64)
    scores[:, 1] = 0.25
    scores[:, 2] = scores[:, 2].mul(20).round() / 20
    scores[:, 3] = 0
    return activations, scores


def twin_top_k(name: str, keywords: dict, images: int) -> dict:
    usual = {"wpmi": 28, "soft_wpmi": 100}
    return keywords if name not in usual else {"top_k": min(usual[name], images), **keywords}


@pytest.mark.parametrize(("name", "ours", "theirs"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
@pytest.mark.parametrize("images", [120, 37])
def test_agrees_with_its_twin(name, ours, theirs, dtype, tolerance, images) -> None:
    # Round to float32 first, so that both dtypes see the same ties.
    activations, scores = (x.float().double() for x in matrices(images, images))
    found = SIMILARITIES[name](activations.to(dtype), scores.to(dtype), **ours)
    expected = getattr(literal, name)(
        activations.numpy(), scores.numpy(), **twin_top_k(name, theirs, images)
    )
    assert found.shape == (9, 11)
    assert found.dtype == dtype
    scale = np.maximum(np.abs(expected), 1.0)
    assert (np.abs(found.double().numpy() - expected) / scale).max() < tolerance


@pytest.mark.parametrize("name", list(SIMILARITIES))
def test_blocks_do_not_change_the_result(name, monkeypatch) -> None:
    activations, scores = matrices(7)
    whole = SIMILARITIES[name](activations, scores)
    for module in ("common", "rank_reorder", "likelihood", "jensen_shannon"):
        found = importlib.import_module(f"neuronym.similarity.{module}")
        monkeypatch.setattr(found, "block_length", lambda *_, **__: 2)
    torch.testing.assert_close(SIMILARITIES[name](activations, scores), whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", list(SIMILARITIES))
def test_a_unit_that_shows_the_concept_prefers_it(name) -> None:
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(300, 12, generator=generator) < 0.2
    scores = 0.2 + 0.05 * present + 0.01 * torch.rand(300, 12, generator=generator)
    # Where a concept is present, the activation follows its score.
    order = torch.randperm(12, generator=generator)
    activations = (scores * present)[:, order]
    assert SIMILARITIES[name](activations, scores).argmax(1).tolist() == order.tolist()


@pytest.mark.parametrize("name", list(SIMILARITIES))
def test_result_is_finite_and_repeatable(name) -> None:
    activations, scores = matrices(1)
    first = SIMILARITIES[name](activations.float() * 1e-30, scores.float())
    again = SIMILARITIES[name](activations.float() * 1e-30, scores.float())
    assert torch.isfinite(first).all()
    assert torch.equal(first, again)


@pytest.mark.parametrize("top_k", [1, 5, 50, 119, 120])
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_top_images_by_their_twin(top_k, keyed, dtype) -> None:
    activations, _ = matrices(2)
    activations = activations.to(dtype)
    activations[3, 5] = -0.0
    keys = np.arange(120) * 7919 - 300 if keyed else None
    indices, counts = top_images(activations, top_k, keys=keys)
    assert indices.shape == (9, top_k)
    for unit in range(9):
        found = indices[unit, : counts[unit]].tolist()
        values = activations[:, unit].tolist()
        assert found == literal.top_images(values, top_k, None if keys is None else keys.tolist())


def test_top_images_depend_on_keys_and_not_on_the_order_of_the_images() -> None:
    activations, _ = matrices(2)
    moved = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    indices, counts = top_images(activations, 30)
    again, same = top_images(activations[moved], 30, keys=moved.numpy())
    assert torch.equal(counts, same)
    for unit in range(9):
        chosen = indices[unit, : counts[unit]]
        assert torch.equal(chosen, moved[again[unit, : counts[unit]]])
    with pytest.raises(InputError, match=r"keys of shape \(3,\) must be one for each of 120"):
        top_images(activations, 30, keys=np.arange(3))


def test_top_images_of_a_sparse_unit_are_those_it_fires_on() -> None:
    activations, _ = matrices(2)
    indices, counts = top_images(activations[:, [5, 3, 4]], 50)
    assert counts.tolist() == [3, 0, 0]
    assert indices[0, 0] == 5
    assert sorted(indices[0, 1:3].tolist()) == [20, 21]


def test_a_saturated_unit_keeps_an_even_selection_of_its_ties() -> None:
    activations = torch.zeros(4000, 2)
    activations[1000:3000] = 1.0
    activations[[7, 3900], 1] = 2.0
    indices, counts = top_images(activations, 202)
    assert counts.tolist() == [202, 202]
    assert set(indices[1, :2].tolist()) == {7, 3900}
    for chosen in (indices[0], indices[1, 2:]):
        assert chosen.unique().numel() == len(chosen)
        assert 1000 <= int(chosen.min()) < 1100
        assert 2900 < int(chosen.max()) < 3000
        quarters = torch.bincount((chosen - 1000) // 500, minlength=4)
        assert int(quarters.min()) > 35  # 50 of each are due
    scores = torch.rand(4000, 5, generator=torch.Generator().manual_seed(0))
    scores[1000:3000, 3] += 3
    noise = torch.rand(4000, 4, generator=torch.Generator().manual_seed(1))
    found = SIMILARITIES["soft_wpmi"](torch.cat([activations[:, :1], noise], 1), scores)
    assert int(found[0].argmax()) == 3


@pytest.mark.parametrize("name", ["wpmi", "soft_wpmi"])
def test_a_unit_without_evidence_scores_zero_and_leaves_the_prior_alone(name) -> None:
    activations, scores = matrices(3)
    live = activations[:, [0, 1, 2, 5]]
    with_dead = torch.cat([live, torch.zeros(120, 2, dtype=torch.float64)], 1)
    found = SIMILARITIES[name](with_dead, scores)
    assert (found[4:] == 0).all()
    torch.testing.assert_close(found[:4], SIMILARITIES[name](live, scores))


def test_order_of_images_does_not_matter_for_sparse_units() -> None:
    activations, scores = matrices(4)
    activations[21, 5] = 0.4  # distinct above the tie: equals go by the keys of the images
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    for name in ("wpmi", "soft_wpmi", "auroc", "jensen_shannon"):
        found = SIMILARITIES[name](activations[:, [1, 5]], scores)
        moved = SIMILARITIES[name](activations[order][:, [1, 5]], scores[order])
        torch.testing.assert_close(found, moved)


@pytest.mark.parametrize("name", ["cosine", "cosine_cubed"])
@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1e-6, 1e12, 1e30])
def test_cosines_do_not_depend_on_the_scale(name, factor) -> None:
    activations, scores = (x.float() for x in matrices(5))
    expected = SIMILARITIES[name](activations, scores)
    torch.testing.assert_close(
        SIMILARITIES[name](activations * factor, scores * factor), expected, atol=2e-5, rtol=0
    )
    shifted = SIMILARITIES[name](activations, scores * 0 + 1e5 * (1 + scores[0]))
    if name == "cosine_cubed":
        assert (shifted == 0).all()  # constants, however large their rounding


def test_jensen_shannon_bounds() -> None:
    activations, scores = matrices(5)
    found = SIMILARITIES["jensen_shannon"](activations, scores)
    assert (found[[3, 4, 6]] == -np.log(2)).all()
    same = torch.softmax(15 * scores[:, :1], 0)
    equal = SIMILARITIES["jensen_shannon"](same, scores[:, :1])
    assert abs(float(equal)) < 1e-9


def test_labels_take_the_place_of_scores() -> None:
    activations, scores = matrices(6)
    labels = scores > 0.21
    labels[:, 0], labels[:, 1] = True, False
    found = SIMILARITIES["auroc"](activations.float(), scores.float(), labels=labels)
    expected = literal.auroc(
        activations.float().double().numpy(), scores.numpy(), labels=labels.numpy()
    )
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert (found[:, :2] == 0.5).all()


def test_rank_reorder_gives_nothing_for_scores_that_all_tie() -> None:
    activations, scores = matrices(8)
    found = SIMILARITIES["rank_reorder"](activations[:, :1], scores + 1.0)[0]
    assert found[1] < -0.3  # a constant concept orders nothing
    assert found[3] < -0.3


@pytest.mark.parametrize("power", [3.0, 2, 1.5])
def test_the_fused_reorder_ranks_every_score(power) -> None:
    """Many words of the bitmap; signs, zeros of both signs and ties in the scores."""
    generator = torch.Generator().manual_seed(4)
    activations = torch.randn(1500, 6, generator=generator)
    scores = torch.randn(1500, 9, generator=generator)
    scores[:, 1] = scores[:, 1].round()
    scores[::2, 1] *= -1.0  # some zeros become minus zero
    scores[:, 2] *= 1e-38
    scores[:, 3] *= 1e30
    scores[:, 4] = -scores[:, 4].abs()
    for fraction in (0.05, 0.6, 1.0):
        keywords = {"power": power, "top_fraction": fraction, "score_power": 0}
        found = SIMILARITIES["rank_reorder"](activations, scores, **keywords)
        expected = SIMILARITIES["rank_reorder"](activations.double(), scores.double(), **keywords)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_rank_reorder_is_seeded() -> None:
    activations, scores = matrices(8)
    reorder = SIMILARITIES["rank_reorder"]
    state = torch.get_rng_state()
    assert torch.equal(reorder(activations, scores, seed=1), reorder(activations, scores, seed=1))
    assert not torch.equal(reorder(activations, scores, seed=1), reorder(activations, scores))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_fused_loops_do_not_depend_on_threads(threads) -> None:
    activations, scores = (x.float() for x in matrices(9))
    expected = {name: SIMILARITIES[name](activations, scores) for name in SIMILARITIES}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for name in ("wpmi", "soft_wpmi", "rank_reorder", "jensen_shannon"):
            assert torch.equal(SIMILARITIES[name](activations, scores), expected[name])
    finally:
        torch.set_num_threads(before)
