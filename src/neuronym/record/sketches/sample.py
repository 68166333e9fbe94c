"""An even sample of the images, with their activations: the same on any number of machines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from neuronym.errors import InputError, UnreadableError
from neuronym.priority import priority
from neuronym.record.sketches.checks import (
    Layout,
    checked_arrays,
    checked_keys,
    finite_activations,
    finite_embeddings,
)

__all__ = ["Sample"]

_EMBEDDINGS = "embeddings"


class Sample:
    """The images of the lowest priority numbers, their embeddings and pooled activations.

    As the priority is a hash of an image's key, this is a random sample without replacement that
    does not depend on the order of the images or on how they were split. At most twice ``size``
    images are held at any time.

    Args:
        size: Most images that the sample has.
        dim: Dimensions d of the embeddings.
        units: Site → its units.

    Raises:
        InputError: A number is below 1, or there is no site.
    """

    def __init__(self, size: int, dim: int, *, units: Mapping[str, int]) -> None:
        for name, value in (("size", size), ("dim", dim), *units.items()):
            if value < 1:
                raise InputError(f"{name!r} of a sample must be at least 1, not {value}")
        if not units:
            raise InputError("a sample needs at least one site")
        self.size, self.dim, self.units = size, dim, dict(units)
        self._held = 0
        self._keys = np.empty(2 * size, np.int64)
        self._priorities = np.empty(2 * size, np.uint64)
        self._embeddings = np.empty((2 * size, dim), np.float32)
        self._rows = {site: np.empty((2 * size, each), np.float32) for site, each in units.items()}
        self._limit: np.uint64 | None = None  # no image above it can be in the sample

    def __len__(self) -> int:
        return min(self._held, self.size)

    def add(
        self,
        activations: Mapping[str, npt.NDArray[np.float32]],
        embeddings: npt.NDArray[np.float32],
        keys: npt.NDArray[np.int64],
    ) -> None:
        """Add a batch; one without images changes nothing.

        Args:
            activations: Site → ``(images, units)``, pooled.
            embeddings: ``(images, d)``.
            keys: ``(images,)`` int64, not negative; an image must not come twice.

        Raises:
            InputError: A site is missing or unknown, a shape or dtype is another, or a number of
                an image that enters the sample is NaN or infinite.
        """
        keys = checked_keys(keys, len(embeddings))
        if set(activations) != set(self.units):
            differing = sorted(set(activations) ^ set(self.units))
            raise InputError(f"a sample of sites {sorted(self.units)}: {differing} do not agree")
        lengths = {site: len(rows) for site, rows in activations.items()}
        if set(lengths.values()) != {len(keys)}:
            raise InputError(f"{len(keys)} images have keys, and activations: {lengths}")
        priorities = priority(keys)
        chosen = np.arange(len(keys))
        if self._limit is not None:
            chosen = chosen[priorities < self._limit]
        if len(chosen) > self.size:
            chosen = chosen[np.argsort(priorities[chosen])[: self.size]]
        if not len(chosen):
            return
        keys = keys[chosen]
        images = finite_embeddings(embeddings[chosen], keys, dim=self.dim)
        rows = {
            site: finite_activations(activations[site][chosen], keys, site=site, units=units)
            for site, units in self.units.items()
        }
        if self._held + len(keys) > 2 * self.size:
            self._compact()
        part = slice(self._held, self._held + len(keys))
        self._keys[part], self._priorities[part] = keys, priorities[chosen]
        self._embeddings[part] = images
        for site, values in rows.items():
            self._rows[site][part] = values
        self._held = part.stop

    def _compact(self) -> None:
        """Keep the sample alone, in its order."""
        order = np.argsort(self._priorities[: self._held])[: self.size]
        tables: list[npt.NDArray] = [self._keys, self._priorities, self._embeddings]
        for table in (*tables, *self._rows.values()):
            table[: len(order)] = table[order]
        self._held = len(order)
        if self._held == self.size:
            self._limit = self._priorities[self._held - 1]

    @property
    def keys(self) -> npt.NDArray[np.int64]:
        """``(images,)`` int64, lowest priority number first."""
        self._compact()
        return np.array(self._keys[: self._held])

    @property
    def embeddings(self) -> npt.NDArray[np.float32]:
        """``(images, d)`` float32, in the order of the keys."""
        self._compact()
        return np.array(self._embeddings[: self._held])

    def activations(self, site: str) -> npt.NDArray[np.float32]:
        """``(images, units)`` float32 of a site, in the order of the keys; not to be written."""
        self._compact()
        return self._rows[site][: self._held]

    def arrays(self) -> dict[str, npt.NDArray]:
        """Return copies: ``keys``, ``embeddings`` and one ``activations/SITE`` per site.

        Lowest priority number first: ``(images,)`` int64, ``(images, d)`` and ``(images, units)``
        float32, with at most ``size`` images.
        """
        self._compact()
        rows = {_name(site): table[: self._held].copy() for site, table in self._rows.items()}
        return {
            "keys": self._keys[: self._held].copy(),
            _EMBEDDINGS: self._embeddings[: self._held].copy(),
            **rows,
        }

    def merge(self, other: Sample) -> Sample:
        """Return the sample of the images of both, which must have none in common.

        Raises:
            InputError: The samples are not of one size and the same sites; it says what differs.
        """
        for field in ("size", "dim", "units"):
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                raise InputError(f"samples differ in {field}: {mine!r} and {theirs!r}")
        merged = Sample(self.size, self.dim, units=self.units)
        for each in (self, other):
            merged._add_arrays(each.arrays())
        return merged

    @classmethod
    def from_arrays(
        cls, size: int, dim: int, *, units: Mapping[str, int], arrays: Mapping[str, npt.NDArray]
    ) -> Sample:
        """Return the sample that :meth:`arrays` came from.

        Raises:
            UnreadableError: An array is missing, or has another shape or dtype.
        """
        sample = cls(size, dim, units=units)
        layout: Layout = {
            "keys": ((None,), np.int64),
            _EMBEDDINGS: ((None, dim), np.float32),
            **{_name(site): ((None, each), np.float32) for site, each in units.items()},
        }
        found = checked_arrays(arrays, layout, what="the sample")
        lengths = {name: len(array) for name, array in found.items()}
        if len(set(lengths.values())) != 1 or lengths["keys"] > size:
            raise UnreadableError(f"the sample of at most {size} images has arrays of {lengths}")
        try:
            sample._add_arrays(found)
        except InputError as error:
            raise UnreadableError(f"the sample is damaged: {error}") from error
        return sample

    def _add_arrays(self, arrays: Mapping[str, npt.NDArray]) -> None:
        rows = {site: arrays[_name(site)] for site in self.units}
        self.add(rows, arrays[_EMBEDDINGS], arrays["keys"])


def _name(site: str) -> str:
    return f"activations/{site}"
