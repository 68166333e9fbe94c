"""p-values of the best score: right under the null, small where there is something."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, kstest

from neuronym import probes
from neuronym.dissect.calibrate import NullOptions, p_values, with_significance
from neuronym.dissect.null_cosine import cosine_p_values, profiles_of, profiles_of_moments
from neuronym.dissect.null_wpmi import TopSets, WpmiKind, random_sets, wpmi_p_values
from neuronym.errors import InputError, UnknownNameError
from neuronym.false_discovery import q_values
from neuronym.results import Unit
from neuronym.similarity import DotProducts, rank_concepts, top_images
from neuronym.similarity.wpmi import MIN_PROBABILITY

UNITS = 300
KEYWORDS = {
    "cosine": {},
    "soft_wpmi": {"top_k": 60, "scale": 6.0, "prior_weight": 1.0},
    "wpmi": {"top_k": 28, "scale": 6.0, "prior_weight": 0.6},
}


def features(images) -> np.ndarray:
    """Real pictures as vectors: 6 × 6 × 3 colours and the squares of their deviations."""
    small = np.stack([np.asarray(image.resize((6, 6)), np.float32) / 255 for image in images])
    flat = small.reshape(len(small), -1)
    both = np.concatenate([flat, 4 * (flat - flat.mean(0)) ** 2], 1)
    return np.asarray(both / np.linalg.norm(both, axis=1, keepdims=True), np.float32)


def words_for(vectors: np.ndarray, count: int, seed: int = 5) -> np.ndarray:
    """Concepts as a text model has them: near single images, broad directions, and noise."""
    generator = np.random.default_rng(seed)
    near = vectors[generator.choice(len(vectors), count // 2)] - vectors.mean(0)
    broad = generator.standard_normal((count - count // 2, vectors.shape[1])) * vectors.std(0)
    made = np.concatenate([near, broad])
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def scenes() -> np.ndarray:
    found = probes.load("scenes:400")
    return features([found.image(index) for index in range(400)])


def noise(kind: str, images: int, units: int = UNITS, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    shape = (images, units)
    made = {
        "white": lambda: generator.standard_normal(shape),
        "rectified": lambda: np.maximum(generator.standard_normal(shape), 0),
        "sparse": lambda: (generator.random(shape) < 0.01) * (1 + generator.random(shape)),
        "heavy": lambda: np.abs(generator.standard_cauchy(shape)),
        "mixed": lambda: (
            (generator.random(shape) < np.geomspace(0.01, 1, units))
            * generator.exponential(size=shape)
        ),
    }[kind]()
    return np.asarray(made[:, made.max(0) > made.min(0)], np.float32)


def tried(similarity: str, activations, vectors, words, draws: int = 500, seed: int = 3):
    best = rank_concepts(
        similarity,
        [torch.from_numpy(activations)],
        DotProducts(torch.from_numpy(vectors), torch.from_numpy(words)),
        keywords=KEYWORDS[similarity],
    )[0].scores[:, 0]
    return p_values(
        similarity,
        activations,
        vectors,
        words,
        best=best.numpy(),
        keywords={**KEYWORDS[similarity]},
        options=NullOptions(draws, seed),
    )


def assert_calibrated(p: np.ndarray, *, dependent: bool = False) -> None:
    """Shares within binomial bounds (99.9 %) and a Kolmogorov-Smirnov test; units of one site
    share the prior, so that theirs are not independent and get bounds of half as many."""
    count = len(p) // 2 if dependent else len(p)
    for level in (0.01, 0.05, 0.2):
        low, high = binom.ppf([0.0005, 0.9995], count, level)
        assert low / count <= (p <= level).mean() <= high / count, level
    assert kstest(p, "uniform").statistic < 1.95 / np.sqrt(count)


@pytest.mark.parametrize("kind", ["white", "rectified", "sparse", "heavy", "mixed"])
@pytest.mark.parametrize("similarity", ["cosine", "soft_wpmi", "wpmi"])
def test_noise_is_significant_as_often_as_it_should_be(kind, similarity, scenes) -> None:
    vectors = scenes - scenes.mean(0)
    p = tried(similarity, noise(kind, len(scenes)), vectors, words_for(scenes, 300))
    assert_calibrated(p, dependent=similarity != "cosine")


@pytest.mark.parametrize("kind", ["white", "sparse", "heavy"])
def test_cosine_that_is_not_centred_is_calibrated(kind, scenes) -> None:
    p = tried("cosine", noise(kind, len(scenes)) + 1, scenes, words_for(scenes, 300))
    assert_calibrated(p)


@pytest.mark.shared_data
@pytest.mark.parametrize("similarity", ["cosine", "soft_wpmi"])
def test_real_activations_are_null_where_images_are_permuted_and_else_not(
    similarity, shared_data
) -> None:
    photos = probes.load(str(shared_data / "imagenet-photos.parquet"))
    vectors = features([photos.image(index) for index in range(300)])
    generator = np.random.default_rng(7)
    # A random network with a hidden layer over the photos: its units are real and diverse.
    first = generator.standard_normal((vectors.shape[1], 64)) * 4
    second = generator.standard_normal((64, UNITS))
    hidden = np.maximum((vectors - vectors.mean(0)) @ first, 0)
    real = np.maximum((hidden - hidden.mean(0)) @ second, 0).astype(np.float32)
    words = words_for(vectors, 300)
    centred = vectors - vectors.mean(0)
    shuffled = np.stack([generator.permutation(column) for column in real.T], 1)
    assert_calibrated(tried(similarity, shuffled, centred, words), dependent=similarity != "cosine")
    p = tried(similarity, real, centred, words)
    assert (p <= 0.05).mean() > 0.5


@pytest.mark.parametrize("similarity", ["cosine", "soft_wpmi", "wpmi"])
def test_planted_units_among_noise_have_small_p_values(similarity, scenes) -> None:
    vectors = scenes - scenes.mean(0)
    words = words_for(scenes, 300)
    generator = np.random.default_rng(2)
    scores = vectors @ words[:40].T
    planted = scores / scores.std(0) + 0.5 * generator.standard_normal(scores.shape)
    activations = np.concatenate([planted, noise("white", len(scenes), 160)], 1).astype(np.float32)
    p = tried(similarity, activations, vectors, words)
    q = q_values(p)
    assert (q[:40] <= 0.05).mean() >= 0.75
    assert (q[40:] <= 0.05).mean() <= 0.05


def test_the_first_draws_of_cosine_are_permutations(scenes) -> None:
    """The shared draws have the distribution of explicit permutations of each unit."""
    vectors, words = scenes - scenes.mean(0), words_for(scenes, 120)
    activations = noise("mixed", len(scenes), 12, seed=9)
    scores = vectors @ words.T
    scores /= np.linalg.norm(scores, axis=0)
    generator = np.random.default_rng(4)
    for unit in range(0, activations.shape[1], 3):
        q = activations[:, unit] / np.linalg.norm(activations[:, unit])
        null = [(generator.permutation(q) @ scores).max() for _ in range(600)]
        at = np.quantile(null, [0.5, 0.9])
        profile = profiles_of(activations[:, [unit]])
        p = [
            cosine_p_values(
                np.array([level]), profile, vectors, words, draws=2000, generator=generator
            )[0]
            for level in at
        ]
        np.testing.assert_allclose(p, [0.5, 0.1], atol=0.08)
        assert p[0] > p[1]


def test_profiles_by_moments_are_those_of_the_activations() -> None:
    q = noise("heavy", 200, 20)
    direct = profiles_of(q, placed=30)
    far = np.abs(q - q.mean(0)).argsort(0)[-30:]
    again = profiles_of_moments(
        200,
        q.sum(0, dtype=np.float64),
        (q.astype(np.float64) ** 2).sum(0),
        np.take_along_axis(q, far, 0).T,
    )
    for name in ("placed", "rest_mean", "rest_spread", "norm", "deviation"):
        np.testing.assert_allclose(
            getattr(again, name), getattr(direct, name), rtol=1e-6, err_msg=name
        )
    rest = np.delete(q[:, 0], far[:, 0])
    assert direct.rest_mean[0] == pytest.approx(rest.mean(), rel=1e-5)
    assert direct.rest_spread[0] == pytest.approx(rest.std() * np.sqrt(170), rel=1e-4)


@pytest.mark.parametrize("name", ["soft_wpmi", "wpmi"])
def test_wpmi_p_values_are_the_literal_ones(name, scenes) -> None:
    """Every draw takes each unit's place in the prior: in float64, by loops."""
    vectors, words = scenes - scenes.mean(0), words_for(scenes, 40)
    activations = noise("mixed", len(scenes), 10, seed=6)
    found, counts = top_images(torch.from_numpy(activations), 20)
    top = TopSets(found.numpy(), counts.numpy())
    assert len(set(top.counts.tolist())) > 3
    weight = 1.0 if name == "soft_wpmi" else 0.6
    kind = WpmiKind(name, scale=6.0, prior_weight=weight)
    draws = 60
    p = wpmi_p_values(
        top, vectors, words, kind=kind, draws=draws, generator=np.random.default_rng(8)
    )
    sets = random_sets(20, len(vectors), draws, np.random.default_rng(8))
    scaled = 6.0 * vectors.astype(float) @ words.T.astype(float)
    chance = np.exp(scaled) / np.exp(scaled).sum(1, keepdims=True)
    s = kind.weights(20).astype(float)[:, None]

    def log_likelihood(images, count):
        terms = np.log(1 - s[:count] + s[:count] * chance[images[:count]] + MIN_PROBABILITY)
        return 20 / count * terms.sum(0)

    units = np.array([log_likelihood(i, c) for i, c in zip(top.images, top.counts, strict=True)])

    def best(row, others):
        prior = np.logaddexp.reduce(np.vstack([others, row])) - np.log(len(units))
        return (row - weight * prior).max()

    for unit in range(len(units)):
        others = np.delete(units, unit, 0)
        observed = best(units[unit], others)
        null = [best(log_likelihood(each, top.counts[unit]), others) for each in sets]
        exact = (1 + np.sum(np.array(null) >= observed)) / (1 + draws)
        # A share of at most 1 % of the prior is taken out of it as a whole.
        above = (1 + np.sum(np.array(null) >= observed - 0.011)) / (1 + draws)
        assert exact - 1e-9 <= p[unit] <= above + 1e-9


