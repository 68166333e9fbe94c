"""Parts of the explanations of a data set: each is written whole, and survives a kill."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from neuronym.errors import NeuronymError
from neuronym.explain.class_sums import ClassSums
from neuronym.explain.stream import ContributionBatch
from neuronym.explain.tables import Names, Rows, image_table, ranked, winner_table
from neuronym.files import atomic_path, fingerprint_file, read_json, write_json
from neuronym.probes import Skipped
from neuronym.results import SiteInfo
from neuronym.results.explanations import IMAGE_ROWS, WINNER_ROWS, WINNERS

__all__ = ["PARTS", "Part", "Parts"]

PARTS = "parts"


@dataclass(frozen=True)
class Part:
    """A finished part.

    Attributes:
        images: Images that were explained.
        end: Images that were read, broken ones included.
        rows: Rows of winners.
        skipped: The broken images.
        files: File, relative to the folder → its fingerprint.
        sums: The sums of this part and all before it: name of the file and its fingerprint.
    """

    images: int
    end: int
    rows: int
    skipped: tuple[Skipped, ...]
    files: Mapping[str, str]
    sums: tuple[str, str]


class Parts:
    """The parts of one folder: a record per part is written after its files.

    Args:
        folder: Of the explanations.
        sites: What is explained.
        names: Of classes and units.
        most: Winners that are listed of each image and site; all where ``None``.
    """

    def __init__(
        self, folder: Path, sites: Sequence[SiteInfo], names: Names, *, most: int | None
    ) -> None:
        self._folder, self._sites, self._names, self._most = folder, tuple(sites), names, most
        self._units = {site.name: site.units for site in sites}

    def begin(self) -> tuple[int, ClassSums]:
        """Return how many parts the kept sums cover, and these sums; sweep unfinished files."""
        for place in (self._folder, self._folder / WINNERS, self._folder / PARTS):
            place.mkdir(exist_ok=True)
            for suffix in ("parquet", "npz", "json"):  # what a killed process left half-written
                for path in place.glob(f".*.{suffix}.*"):
                    path.unlink()
        covered = 0
        while self._record(covered) is not None:
            covered += 1
        for number in reversed(range(covered)):  # the sums are those of the last, unless damaged
            last = self._record(number)
            with contextlib.suppress(NeuronymError):
                if (
                    last is not None
                    and fingerprint_file(self._folder / last.sums[0]) == last.sums[1]
                ):
                    return number + 1, ClassSums.load(self._folder / last.sums[0], self._units)
        return 0, ClassSums(self._units)

    def whole(self, number: int) -> Part | None:
        """Return a part whose files are all there and undamaged, else ``None``."""
        part = self._record(number)
        if part is None:
            return None
        for name, expected in part.files.items():
            path = self._folder / name
            if not path.is_file() or fingerprint_file(path) != expected:
                return None
        return part

    def write(
        self,
        number: int,
        stream: Iterator[ContributionBatch],
        *,
        skipped: list[Skipped],
        sums: ClassSums | None,
    ) -> Part:
        """Write a part from its batches.

        Args:
            number: Of the part.
            stream: Its batches.
            skipped: Grows to the broken images while the stream is read.
            sums: Take the batches; ``None`` where those of this part were added before.
        """
        winners, images = self.winners(number), self.images(number)
        count = 0
        with (
            atomic_path(self._folder / winners) as first,
            atomic_path(self._folder / images) as second,
            Rows(first, WINNER_ROWS) as rows,
            Rows(second, IMAGE_ROWS) as about,
        ):
            for batch in stream:
                count += len(batch)
                self._add(batch, rows, about)
                if sums is not None:
                    sums.add(batch)
        if sums is None:
            kept = self._kept(number)
        else:
            sums.save(self._folder / self._sums(number))
            kept = self._sums(number), fingerprint_file(self._folder / self._sums(number))
        part = Part(
            images=count,
            end=count + len(skipped),
            rows=rows.count,
            skipped=tuple(skipped),
            files={name: fingerprint_file(self._folder / name) for name in (winners, images)},
            sums=kept,
        )
        write_json(self._folder / PARTS / f"{number:05d}.json", asdict(part))
        if sums is not None and number:
            (self._folder / self._sums(number - 1)).unlink(missing_ok=True)
        return part

    def _add(self, batch: ContributionBatch, rows: Rows, about: Rows) -> None:
        for site in self._sites:
            found = batch.sites[site.name]
            listed = ranked(found, self._most)
            rows.add(winner_table(batch, site, listed, self._names))
            about.add(image_table(batch, site, listed, self._names))

    def _kept(self, number: int) -> tuple[str, str]:
        """Return which sums cover a part that is written anew."""
        found = self._record(number)
        return (self._sums(number), "") if found is None else found.sums

    def _record(self, number: int) -> Part | None:
        try:
            record = read_json(self._folder / PARTS / f"{number:05d}.json")
            record["skipped"] = tuple(Skipped(**each) for each in record["skipped"])
            record["sums"] = tuple(record["sums"])
            return Part(**record)
        except (NeuronymError, KeyError, TypeError):
            return None

    @staticmethod
    def winners(number: int) -> str:
        """Return where a part's winners lie in the folder."""
        return f"{WINNERS}/part-{number:05d}.parquet"

    @staticmethod
    def images(number: int) -> str:
        """Return where a part's rows of images lie in the folder."""
        return f"{PARTS}/images-{number:05d}.parquet"

    @staticmethod
    def _sums(number: int) -> str:
        return f"{PARTS}/sums-{number:05d}.npz"
