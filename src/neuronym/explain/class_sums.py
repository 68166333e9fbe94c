"""What every unit added to each class, over any number of images, in float64."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neuronym.errors import UnreadableError
from neuronym.explain.stream import ContributionBatch
from neuronym.files import atomic_path

__all__ = ["ClassSums", "UnitsOfClass"]

Floats = npt.NDArray[np.float64]
_MEAN, _SQUARES, _POSITIVE, _WINS = range(4)


@dataclass(frozen=True, eq=False)
class UnitsOfClass:
    """What the units of one site added to one class.

    Attributes:
        site: Name of the site.
        target: Index of the class.
        images: Number of images.
        mean: ``(units,)`` mean contribution to the class's logit.
        spread: ``(units,)`` standard deviation over the images (divided by n − 1), or ``None``
            for one image.
        share: ``(units,)`` part of the sum of positive contributions, or ``None`` without any.
        wins: ``(units,)`` share of the images in which the unit won somewhere.
    """

    site: str
    target: int
    images: int
    mean: Floats
    spread: Floats | None
    share: Floats | None
    wins: Floats


@dataclass
class ClassSums:
    """Grows batch by batch; its size depends on units and on the classes met, not on images.

    Attributes:
        units: Site → number of its units.
        images: Class → images whose target it was.
    """

    units: Mapping[str, int]
    images: dict[int, int] = field(default_factory=dict)
    _sums: dict[tuple[str, int], Floats] = field(default_factory=dict)  # (4, units) each

    def add(self, batch: ContributionBatch) -> None:
        """Add a batch; means and squares are joined as those of two samples."""
        for target in np.unique(batch.targets).tolist():
            chosen = batch.targets == target
            before, added = self.images.get(target, 0), int(chosen.sum())
            for name, site in batch.sites.items():
                sums = self._sums.setdefault((name, target), np.zeros((4, self.units[name])))
                values = site.contributions[chosen]
                mean = values.mean(0)
                change = mean - sums[_MEAN]
                sums[_MEAN] += change * (added / (before + added))
                sums[_SQUARES] += np.square(values - mean).sum(0)
                sums[_SQUARES] += np.square(change) * (before * added / (before + added))
                sums[_POSITIVE] += np.maximum(values, 0).sum(0)
                sums[_WINS] += site.won[chosen].sum(0)
            self.images[target] = before + added

    def rows(self) -> Iterator[UnitsOfClass]:
        """Yield what each class got from each site, by site and then by class."""
        for site in self.units:
            for target, images in sorted(self.images.items()):
                sums = self._sums[site, target]
                positive = float(sums[_POSITIVE].sum())
                yield UnitsOfClass(
                    site=site,
                    target=target,
                    images=images,
                    mean=sums[_MEAN],
                    spread=np.sqrt(sums[_SQUARES] / (images - 1)) if images > 1 else None,
                    share=sums[_POSITIVE] / positive if positive > 0 else None,
                    wins=sums[_WINS] / images,
                )

    def save(self, path: Path) -> None:
        """Write the sums to a file, atomically."""
        targets = sorted(self.images)
        arrays: dict[str, npt.NDArray[np.float64] | npt.NDArray[np.int64]] = {
            "targets": np.array(targets, np.int64),
            "images": np.array([self.images[target] for target in targets], np.int64),
        }
        for number, (site, units) in enumerate(self.units.items()):
            held = [self._sums[site, target] for target in targets]
            arrays[f"site{number}"] = np.stack(held) if held else np.zeros((0, 4, units))
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path, units: Mapping[str, int]) -> ClassSums:
        """Read what :meth:`save` wrote.

        Raises:
            UnreadableError: The file is missing, damaged, or of other sites.
        """
        found = cls(dict(units))
        try:
            with np.load(path, allow_pickle=False) as arrays:
                targets = arrays["targets"].tolist()
                found.images = dict(zip(targets, arrays["images"].tolist(), strict=True))
                for number, (site, count) in enumerate(units.items()):
                    held = arrays[f"site{number}"]
                    if held.shape != (len(targets), 4, count):
                        raise ValueError(f"sums of {site!r} have the shape {held.shape}")
                    for row, target in enumerate(targets):
                        found._sums[site, target] = held[row].copy()
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UnreadableError(f"the sums in {str(path)!r} are damaged: {error}") from error
        return found
