"""Names against known attributes, on units whose meaning is planted."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from neuronym.errors import InputError
from neuronym.evaluate import attribute_aurocs, attribute_truth, truth_scorecard

ATTRIBUTES = ("colour:red", "shape:star", "count:three")
WORDS = {"crimson": "colour:red", "red": "colour:red", "star": "shape:star", "three": "count:three"}


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    attributes = generator.random((400, 3)) < 0.3
    noise = 0.05 * generator.random((400, 4))
    activations = np.stack(
        [attributes[:, 0], attributes[:, 1], attributes[:, 1], np.zeros(400)], axis=1
    )
    return activations + noise, attributes


def test_aurocs_agree_with_scikit_learn_including_ties() -> None:
    generator = np.random.default_rng(1)
    activations = generator.integers(0, 4, size=(120, 5)).astype(float)
    attributes = generator.random((120, 3)) < 0.4
    ours = attribute_aurocs(activations, attributes)
    for unit in range(5):
        for attribute in range(3):
            expected = roc_auc_score(attributes[:, attribute], activations[:, unit])
            assert ours[unit, attribute] == pytest.approx(expected, abs=1e-12)


def test_an_attribute_that_never_varies_has_no_auroc() -> None:
    attributes = np.zeros((50, 1), dtype=bool)
    assert np.isnan(attribute_aurocs(np.ones((50, 1)), attributes)).all()


def test_rows_say_what_is_selective_and_right() -> None:
    activations, attributes = planted()
    names = [("fc", 0, "crimson"), ("fc", 1, "star"), ("fc", 2, "red"), ("fc", 3, None)]
    rows = attribute_truth(
        names, activations, attributes, ATTRIBUTES, canonical=WORDS.get, live=[True] * 4
    )
    assert [row.attribute for row in rows[:3]] == ["colour:red", "shape:star", "shape:star"]
    assert [row.selective for row in rows] == [True, True, True, False]
    assert [row.right for row in rows] == [True, True, False, False]
    assert rows[2].named_attribute == "colour:red"
    card = truth_scorecard(rows)
    assert card["units.selective"].value == pytest.approx(3 / 4)
    assert card["units.right"].value == pytest.approx(2 / 3)
    assert card["units.right"].n == 3


def test_a_dead_unit_is_never_selective() -> None:
    activations, attributes = planted()
    names = [("fc", unit, "red") for unit in range(4)]
    rows = attribute_truth(
        names, activations, attributes, ATTRIBUTES, canonical=WORDS.get, live=[False] * 4
    )
    assert not any(row.selective or row.right for row in rows)
    assert [metric.name for metric in truth_scorecard(rows).metrics] == ["units.live"]


def test_bad_shapes_are_refused() -> None:
    activations, attributes = planted()
    with pytest.raises(InputError, match="of the same images"):
        attribute_aurocs(activations[:10], attributes)
    with pytest.raises(InputError, match="NaN"):
        attribute_aurocs(np.full((400, 1), np.nan), attributes)
    with pytest.raises(InputError, match="must be as many"):
        attribute_truth(
            [], activations, attributes, ATTRIBUTES, canonical=WORDS.get, live=[True] * 4
        )
    with pytest.raises(InputError, match="present and absent"):
        attribute_truth(
            [("fc", 0, "red")],
            activations[:5, :1],
            attributes[:5],
            ATTRIBUTES,
            canonical=WORDS.get,
            live=[True],
        )