def test_a_unit_without_top_images_and_a_constant_one_are_not_significant(scenes) -> None:
    words = words_for(scenes, 30)
    quiet = np.zeros((len(scenes), 3), np.float32)
    quiet[:, 1] = noise("white", len(scenes), 1)[:, 0]
    for similarity in KEYWORDS:
        p = tried(similarity, quiet, scenes - scenes.mean(0), words, draws=99)
        assert p[0] == p[2] == 1
        assert 0 < p[1] <= 1


def test_draws_are_seeded_and_do_not_depend_on_other_units(scenes) -> None:
    vectors, words = scenes - scenes.mean(0), words_for(scenes, 50)
    a = noise("white", len(scenes), 20)
    first = tried("cosine", a, vectors, words, draws=99)
    np.testing.assert_array_equal(first, tried("cosine", a, vectors, words, draws=99))
    other = tried("cosine", a, vectors, words, draws=99, seed=4)
    assert not np.array_equal(first, other)


def test_q_values_by_hand() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.5])
    np.testing.assert_allclose(q_values(p), [0.04, 0.16 / 3, 0.16 / 3, 0.5])
    factor = 1 + 1 / 2 + 1 / 3 + 1 / 4
    np.testing.assert_allclose(
        q_values(p, method="by"), np.minimum(q_values(p) * factor, 1), rtol=1e-12
    )
    assert len(q_values(np.array([]))) == 0
    with pytest.raises(InputError, match="numbers from 0 to 1"):
        q_values(np.array([0.5, 1.5]))
    with pytest.raises(UnknownNameError, match=r"unknown method .* 'bhy'; known: bh, by"):
        q_values(p, method="bhy")


