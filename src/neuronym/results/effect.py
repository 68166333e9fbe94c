"""The effect of an edit: what it did to single predictions, and to accuracy over a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronym.errors import UnreadableError
from neuronym.files import read_record, write_json

__all__ = ["AccuracyChange", "ClassChange", "EffectReport", "Flip", "ImageEffect"]

KIND = "effect"
SCHEMA = 1


@dataclass(frozen=True)
class ClassChange:
    """Logit and probability (softmax, 0 to 1) of one class, before and after."""

    index: int
    name: str
    logit_before: float
    logit_after: float
    probability_before: float
    probability_after: float


@dataclass(frozen=True)
class ImageEffect:
    """What an edit did to one prediction.

    Attributes:
        id: Of the image, or where it came from.
        label: Name of its true class, ``None`` where nobody knows it.
        before, after: Name of the predicted class.
        shift: Half the sum of the absolute changes of all classes' probabilities, 0 to 1.
        classes: The classes that are or were most probable, those most probable before first;
            both predicted classes are among them.
    """

    id: str
    label: str | None
    before: str
    after: str
    shift: float
    classes: tuple[ClassChange, ...]

    @property
    def flipped(self) -> bool:
        """Whether another class is predicted."""
        return self.before != self.after


@dataclass(frozen=True)
class AccuracyChange:
    """Accuracy on the same images before and after.

    Attributes:
        name: Of the class, or ``"all"``.
        images: n, images with this label.
        before, after: Accuracy, 0 to 1.
        difference: ``after - before``.
        interval: Of the difference, 95 %, paired (Agresti and Min 2005: half an image is added
            to each cell of the table of right and wrong before and after).
        gained, lost: Images that became right, and that became wrong.
        p_value: Exact McNemar test that gains and losses are equally likely.
    """

    name: str
    images: int
    before: float
    after: float
    difference: float
    interval: tuple[float, float]
    gained: int
    lost: int
    p_value: float


@dataclass(frozen=True)
class Flip:
    """How many predictions went from one class to another."""

    before: str
    after: str
    images: int


@dataclass(frozen=True)
class EffectReport:
    """What an edit does.

    Attributes:
        edit: The edit, as it is saved.
        images: Images seen.
        skipped: Id of each broken image → why it was left out.
        flips: Predictions that changed, most frequent first.
        mean_shift: Mean of the images' ``shift``.
        accuracy: Over all images with a label that is a class of the model; ``None`` without any.
        per_class: The same per class, in the order of the classes; classes without images are
            left out.
        shown: Effects on single images: all that were given one by one, or those of a data set
            with the largest shift, largest first.
        provenance: SPEC and fingerprint of the model and of the images, versions.
    """

    edit: Mapping[str, Any]
    images: int
    skipped: Mapping[str, str]
    flips: tuple[Flip, ...]
    mean_shift: float
    accuracy: AccuracyChange | None
    per_class: tuple[AccuracyChange, ...]
    shown: tuple[ImageEffect, ...]
    provenance: Mapping[str, Any]

    @property
    def flipped(self) -> int:
        """Predictions that changed."""
        return sum(flip.images for flip in self.flips)

    def of_class(self, name: str) -> AccuracyChange | None:
        """Return the change of one class's accuracy, ``None`` where no image has it."""
        return next((row for row in self.per_class if row.name == name), None)

    def rows(self) -> list[dict[str, Any]]:
        """Return the accuracies as flat rows (all classes first), for a table or a data frame."""
        changes = ([self.accuracy] if self.accuracy is not None else []) + list(self.per_class)
        rows = []
        for change in changes:
            row = asdict(change)
            row["lower"], row["upper"] = row.pop("interval")
            rows.append(row)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"kind": KIND, "schema": SCHEMA, **asdict(self)}

    def save(self, path: str | Path) -> None:
        """Write it as one JSON file."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> EffectReport:
        """Read it back.

        Raises:
            MissingError: The file does not exist.
            UnreadableError: It is not an effect, or of a newer schema.
        """
        data = read_record(path, kind=KIND, schema=SCHEMA)
        try:
            fields = {key: data[key] for key in data if key not in ("kind", "schema")}
            fields["flips"] = tuple(Flip(**row) for row in data["flips"])
            if data["accuracy"] is not None:
                fields["accuracy"] = _accuracy(data["accuracy"])
            fields["per_class"] = tuple(_accuracy(row) for row in data["per_class"])
            fields["shown"] = tuple(_image(row) for row in data["shown"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise UnreadableError(f"{str(path)!r} is not a whole effect: {error}") from error


def _accuracy(row: Mapping[str, Any]) -> AccuracyChange:
    low, high = row["interval"]
    return AccuracyChange(**{**row, "interval": (low, high)})


def _image(row: Mapping[str, Any]) -> ImageEffect:
    return ImageEffect(**{**row, "classes": tuple(ClassChange(**each) for each in row["classes"])})
