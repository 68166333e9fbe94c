"""p-values of one text are right under the null, whatever the activations and scores are like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from neuronym.search.null import p_values, profile
from reference import search as literal

IMAGES, UNITS, TEXTS = 1200, 400, 5
Draw = Callable[[np.random.Generator, int, int], np.ndarray]


def sparse(fires: int) -> Draw:
    def draw(rng: np.random.Generator, images: int, units: int) -> np.ndarray:
        rows = np.zeros((images, units))
        for unit in range(units):
            rows[rng.choice(images, fires, replace=False), unit] = rng.exponential(size=fires)
        return rows

    return draw


ACTIVATIONS: dict[str, Draw] = {
    "normal": lambda rng, images, units: rng.standard_normal((images, units)),
    "rectified": lambda rng, images, units: np.maximum(
        rng.standard_normal((images, units)) - 1.5, 0
    ),
    "fires 3 times": sparse(3),
    "fires 20 times": sparse(20),
    "heavy tails": lambda rng, images, units: rng.standard_t(2, size=(images, units)),
    "one-sided tails": lambda rng, images, units: np.exp(2 * rng.standard_normal((images, units))),
    "negative tails": lambda rng, images, units: -np.exp(rng.standard_normal((images, units)) * 2),
}
SCORES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, images: rng.standard_normal(images),
    "skewed": lambda rng, images: rng.gamma(0.7, size=images),
    "groups": lambda rng, images: np.where(
        rng.random(images) < 0.1, 3 + 0.3 * rng.standard_normal(images), rng.standard_normal(images)
    ),
}


def chances(activations: np.ndarray, scores: np.ndarray, sample: int = 800) -> np.ndarray:
    """p-values as a search gets them: from moments, extremes and a sample of the scores."""
    ordered = np.sort(activations, axis=0).T
    extremes = np.concatenate([ordered[:, ::-1][:, :64], ordered[:, :32]], axis=1)
    mean, deviation = activations.mean(0), activations.std(0)
    r = (activations - mean).T @ (scores - scores.mean())
    r /= len(scores) * deviation * scores.std()
    return p_values(r, profile(extremes, mean, deviation, images=len(scores)), scores[:sample])


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("activations", ACTIVATIONS)
def test_the_share_of_small_p_values_is_as_it_should(activations: str, scores: str) -> None:
    rng = np.random.default_rng([list(ACTIVATIONS).index(activations), list(SCORES).index(scores)])
    found = np.concatenate(
        [
            chances(ACTIVATIONS[activations](rng, IMAGES, UNITS), SCORES[scores](rng, IMAGES))
            for _ in range(TEXTS)
        ]
    )
    assert ((found > 0) & (found <= 1)).all()
    assert 0.03 <= (found < 0.05).mean() <= 0.07
    assert (found < 0.01).mean() <= 0.016
    assert (found < 0.001).sum() <= binom.ppf(0.9999, len(found), 0.001)


def test_they_are_the_shares_of_permutations() -> None:
    rng = np.random.default_rng(1)
    images, draws = 300, 4000
    scores = rng.gamma(1.0, size=images)
    rows = np.stack(
        [
            0.12 * scores + rng.standard_normal(images),
            np.maximum(0.3 * scores + rng.standard_normal(images) - 2, 0),
            (scores > np.sort(scores)[-5]) * (rng.random(images) < 0.7).astype(float),
            -0.1 * scores + rng.standard_normal(images),
        ],
        axis=1,
    )
    found = chances(rows, scores, sample=images)
    for unit in range(rows.shape[1]):
        expected = literal.permuted_share(rows[:, unit], scores, draws=draws, rng=rng)
        error = 4 * np.sqrt(expected * (1 - expected) / draws) + 2 / draws
        assert found[unit] == pytest.approx(expected, abs=error + 0.15 * expected)


def test_strong_fits_are_certain_and_luck_of_one_image_is_not() -> None:
    rng = np.random.default_rng(2)
    scores = rng.standard_normal(IMAGES)
    once = np.zeros(IMAGES)
    once[scores.argmax()] = 1.0  # the best image of all: 1 in 1200
    found = chances(np.stack([scores + rng.standard_normal(IMAGES), once], axis=1), scores)
    assert found[0] < 1e-60
    assert 1e-4 < found[1] < 1e-2


def test_scores_that_do_not_vary_say_nothing() -> None:
    rng = np.random.default_rng(3)
    shape = profile(rng.standard_normal((4, 8)), np.zeros(4), np.ones(4), images=100)
    for scores in (np.full(50, 0.3), np.zeros(50), np.zeros(0)):
        np.testing.assert_array_equal(p_values(np.full(4, 0.9), shape, scores), np.ones(4))


def test_few_images_are_enough_for_an_answer() -> None:
    rng = np.random.default_rng(4)
    rows, scores = rng.standard_normal((24, 300)), rng.standard_normal(24)
    ordered = np.sort(rows, axis=0).T
    extremes = np.concatenate([ordered[:, ::-1][:, :6], ordered[:, :6]], axis=1)
    r = (rows - rows.mean(0)).T @ (scores - scores.mean())
    r /= 24 * rows.std(0) * scores.std()
    found = p_values(r, profile(extremes, rows.mean(0), rows.std(0), images=24), scores)
    assert 0.02 <= (found < 0.05).mean() <= 0.08
