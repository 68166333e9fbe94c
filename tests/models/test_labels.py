"""Labels of a data set meet the classes of a model by name, never by a guess."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from neuronym.errors import InputError
from neuronym.explain.select import class_index
from neuronym.models.labels import Labels


@pytest.mark.parametrize(
    ("labels", "classes", "table", "unknown"),
    [
        (("cat", "dog"), ("dog", "cat"), [1, 0], ()),
        (("Cat", "bird"), ("dog", "cat"), [1, -1], ("bird",)),
        # Equal lists, whatever they repeat: each label is the class of its index.
        (("crane", "dog", "crane"), ("crane", "dog", "crane"), [0, 1, 2], ()),
        (("Crane", "dog", "crane"), ("crane", "Dog", "crane"), [0, 1, 2], ()),
        # In another order, a name that two classes bear says neither.
        (("dog", "crane"), ("crane", "dog", "crane"), [1, -1], ("crane",)),
        # Two names that differ in case only are two classes; a third spelling says neither.
        (("turkey", "Turkey"), ("Turkey", "turkey", "cat"), [1, 0], ()),
        (("TURKEY", "cat"), ("Turkey", "turkey", "cat"), [-1, 2], ("TURKEY",)),
    ],
)
def test_names_decide(
    labels: Sequence[str], classes: Sequence[str], table: Sequence[int], unknown: Sequence[str]
) -> None:
    found = Labels.between(labels, classes)
    assert found.table is not None
    assert found.table.tolist() == table
    assert found.unknown == unknown
    given = np.array([*range(len(labels)), -1, len(labels)], np.int64)
    assert found.of(given, len(given), len(classes)).tolist() == [*table, -1, -1]


def test_without_names_the_index_decides() -> None:
    found = Labels.between(None, ("cat", "dog"))
    assert found.of(np.array([1, 2, -1]), 3, 2).tolist() == [1, -1, -1]
    assert found.of(None, 2, 2).tolist() == [-1, -1]


def test_a_class_of_two_names_is_asked_for_by_index() -> None:
    names = ("crane", "Turkey", "crane", "turkey")
    with pytest.raises(InputError, match=r"called 'crane'; give an index of \[0, 2\]"):
        class_index("crane", names)
    with pytest.raises(InputError, match=r"called 'TURKEY'; give an index of \[1, 3\]"):
        class_index("TURKEY", names)
    assert class_index("turkey", names) == 3
    assert class_index(2, names) == 2
