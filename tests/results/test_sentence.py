"""Sentences and numbers in plain words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neuronym.errors import InputError
from neuronym.results import ClassScore, Explanation, Winner
from neuronym.results.numbers import count, duration, number, percent, signed
from neuronym.results.sentence import decimals, parts, sentence

RED = ClassScore(0, "red circle", 5.0, 0.97)
BLUE = ClassScore(1, "blue square", 1.0, 0.02)


def winner(unit: int, name: str | None, contribution: float) -> Winner:
    return Winner(unit, unit // 8, name, 0.4, 1.0, contribution)


def explanation(*winners: Winner, target: ClassScore = RED) -> Explanation:
    return Explanation(
        image="a.jpg",
        site="head",
        target=target,
        predictions=(RED, BLUE),
        winners=winners,
        baseline=0.0,
        completeness_error=0.0,
        competitive=True,
        provenance={},
    )


def test_names_what_speaks_for_and_against() -> None:
    made = explanation(winner(1, "red", 2.1), winner(2, "round", 1.4), winner(3, "square", -0.6))
    assert sentence(made) == (
        "Predicted “red circle” (97.0\u00a0%) mainly because of “red” (+2.10) and “round” (+1.40), "
        "against “square” (\u22120.60)."
    )


def test_order_of_winners_does_not_matter() -> None:
    rows = [winner(1, "red", 2.1), winner(2, "round", 1.4), winner(3, "square", -0.6)]
    assert sentence(explanation(*rows)) == sentence(explanation(*reversed(rows)))


def test_a_unit_without_a_name_is_called_by_its_number() -> None:
    said = sentence(explanation(winner(12, None, 2.1)))
    assert "because of the unnamed unit 12 (+2.10)." in said


def test_mainly_is_said_only_of_at_least_half() -> None:
    many = [winner(unit, f"part {unit}", 1.0) for unit in range(20)]
    said = sentence(explanation(*many))
    assert "mainly" not in said
    assert said == (
        "Predicted “red circle” (97.0\u00a0%); no unit stands out: the largest are “part 0” "
        "(+1.00), “part 1” (+1.00) and “part 2” (+1.00), together 15.0\u00a0% of the +20.00 in "
        "favour."
    )
    alone = explanation(*many).sentence(most=1)
    assert "the largest, “part 0” (+1.00), is 5.0\u00a0% of the +20.00 in favour." in alone


def test_small_support_is_left_out_once_half_is_told() -> None:
    said = sentence(explanation(winner(1, "red", 3.0), winner(2, "soft", 0.2)))
    assert "soft" not in said


def test_a_name_of_several_units_is_said_once_with_each_number() -> None:
    said = sentence(explanation(winner(1, "red", 2.0), winner(2, "red", 1.5), winner(3, "o", 1.2)))
    assert "“red” (+2.00, +1.50) and “o” (+1.20)" in said


def test_nothing_in_favour_and_nothing_at_all() -> None:
    assert "although no unit speaks for it, against “dog” (\u22120.500)." in sentence(
        explanation(winner(1, "dog", -0.5))
    )
    assert sentence(explanation()).endswith(", and no unit of head passed anything on.")


def test_a_class_that_was_not_predicted_is_told_apart() -> None:
    said = sentence(explanation(winner(1, "blue", 0.5), target=BLUE))
    assert said.startswith("Predicted “red circle”; “blue square” got 2.0\u00a0% mainly because of")


def test_a_contribution_that_rounds_to_nothing_is_not_named() -> None:
    said = sentence(explanation(winner(1, "red", 2.0), winner(2, "faint", -0.0004)))
    assert "faint" not in said


def test_small_logits_keep_three_digits() -> None:
    made = explanation(winner(1, "red", 0.0123), winner(2, "blue", -0.0041))
    assert decimals(made) == 4
    assert "(+0.0123)" in sentence(made)
    assert "(\u22120.0041)" in sentence(made)


def test_parts_spell_the_sentence_and_point_to_units() -> None:
    made = explanation(winner(1, "red", 2.1), winner(3, "square", -0.6))
    spelled = "".join(part.text for part in parts(made))
    assert spelled == sentence(made).replace("“", "").replace("”", "")
    assert [part.unit for part in parts(made) if part.kind == "unit"] == [1, 3]


def test_the_difference_of_two_classes_is_told_from_the_side_of_the_preferred() -> None:
    rows = [winner(1, "red", 2.1), winner(2, "round", 1.4), winner(3, "square", -0.6)]
    made = replace(explanation(*rows), against=BLUE)
    assert made.explained == 4.0
    assert made.sentence() == (
        "Prefers “red circle” to “blue square” (+4.00) mainly because of “red” (+2.10) and "
        "“round” (+1.40), against “square” (\u22120.60)."
    )
    other = replace(explanation(*rows, target=BLUE), against=RED)
    assert other.sentence() == (
        "Prefers “red circle” to “blue square” (\u22124.00) mainly because of “square” "
        "(\u22120.60), against “red” (+2.10)."
    )
    third = replace(made, target=ClassScore(2, "grey", 0.5, 0.005), against=BLUE)
    assert third.sentence().startswith(
        "Predicted “red circle”; prefers “blue square” to “grey” (\u22120.50) mainly because"
    )


def test_a_large_completeness_error_is_told() -> None:
    made = explanation(winner(1, "red", 3.0))  # logit 5
    small = replace(made, baseline=1.8, completeness_error=0.2)
    assert "account" not in small.sentence()
    large = replace(made, baseline=1.5, completeness_error=0.5)
    assert large.sentence().endswith(
        "(+3.00). The list does not account for +0.50 of the logit (completeness error)."
    )


def test_a_unit_below_zero_is_told_apart() -> None:
    low = replace(winner(1, "red", 2.0), activation=-3.0)
    said = explanation(low, winner(2, "red", 1.5)).sentence()
    assert "mainly because of “red” below zero (+2.00) and “red” (+1.50)." in said


def test_most_limits_the_names() -> None:
    rows = [winner(unit, f"part {unit}", 2.0 - 0.1 * unit) for unit in range(4)]
    assert explanation(*rows).sentence(most=1).count("part") == 1
    assert explanation(*rows).sentence(most=4).count("part") == 4
    with pytest.raises(InputError, match="most must be at least 1, not 0"):
        explanation(*rows).sentence(most=0)


def test_a_missing_list_of_predictions_is_survived() -> None:
    made = replace(explanation(winner(1, "red", 1.0)), predictions=())
    assert sentence(made).startswith("Predicted “red circle”")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.41234, "0.412"),
        (-5.314, "\u22125.31"),
        (0.99999, "1.00"),
        (1536, "1,536"),
        (123456.7, "123,457"),
        (0.0001234, "0.000123"),
        (0.0000123, "1.23e\u22125"),
        (-1.5e12, "\u22121.50e12"),
        (0, "0"),
        (float("nan"), "not a number"),
        (float("-inf"), "\u2212∞"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.125, "12.5"),
        (0.0625, "6.3"),
        (0.1, "10.0"),
        (0.0004, "<0.1"),
        (0.99999, ">99.9"),
        (1, "100"),
        (0, "0"),
    ],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share) == f"{text}\u00a0%"


@pytest.mark.parametrize(
    ("value", "text"), [(2.1, "+2.10"), (-0.6, "\u22120.60"), (-0.001, "0.00"), (0.0, "0.00")]
)
def test_signed(value: float, text: str) -> None:
    assert signed(value, 2) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.42 s"),
        (12.3, "12 s"),
        (59.7, "1 min 0 s"),
        (161.8, "2 min 42 s"),
        (3780, "1 h 3 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds).replace("\u00a0", " ") == text


def test_count() -> None:
    assert (count(54.0), count(1536), count(2.5)) == ("54", "1,536", "2.50")