def named(p: float | None) -> Unit:
    name, score = (None, None) if p is None else ("red", 0.5)
    return Unit("a", 0, None, name, score, p, ("blue",), (0.4,), 0.5, None, (), ())


def test_names_above_the_level_become_the_first_runner_up() -> None:
    made = with_significance([named(0.001), named(None), named(0.6)], level=0.05)
    assert [unit.name for unit in made] == ["red", None, None]
    assert [unit.q_value for unit in made] == [0.002, None, 0.6]
    assert [unit.unnamed for unit in made] == [None, None, "not significant"]
    assert made[2].runner_up_names == ("red", "blue")
    assert made[2].runner_up_scores == (0.5, 0.4)
    kept = with_significance([named(0.6)], level=None)
    assert (kept[0].name, kept[0].q_value, kept[0].unnamed) == ("red", 0.6, None)


def test_bad_input(scenes) -> None:
    vectors, words = scenes - scenes.mean(0), words_for(scenes, 10)
    q = noise("white", len(scenes), 2)
    with pytest.raises(UnknownNameError, match="with a null distribution 'auroc'; known: cosine"):
        p_values("auroc", q, vectors, words, best=np.zeros(2), keywords={})
    for draws in (0, 2.5, True):
        with pytest.raises(InputError, match=f"draws must be a whole number .* not {draws}"):
            NullOptions(draws)
    for images in (vectors[1:], np.concatenate([vectors, vectors[:1]])):
        with pytest.raises(InputError, match=f"of 400 images, embeddings of {len(images)}"):
            cosine_p_values(
                np.zeros(2), profiles_of(q), images, words, generator=np.random.default_rng(0)
            )
    moments = (np.zeros(4), np.eye(4), np.eye(4))
    with pytest.raises(InputError, match="placed activations do not fit 50 embeddings"):
        cosine_p_values(
            np.zeros(2),
            profiles_of(q),
            vectors[:50],
            words,
            moments=moments,
            generator=np.random.default_rng(0),
        )
    with pytest.raises(InputError, match="at most 2 of 3 activations can be placed, not 3"):
        profiles_of_moments(3, np.ones(1), np.ones(1), np.ones((1, 3)))
    with pytest.raises(UnknownNameError, match="unknown kind of WPMI 'pmi'"):
        WpmiKind("pmi")
    top = TopSets(np.zeros((1, 20), np.int64), np.ones(1, np.int64))
    with pytest.raises(InputError, match="20 top images cannot be drawn from 5 images"):
        wpmi_p_values(top, vectors[:5], words, generator=np.random.default_rng(0))
