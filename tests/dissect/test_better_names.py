"""Linear explanations and formulas: planted ones are found, and chance is not rewarded."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.metrics import roc_auc_score

from neuronym.dissect.compose import ComposeRules, concept_sets, formulas
from neuronym.dissect.formula import literal
from neuronym.dissect.linear import LinearRules, linear_explanations
from neuronym.dissect.split import split_images
from neuronym.errors import InputError

IMAGES, CONCEPTS, DIM = 1200, 200, 60


@pytest.fixture(scope="module")
def world():
    """Embeddings of rare, skewed features and concepts that read a few of them each."""
    generator = np.random.default_rng(0)
    hidden = np.maximum(generator.standard_normal((IMAGES, DIM)) - 0.5, 0)
    images = hidden @ generator.standard_normal((DIM, DIM)) / 8
    mixed = generator.standard_normal((CONCEPTS, DIM)) * (generator.random((CONCEPTS, DIM)) < 0.06)
    concepts = (mixed + 0.02 * generator.standard_normal(mixed.shape)) @ np.linalg.pinv(
        np.linalg.lstsq(hidden, images, rcond=None)[0]
    ).T
    images = (images - images.mean(0)).astype(np.float32)
    return images, concepts.astype(np.float32), split_images(np.arange(IMAGES))


def standardised(values, on):
    return (values - values[on].mean(0)) / values[on].std(0)


def test_a_split_is_by_quarters_disjoint_and_whole() -> None:
    split = split_images(np.arange(4000))
    assert len(split.fit) == pytest.approx(1000, abs=100)
    assert len(split.choose) == pytest.approx(1000, abs=100)
    assert len(split.score) == pytest.approx(2000, abs=120)
    joined = np.sort(np.concatenate([split.fit, split.choose, split.score]))
    np.testing.assert_array_equal(joined, np.arange(4000))
    order = np.random.default_rng(0).permutation(4000)
    again = split_images(order)
    np.testing.assert_array_equal(np.sort(order[again.fit]), split.fit)
    with pytest.raises(InputError, match="20 images are too few to fit a name"):
        split_images(np.arange(20))


def test_planted_sums_are_found_and_noise_is_not_explained(world) -> None:
    images, concepts, split = world
    generator = np.random.default_rng(1)
    scores = standardised(images @ concepts.T, split.fit)
    true = [generator.choice(CONCEPTS, 3, replace=False) for _ in range(40)]
    planted = np.stack([scores[:, t] @ [0.6, 0.5, 0.4] for t in true], 1)
    planted += 0.3 * generator.standard_normal(planted.shape)
    noise = generator.standard_normal((IMAGES, 40))
    level = np.full((IMAGES, 1), 0.1)
    q = np.concatenate([planted, noise, level], 1).astype(np.float32)
    found = linear_explanations(q, images, concepts, split, rules=LinearRules(length=4))
    kept = [set(row[row >= 0].tolist()) for row in found.concepts]
    assert np.mean([set(t.tolist()) <= k for t, k in zip(true, kept[:40], strict=True)]) > 0.9
    assert np.median(found.correlation[:40] - found.single_correlation[:40]) > 0.1
    assert sum(bool(k) for k in kept[40:80]) <= 4
    assert kept[80] == set()
    assert found.single[80] == -1
    assert np.isnan(found.correlation[80])
    assert (found.weights >= 0).all()


def test_a_linear_explanation_is_the_literal_one(world) -> None:
    images, concepts, split = world
    generator = np.random.default_rng(2)
    scores = images.astype(float) @ concepts.T.astype(float)
    raw = standardised(scores, split.fit)
    q = raw[:, 3] + 0.7 * raw[:, 11] - 0.9 * raw[:, 20] + generator.standard_normal(IMAGES) + 5
    q = q.astype(np.float32)[:, None]
    rules = LinearRules(length=3, gain=0.002)
    found = linear_explanations(q, images, concepts, split, rules=rules)
    target = standardised(q[:, 0].astype(float), split.fit)
    chosen: list[int] = []
    best, reached, weights = None, 0.0, np.zeros(0)
    while len(chosen) < 3:
        left = target[split.fit] - raw[split.fit][:, chosen] @ weights
        gains = raw[split.fit].T @ left
        gains[chosen] = -np.inf
        chosen.append(int(gains.argmax()))
        weights = nnls(raw[split.fit][:, chosen], target[split.fit])[0]
        error = (target - raw[:, chosen] @ weights)[split.choose]
        share = 1 - (error**2).mean() / target[split.choose].var()
        if share < reached + 0.002:
            break
        best, reached = (list(chosen), weights), share
    concepts_found, weights = best
    assert found.single[0] == concepts_found[0]
    row = found.concepts[0]
    used = dict(zip(concepts_found, weights, strict=True))
    used = {concept: weight for concept, weight in used.items() if weight > 0}
    assert dict(
        zip(row[row >= 0].tolist(), found.weights[0][row >= 0].tolist(), strict=True)
    ) == pytest.approx(used, rel=1e-3)
    prediction = raw[:, concepts_found] @ weights
    held = split.score
    assert found.correlation[0] == pytest.approx(
        np.corrcoef(prediction[held], target[held])[0, 1], abs=1e-4
    )
    error = (target - prediction)[held]
    assert found.r_squared[0] == pytest.approx(1 - (error**2).mean() / target[held].var(), abs=1e-3)
    single = np.corrcoef(raw[held, concepts_found[0]], target[held])[0, 1]
    assert found.single_correlation[0] == pytest.approx(single, abs=1e-4)


def test_formulas_have_texts_lengths_values_and_one_form() -> None:
    water, boat, sand = (literal(c, w) for c, w in enumerate(("water", "boat", "sand")))
    no_boat = literal(1, "boat", negated=True)
    assert water.joined("and", no_boat).text == "water AND NOT boat"
    assert no_boat.joined("and", water) == water.joined("and", no_boat)
    both = water.joined("or", sand).joined("and", no_boat)
    assert both.text == "(water OR sand) AND NOT boat"
    assert both == no_boat.joined("and", sand.joined("or", water))
    assert hash(both) == hash(no_boat.joined("and", sand.joined("or", water)))
    assert both.length == 3
    assert set(both.concepts()) == {0, 1, 2}
    chain = water.joined("and", sand).joined("and", boat)
    assert chain == water.joined("and", boat.joined("and", sand))
    assert chain != water.joined("or", sand).joined("or", boat)
    assert water.joined("and", boat) != water.joined("and", no_boat)
    sets = {c: np.array([bool(i >> c & 1) for i in range(8)]) for c in range(3)}
    expected = (sets[0] | sets[2]) & ~sets[1]
    np.testing.assert_array_equal(both.holds(sets), expected)
    with pytest.raises(InputError, match="operator must be 'and' or 'or', not 'xor'"):
        water.joined("xor", boat)


def test_concept_sets_are_labels_or_the_top_of_the_scores(world) -> None:
    images, concepts, _ = world
    label = np.zeros(IMAGES, bool)
    label[7] = True
    sets = concept_sets(images, concepts, labels={4: label})
    np.testing.assert_array_equal(sets[4], label)
    assert (np.delete(sets, 4, 0).sum(1) == 60).all()
    scores = images @ concepts[9]
    assert scores[sets[9]].min() > scores[~sets[9]].max()
    with pytest.raises(InputError, match="10 of 9 images would have each concept"):
        concept_sets(images[:9], concepts)


def test_planted_formulas_are_found_and_length_is_not_rewarded_by_chance() -> None:
    generator = np.random.default_rng(3)
    images, number = 3000, 300
    sets = generator.random((number, images)) < generator.uniform(0.08, 0.2, number)[:, None]
    words = [f"w{c}" for c in range(number)]
    is_ = [literal(c, w) for c, w in enumerate(words)]
    no = [literal(c, w, negated=True) for c, w in enumerate(words)]
    true = []
    for start in range(0, 120, 3):
        a, b, c = (int(x) for x in generator.choice(number, 3, replace=False))
        pair = is_[a].joined("or", is_[b])
        true.append([is_[a], pair, pair.joined("and", no[c])][start // 3 % 3])
    everything = dict(enumerate(sets))
    q = generator.standard_normal((images, 80)).astype(np.float32)
    for unit, formula in enumerate(true):
        q[formula.holds(everything), unit] += 3
    found = formulas(q, sets, words, split_images(np.arange(images)))
    right = np.array([f.formula == t for f, t in zip(found, true, strict=False)])
    assert right[0::3].mean() == 1
    assert right[1::3].mean() > 0.9
    assert right[2::3].mean() > 0.7
    assert np.mean([f.formula.length == 1 for f in found[40:]]) > 0.85
    for f in found[40:]:
        assert f.auroc == pytest.approx(0.5, abs=0.2)
    shorter = formulas(
        q[:, :6], sets, words, split_images(np.arange(images)), rules=ComposeRules(length=2)
    )
    assert max(f.formula.length for f in shorter) == 2


def test_scores_are_of_images_that_were_not_searched() -> None:
    generator = np.random.default_rng(4)
    sets = generator.random((40, 800)) < 0.15
    q = generator.standard_normal((800, 2)).astype(np.float32)
    q[:, 0] = np.round(q[:, 0] + 2 * sets[5], 1)  # with ties
    q[:, 1] = 3
    split = split_images(np.arange(800))
    first, constant = formulas(q, sets, [f"w{c}" for c in range(40)], split)
    assert constant is None
    assert (first.formula, first.single) == (literal(5, "w5"), literal(5, "w5"))
    exact = roc_auc_score(sets[5][split.score], q[split.score, 0])
    assert first.auroc == first.single_auroc == pytest.approx(exact)
    assert first.share == pytest.approx(sets[5].mean())


def test_bad_input(world) -> None:
    images, concepts, split = world
    sets = concept_sets(images, concepts)
    q = np.zeros((IMAGES, 2), np.float32)
    with pytest.raises(InputError, match=r"sets \(200, 1200\) must be .* of 199 words"):
        formulas(q, sets, ["w"] * 199, split)
    with pytest.raises(InputError, match="length must be a whole number from 1 to 3, not 4"):
        ComposeRules(length=4)
    with pytest.raises(InputError, match="length must be a whole number of at least 1, not 0"):
        LinearRules(length=0)
