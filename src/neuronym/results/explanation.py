"""The explanation: the saved result for one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronym.errors import UnreadableError
from neuronym.files import read_record, write_json

__all__ = ["ClassScore", "Explanation", "SampleSummary", "Winner"]

KIND = "explanation"
SCHEMA = 2  # 1 had no samples


@dataclass(frozen=True)
class ClassScore:
    """A class with its logit and its probability (softmax of the logits, 0 to 1)."""

    index: int
    name: str
    logit: float
    probability: float


@dataclass(frozen=True)
class Winner:
    """A unit that passed something on this image, and what it did to the logit.

    Attributes:
        unit, block: Indices from 0; ``block`` is ``None`` for a dense site.
        name, score: From the atlas; ``None`` for a unit without a name.
        activation: Its masked activation, summed over the positions it won.
        contribution: Signed share of the logit, in logits, summed over positions.
        image_winner: Whether it is its block's winner for the whole image: of the competitors
            that won at least one position, the one with the largest pooled masked activation.
            Always true at a dense site and where there is one position.
        win_rate: Share of positions that it won on this image, 0 to 1.
        win_rate_usual: The same over the probe set, from the atlas.
        sample_wins: Where winners were sampled too: share of the samples in which it won at least
            one position, 0 to 1.
        sample_win_rate: Share of positions that it won, averaged over the samples.
        contribution_mean, contribution_spread: Mean and standard deviation of its contribution
            over the samples, in logits; zero counts for a sample in which it won nowhere.
    """

    unit: int
    block: int | None
    name: str | None
    score: float | None
    activation: float
    contribution: float
    image_winner: bool = True
    win_rate: float | None = None
    win_rate_usual: float | None = None
    sample_wins: float | None = None
    sample_win_rate: float | None = None
    contribution_mean: float | None = None
    contribution_spread: float | None = None


@dataclass(frozen=True)
class SampleSummary:
    """What random winners, drawn in every layer, say about the explained class.

    Attributes:
        samples, seed: How many draws, and their seed.
        probability_mean, probability_spread: Of the class, over the samples (standard deviation
            divided by S − 1).
        logit_mean, logit_spread: The same of its logit.
        predicted: Share of the samples in which it was the most probable class, 0 to 1.
    """

    samples: int
    seed: int
    probability_mean: float
    probability_spread: float
    logit_mean: float
    logit_spread: float
    predicted: float


@dataclass(frozen=True)
class Explanation:
    """Why one image got one logit, by the winners of one site.

    Attributes:
        image: Where the image came from.
        site: Name of the site.
        target: The class that is explained (by default the predicted one).
        predictions: The most probable classes, best first.
        winners: The winners only, largest absolute contribution first.
        baseline: The target's logit with the site's output set to zero.
        completeness_error: ``target.logit - baseline - sum of contributions``, in logits: zero up
            to rounding where the path from site to logit is linear with winners fixed.
        competitive: Whether the site competes (else every unit that fired is listed).
        provenance: SPEC and fingerprint of the model, the pooling, versions.
        sampled: The uncertainty from random winners, where it was asked for.
    """

    image: str
    site: str
    target: ClassScore
    predictions: tuple[ClassScore, ...]
    winners: tuple[Winner, ...]
    baseline: float
    completeness_error: float
    competitive: bool
    provenance: Mapping[str, Any]
    sampled: SampleSummary | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"kind": KIND, "schema": SCHEMA, **asdict(self)}

    def save(self, path: str | Path) -> None:
        """Write it as one JSON file."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Explanation:
        """Read it back.

        Raises:
            MissingError: The file does not exist.
            UnreadableError: It is not an explanation, or of a newer schema.
        """
        data = read_record(path, kind=KIND, schema=SCHEMA)
        try:
            fields = {key: data[key] for key in data if key not in ("kind", "schema")}
            fields["target"] = ClassScore(**data["target"])
            fields["predictions"] = tuple(ClassScore(**row) for row in data["predictions"])
            fields["winners"] = tuple(Winner(**row) for row in data["winners"])
            if fields.get("sampled") is not None:
                fields["sampled"] = SampleSummary(**data["sampled"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise UnreadableError(f"{str(path)!r} is not a whole explanation: {error}") from error
