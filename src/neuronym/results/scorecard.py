"""The scorecard: measured quality, with what is needed to measure it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronym.errors import InputError, UnreadableError, nearest
from neuronym.files import read_record, write_json

__all__ = ["Metric", "Scorecard"]

KIND = "scorecard"
SCHEMA = 1


@dataclass(frozen=True)
class Metric:
    """One measured number.

    Attributes:
        name: What was measured, e.g. ``"units.right"``.
        value: The number.
        n: How many units, images or runs it comes from.
        interval: Lower and upper end of the 95 % interval, or ``None`` where none was computed.
        seed: Seed of whatever was random, or ``None``.
    """

    name: str
    value: float
    n: int
    interval: tuple[float, float] | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Scorecard:
    """Metrics of one evaluation and where they come from."""

    metrics: tuple[Metric, ...]
    provenance: Mapping[str, Any]

    def __getitem__(self, name: str) -> Metric:
        for metric in self.metrics:
            if metric.name == name:
                return metric
        known = [metric.name for metric in self.metrics]
        close = ", ".join(nearest(name, known) or known)
        raise InputError(f"scorecard has no metric {name!r}; nearest: {close}")

    def save(self, path: str | Path) -> None:
        """Write it as one JSON file."""
        write_json(path, {"kind": KIND, "schema": SCHEMA, **asdict(self)})

    @classmethod
    def load(cls, path: str | Path) -> Scorecard:
        """Read it back.

        Raises:
            MissingError: The file does not exist.
            UnreadableError: It is not a scorecard, or of a newer schema.
        """
        data = read_record(path, kind=KIND, schema=SCHEMA)
        try:
            metrics = []
            for row in data["metrics"]:
                interval = tuple(row["interval"]) if row["interval"] else None
                metrics.append(Metric(**{**row, "interval": interval}))
            return cls(tuple(metrics), data["provenance"])
        except (KeyError, TypeError) as error:
            raise UnreadableError(f"{str(path)!r} is not a whole scorecard: {error}") from error
