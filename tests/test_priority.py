"""The hash that orders images that tie."""

from __future__ import annotations

import numpy as np
import pytest

from neuronym.errors import InputError
from neuronym.priority import priority

MASK = 2**64 - 1


def literal(key: int) -> int:
    mixed = (key + 0x9E3779B97F4A7C15) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return mixed ^ (mixed >> 31)


def test_it_is_splitmix64() -> None:
    assert int(priority(np.array([0]))[0]) == 0xE220A8397B1DCDAF  # the generator's first number
    keys = np.array([0, 1, 7, 2**32, 5 * 2**32 + 3, 2**63 - 1, -1, -(2**63)])
    assert priority(keys).tolist() == [literal(int(key)) for key in keys]
    assert priority(keys).dtype == np.uint64


def test_it_keeps_the_shape_and_has_no_equals() -> None:
    keys = np.arange(100_000).reshape(100, 1000)
    assert priority(keys).shape == keys.shape
    assert len(np.unique(priority(keys))) == keys.size
    assert priority(np.int64(3)).shape == ()  # type: ignore[arg-type]
    assert priority(np.empty(0, np.int64)).shape == (0,)


def test_its_order_prefers_no_part_of_a_probe_set() -> None:
    first = np.argsort(priority(np.arange(10_000)))[:1000]
    assert np.histogram(first, bins=10, range=(0, 10_000))[0] == pytest.approx(100, abs=40)


def test_other_keys_are_refused() -> None:
    with pytest.raises(InputError, match=r"keys of images must be int64, not float64"):
        priority(np.zeros(3))  # type: ignore[arg-type]
