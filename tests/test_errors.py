"""Every error has two parents, and every message helps."""

from __future__ import annotations

import pytest

from neuronym import errors

BUILTINS = {
    errors.InputError: ValueError,
    errors.UnknownNameError: ValueError,
    errors.DivisibilityError: ValueError,
    errors.MissingError: FileNotFoundError,
    errors.UnreadableError: ValueError,
    errors.FolderInUseError: FileExistsError,
    errors.UnavailableError: RuntimeError,
}


def test_the_table_above_is_whole() -> None:
    listed = {getattr(errors, name) for name in errors.__all__}
    classes = {item for item in listed if isinstance(item, type)}
    assert classes == {errors.NeuronymError, *BUILTINS}


@pytest.mark.parametrize(("kind", "builtin"), BUILTINS.items())
def test_each_can_be_caught_by_ours_and_by_the_builtin(
    kind: type[Exception], builtin: type[Exception]
) -> None:
    for caught in (errors.NeuronymError, builtin):
        with pytest.raises(caught, match=r"^what is wrong$"):
            raise kind("what is wrong")


def test_unknown_name_is_a_lookup_error_whose_text_is_not_quoted() -> None:
    error = errors.unknown("colour", "rde", ["red", "green"])
    assert isinstance(error, LookupError)
    assert str(error) == "unknown colour 'rde'; known: red, green. Did you mean 'red'?"


def test_unknown_lists_a_few_and_counts_the_rest() -> None:
    names = [f"name-{index}" for index in range(15)]
    text = str(errors.unknown("thing", "zzzz", names, show=3))
    assert text == "unknown thing 'zzzz'; known: name-0, name-1, name-2 and 12 more."
    assert " more" not in str(errors.unknown("thing", "zzzz", names[:3], show=3))


def test_unknown_with_nothing_known() -> None:
    assert str(errors.unknown("tag", "x", [])) == "unknown tag 'x'; known: none."


def test_the_nearest_match_may_be_among_the_names_that_are_not_listed() -> None:
    names = [f"name-{index}" for index in range(15)]
    assert str(errors.unknown("thing", "name-14x", names, show=2)).endswith("'name-14'?")


def test_nearest_ignores_case_and_keeps_spelling() -> None:
    assert errors.nearest("vit-b-32", ["RN50", "ViT-B-32", "ViT-L-14"])[0] == "ViT-B-32"


def test_nearest_gives_up_on_what_is_far_and_stops_at_the_count() -> None:
    assert errors.nearest("qqqq", ["red", "green"]) == []
    assert len(errors.nearest("red", ["reda", "redb", "redc", "redd"], count=2)) == 2


def test_messages_are_one_line() -> None:
    assert "\n" not in str(errors.unknown("thing", "two\nlines", ["a"]))
