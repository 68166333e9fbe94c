"""The audit's statistics against slow twins."""

from __future__ import annotations

import numpy as np
import pytest

from neuronym.audit.statistics import (
    chance_p_values,
    difference,
    excess_weights,
    mean_of_each,
    positive_shares,
    strata_of,
)
from reference import audit as slow

IMAGES, UNITS = 12, 9
MATCHED = [1, 4, 5]
STRATA = np.array([0, 0, 0, 1, 1, 1, 1, 1, 0])


def contributions() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(IMAGES, UNITS))


def mask() -> np.ndarray:
    return np.isin(np.arange(UNITS), MATCHED)


def test_shares_and_excess_are_the_literal_ones() -> None:
    rows = contributions()
    shares, some = positive_shares(rows)
    assert some.all()
    excess = shares @ excess_weights(mask(), STRATA)
    for image in range(IMAGES):
        found = slow.share(rows[image], MATCHED)
        assert shares[image, MATCHED].sum() == pytest.approx(found)
        expected = slow.expected_share(rows[image], MATCHED, STRATA)
        assert excess[image] == pytest.approx(found - expected)


def test_an_image_on_which_nothing_positive_flows_has_no_share() -> None:
    shares, some = positive_shares(np.array([[-1.0, 0.0], [-1.0, 3.0]]))
    assert some.tolist() == [False, True]
    assert shares.tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_the_p_value_is_that_of_every_set() -> None:
    rows = contributions()
    rows[:, MATCHED] += 0.4
    shares, _ = positive_shares(rows)
    literal = slow.p_value_of_every_set(rows.tolist(), MATCHED, STRATA.tolist())
    draws = 20_000
    (p,) = chance_p_values(
        shares.mean(0)[None], mask(), STRATA, draws=draws, generator=np.random.default_rng(1)
    )
    spread = (literal * (1 - literal) / draws) ** 0.5
    assert abs(p - literal) < 4 * spread + 1 / draws
    assert 0 < literal < 0.5


def test_p_values_of_classes_without_an_effect_are_uniform() -> None:
    generator = np.random.default_rng(2)
    means = generator.gamma(1.0, size=(2000, 30))
    matched = np.arange(30) < 4
    p = chance_p_values(
        means, matched, strata_of(np.arange(30.0), matched), draws=999, generator=generator
    )
    for level in (0.05, 0.5):
        assert abs((p <= level).mean() - level) < 0.02 + 2 * (level * (1 - level) / 2000) ** 0.5


def test_a_stratum_of_matching_units_alone_is_joined_with_its_neighbour() -> None:
    rates = np.arange(16) / 16
    matched = np.zeros(16, bool)
    matched[:4] = True  # exactly the rarest quarter
    strata = strata_of(rates, matched)
    assert len(set(strata[:8])) == 1  # the first two quarters are one
    assert len(np.unique(strata)) == 3
    apart = strata_of(rates, np.arange(16) % 4 == 0)
    assert [int((apart == stratum).sum()) for stratum in np.unique(apart)] == [4, 4, 4, 4]
    assert (np.diff(apart) >= 0).all()


def test_every_unit_may_match() -> None:
    everything = np.ones(3, bool)
    strata = strata_of(np.array([0.1, 0.2, 0.3]), everything)
    assert np.allclose(excess_weights(everything, strata), 0)


def test_an_interval_holds_the_mean_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        values = generator.exponential(size=(60, 1))
        (found,) = mean_of_each(values, draws=200, generator=generator)
        assert found.low <= found.value <= found.high
        inside += found.low <= 1.0 <= found.high
    assert 175 <= inside <= 200  # 95 %, a little less for a skewed mean


def test_a_difference_and_its_seed() -> None:
    first, second = np.arange(20.0), np.arange(20.0) / 2
    one, two = (
        difference(first, second, draws=300, generator=np.random.default_rng(4)) for _ in range(2)
    )
    assert one == two
    assert one.value == pytest.approx(9.5 - 4.75)
    assert one.low < one.value < one.high
