"""The sketch of one site: all that naming needs of its units, without their activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from neuronym.errors import DivisibilityError, InputError, UnreadableError
from neuronym.priority import priority
from neuronym.record.sketches.checks import (
    checked_arrays,
    checked_keys,
    finite_activations,
    finite_embeddings,
)
from neuronym.record.sketches.histogram import BUCKETS, quantiles, smallest
from neuronym.record.sketches.moments import add_products
from neuronym.spread import spread

if TYPE_CHECKING:
    from neuronym.record.sketches import kernel

__all__ = ["Counted", "SiteShape", "SiteSketch", "Won"]

_IMAGES = 256
"""Most images of one pass of the kernel, so that its tile stays in the nearest cache."""

_TOTALS = ("images", "active", "values")
_SUMMED = ("products", "sums", "squares", "fired", "histogram")
_COMPETING = ("won", "image_winners", "together")


@dataclass(frozen=True)
class SiteShape:
    """What a sketch is of; two sketches merge only where all of it agrees.

    Attributes:
        name: Of the site.
        units: K.
        dim: Dimensions d of the images' embeddings.
        competitors: U, units of a block; ``None`` at a dense site.
        top: The sketch answers for the ``top`` images of a unit; it keeps one more.

    Raises:
        InputError: A number is below 1.
        DivisibilityError: U does not divide K.
    """

    name: str
    units: int
    dim: int
    competitors: int | None = None
    top: int = 100

    def __post_init__(self) -> None:
        for field in ("units", "dim", "competitors", "top"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise InputError(f"{field} of site {self.name!r} must be at least 1, not {value}")
        if self.competitors is not None and self.units % self.competitors:
            raise DivisibilityError(
                f"{self.competitors} competitors do not divide the {self.units} units of site "
                f"{self.name!r}"
            )

    @property
    def layout(self) -> dict[str, tuple[tuple[int, ...], type]]:
        """Shape and dtype of every array of the sketch."""
        units, kept = (self.units,), (self.units, self.top + 1)
        layout: dict[str, tuple[tuple[int, ...], type]] = {
            **dict.fromkeys(_TOTALS, ((1,), np.int64)),
            "products": ((self.units, self.dim), np.float64),
            "sums": (units, np.float64),
            "squares": (units, np.float64),
            "minimum": (units, np.float32),
            "maximum": (units, np.float32),
            "at_minimum": (units, np.int64),
            "fired": (units, np.int64),
            "histogram": ((self.units, BUCKETS), np.int64),
            "top_values": (kept, np.float32),
            "top_keys": (kept, np.int64),
        }
        if self.competitors is not None:
            blocks = self.units // self.competitors
            layout["won"] = layout["image_winners"] = (units, np.int64)
            layout["together"] = ((blocks, self.competitors, self.competitors), np.int64)
        return layout


@dataclass(frozen=True)
class Won:
    """Who won in a batch.

    Attributes:
        positions: ``(units,)`` int64, positions that each unit won over the images of the batch.
        candidates: ``(images, units)`` bool, the units that may be image winners: those that won
            a position of the image or, where the site is pooled at a token, that token.
    """

    positions: npt.NDArray[np.int64]
    candidates: npt.NDArray[np.bool_]


class Counted(NamedTuple):
    """The top images of each unit, best first, and how many of them count.

    Attributes:
        keys: ``(units, top_k)`` int64.
        values: ``(units, top_k)`` float32, their activations.
        counts: ``(units,)`` int64.
    """

    keys: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]


class SiteSketch:
    """Counts, moments, top images and histograms of a site's units; it merges with its like.

    Whole numbers, extremes, top images and histograms do not depend on the order of the images
    or on how they were split; float64 sums do by their rounding, 1e-9 relative at most.

    Args:
        shape: What it is of.

    Attributes:
        shape: The same.
        images: Images added, N.
        active: Active entries over units, images and positions.
        values: All of them.
        products: ``QᵀI``, ``(units, d)`` float64, Q the pooled activations and I the embeddings.
        sums: ``Σq``, ``(units,)`` float64.
        squares: ``Σq²``, ``(units,)`` float64.
        minimum: ``(units,)`` float32, infinite before the first image; ``maximum`` likewise.
        maximum: ``(units,)`` float32.
        at_minimum: ``(units,)`` int64, images at the unit's minimum.
        fired: ``(units,)`` int64, images on which the pooled activation is above zero.
        histogram: ``(units, BUCKETS)`` int64, see :func:`.histogram.bucket_of`.
        won: ``(units,)`` int64, positions won; ``None`` at a dense site, and so the next two.
        image_winners: ``(units,)`` int64, images whose winner in its block the unit is: of the
            candidates the one with the largest pooled masked activation, the first of equals.
        together: ``(blocks, U, U)`` int64, images on which both competitors have a pooled
            activation above zero; its diagonal is ``fired``.
    """

    def __init__(self, shape: SiteShape) -> None:
        self.shape = shape
        self.images = self.active = self.values = 0
        tables: dict[str, npt.NDArray] = {
            name: np.zeros(size, dtype) for name, (size, dtype) in shape.layout.items()
        }
        self.products, self.sums, self.squares = (tables[name] for name in _SUMMED[:3])
        self.fired, self.histogram, self.at_minimum = (
            tables[name] for name in ("fired", "histogram", "at_minimum")
        )
        self.minimum, self.maximum = tables["minimum"], tables["maximum"]
        self.minimum[:], self.maximum[:] = np.inf, -np.inf
        self.won, self.image_winners, self.together = (tables.get(name) for name in _COMPETING)
        self._top_values, self._top_keys = tables["top_values"], tables["top_keys"]
        self._top_values[:], self._top_keys[:] = -np.inf, -1  # each row a heap, worst image first
        self._top_priorities = np.full(self._top_values.shape, 2**64 - 1, np.uint64)

    def add(
        self,
        activations: npt.NDArray[np.float32],
        embeddings: npt.NDArray[np.float32],
        keys: npt.NDArray[np.int64],
        *,
        won: Won | None = None,
        active: int = 0,
        values: int = 0,
    ) -> None:
        """Add a batch; one without images changes nothing, and neither does one that is refused.

        Args:
            activations: ``(images, units)``, pooled; what float32 makes of them counts.
            embeddings: ``(images, d)`` of the same images, likewise.
            keys: ``(images,)`` int64, not negative; an image must not come twice.
            won: Who won; needed where units compete, and only there.
            active: Active entries of the batch, see :class:`neuronym.activity.Activity`.
            values: All its entries.

        Raises:
            InputError: An activation or an embedding is NaN or infinite, or an argument has
                another shape or dtype.
        """
        shape = self.shape
        keys = checked_keys(keys, len(activations))
        rows = finite_activations(activations, keys, site=shape.name, units=shape.units)
        images = finite_embeddings(embeddings, keys, dim=shape.dim)
        if len(images) != len(rows):
            raise InputError(
                f"site {shape.name!r}: {len(rows)} images have activations and {len(images)} "
                f"embeddings"
            )
        self._check_won(won, len(rows))
        if not len(rows):
            return
        self.images += len(rows)
        self.active += int(active)
        self.values += int(values)
        for start in range(0, len(rows), _IMAGES):
            part = slice(start, start + _IMAGES)
            add_products(self.products, rows[part], images[part].astype(np.float64))
            self._count(rows[part], keys[part])
            if won is not None:
                self._compete(rows[part], won.candidates[part])
        if won is not None and self.won is not None:
            self.won += won.positions

    def _check_won(self, won: Won | None, images: int) -> None:
        name, units = self.shape.name, self.shape.units
        if (won is None) != (self.won is None):
            needs = "needs who won" if won is None else "is dense: it has no winners"
            raise InputError(f"site {name!r} {needs}")
        if won is None:
            return
        for field, shape, dtype in (
            ("positions", (units,), np.int64),
            ("candidates", (images, units), np.bool_),
        ):
            value = getattr(won, field)
            if value.shape != shape or value.dtype != dtype:
                raise InputError(
                    f"site {name!r}: {field} won must be {np.dtype(dtype)} of shape {shape}, not "
                    f"{value.dtype} of shape {value.shape}"
                )

    def _count(self, rows: npt.NDArray[np.float32], keys: npt.NDArray[np.int64]) -> None:
        from neuronym.record.sketches import kernel

        batch, tables = kernel.Rows(rows, priority(keys), keys), self._tables()
        spread(lambda start, stop: kernel.fill(batch, tables, start, stop), len(self.sums))

    def _compete(self, rows: npt.NDArray[np.float32], candidates: npt.NDArray[np.bool_]) -> None:
        from neuronym.record.sketches import kernel

        winners, together = self.image_winners, self.together
        if winners is None or together is None:
            return
        won = np.array(candidates, order="C")  # own and writable: one compiled kernel
        spread(
            lambda start, stop: kernel.compete(rows, won, winners, together, start, stop),
            len(together),
        )

    def _tables(self) -> kernel.Tables:
        from neuronym.record.sketches import kernel

        return kernel.Tables(
            self.sums,
            self.squares,
            self.minimum,
            self.maximum,
            self.at_minimum,
            self.fired,
            self.histogram,
            self._top_values,
            self._top_priorities,
            self._top_keys,
        )

    def _offer(self, keys: npt.NDArray[np.int64], values: npt.NDArray[np.float32]) -> None:
        """Offer each unit images of its own, ``(units, any)``; a key of −1 is no image."""
        from neuronym.record.sketches import kernel

        priorities = np.where(keys < 0, np.uint64(2**64 - 1), priority(keys))
        rows, tables = kernel.Rows(values, priorities, keys), self._tables()
        spread(lambda start, stop: kernel.insert(rows, tables, start, stop), len(keys))

    def top(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the images that activate each unit most, one more than ``shape.top``.

        Largest activation first, and among equals the lowest :func:`neuronym.priority.priority`.

        Returns:
            Keys int64 and values float32, ``(units, top + 1)`` both; where there were fewer
            images, the last keys are −1 and their values minus infinity.
        """
        from neuronym.record.sketches import kernel

        values, keys = self._top_values.copy(), self._top_keys.copy()
        ranks = self._top_priorities.copy()
        spread(lambda start, stop: kernel.order(values, ranks, keys, start, stop), len(keys))
        return keys, values

    def counted(self, top_k: int) -> Counted:
        """Return the top images of each unit and how many of them count.

        Images at a unit's lowest activation do not count where they tie across the cut: the zeros
        of a sparse unit say nothing. Of images that tie across the cut above the lowest
        activation, those of the lowest priority number count.

        Args:
            top_k: At most this many images per unit, from 1 to ``shape.top`` and to the images.

        Raises:
            InputError: ``top_k`` is not in that range.
        """
        most = min(self.shape.top, self.images)
        if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= most:
            raise InputError(
                f"top_k must be a whole number from 1 to {most}, not {top_k!r}: site "
                f"{self.shape.name!r} keeps the top {self.shape.top} of {self.images} images"
            )
        keys, values = self.top()
        if top_k < self.images:
            cut = values[:, top_k]
        else:
            cut = np.where(self.at_minimum > 1, self.minimum, np.float32(-np.inf))
        keys, values = keys[:, :top_k], values[:, :top_k]
        above = (values > cut[:, None]).sum(1)
        return Counted(keys, values, np.where(cut > self.minimum, top_k, above))

    def quantile(self, p: float) -> npt.NDArray[np.float64]:
        """Return the value of rank ``⌈p N⌉`` of each unit, ``(units,)``, within 1/16 of it.

        See :func:`.histogram.quantiles` for the exact bounds; the minimum and the maximum are
        exact.

        Raises:
            InputError: ``p`` is not from 0 to 1, or there is no image yet.
        """
        return quantiles(self.histogram, p, minimum=self.minimum, maximum=self.maximum)

    def smallest(self, count: int) -> npt.NDArray[np.float32]:
        """Return the ``count`` smallest activations of each unit, as :meth:`quantile` knows them.

        Returns:
            ``(units, count)`` float32, smallest first.
        """
        return smallest(self.histogram, count, minimum=self.minimum, maximum=self.maximum)

    def merge(self, other: SiteSketch) -> SiteSketch:
        """Return the sketch of the images of both, which must have none in common.

        Raises:
            InputError: The sketches are not of one shape; the text says what differs.
        """
        for field in fields(SiteShape):
            mine, theirs = (getattr(each.shape, field.name) for each in (self, other))
            if mine != theirs:
                raise InputError(f"sketches differ in {field.name}: {mine!r} and {theirs!r}")
        arrays = self.arrays()
        more = other.arrays()
        for name in (*_SUMMED, *(_COMPETING if self.won is not None else ()), *_TOTALS):
            arrays[name] += more[name]
        low = np.minimum(self.minimum, other.minimum)
        arrays["at_minimum"] = np.where(self.minimum == low, self.at_minimum, 0)
        arrays["at_minimum"] += np.where(other.minimum == low, other.at_minimum, 0)
        arrays["minimum"], arrays["maximum"] = low, np.maximum(self.maximum, other.maximum)
        merged = SiteSketch(self.shape)
        merged._take(arrays)
        merged._offer(more["top_keys"], more["top_values"])
        return merged

    def arrays(self) -> dict[str, npt.NDArray]:
        """Return copies of all that it holds, as ``shape.layout`` lists it; :meth:`top` sorted."""
        keys, values = self.top()
        arrays = {name: np.array([getattr(self, name)], np.int64) for name in _TOTALS}
        for name in self.shape.layout:
            if name not in (*_TOTALS, "top_keys", "top_values"):
                arrays[name] = getattr(self, name).copy()
        return {**arrays, "top_values": values, "top_keys": keys}

    @classmethod
    def from_arrays(cls, shape: SiteShape, arrays: Mapping[str, npt.NDArray]) -> SiteSketch:
        """Return the sketch that :meth:`arrays` came from.

        Raises:
            UnreadableError: An array is missing, has another shape or dtype, or the counts of
                images do not agree.
        """
        what = f"the sketch of site {shape.name!r}"
        found = checked_arrays(arrays, shape.layout, what=what)
        images = int(found["images"][0])
        kept = min(images, shape.top + 1)
        if images < 0 or (found["histogram"].sum(1) != images).any():
            raise UnreadableError(f"array 'histogram' of {what} is not of {images} images")
        if ((found["top_keys"] >= 0).sum(1) != kept).any():
            raise UnreadableError(f"array 'top_keys' of {what} has not {kept} images per unit")
        sketch = cls(shape)
        sketch._take(found)
        return sketch

    def _take(self, arrays: Mapping[str, npt.NDArray]) -> None:
        """Take arrays over, into an empty sketch."""
        self.images, self.active, self.values = (int(arrays[name][0]) for name in _TOTALS)
        for name in self.shape.layout:
            if name not in (*_TOTALS, "top_keys", "top_values"):
                setattr(self, name, arrays[name])
        self._offer(arrays["top_keys"], arrays["top_values"])
