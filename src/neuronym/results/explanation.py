"""The explanation: the saved result for one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuronym.errors import InputError, UnreadableError
from neuronym.files import read_record, write_json
from neuronym.results.sentence import sentence

__all__ = ["ClassScore", "Explanation", "Place", "RunnerUp", "SampleSummary", "Winner"]

KIND = "explanation"
SCHEMA = 3  # 1 had no samples; 2 no rival class, significance, runner-ups, effects and places


@dataclass(frozen=True)
class ClassScore:
    """A class with its logit and its probability (softmax of the logits, 0 to 1)."""

    index: int
    name: str
    logit: float
    probability: float


@dataclass(frozen=True)
class RunnerUp:
    """Who stands next in line for the positions that a winner won, and what that would change.

    Attributes:
        unit: The competitor that has the second largest response at most of these positions.
        name: From the atlas; ``None`` for a unit without a name.
        share: Share of these positions at which it is second, above 0 to 1.
        response: Its response (what it would pass), summed over the positions where it is second.
        change: Change of what is explained, in logits, had the second won at every position that
            the winner won: ``Σ_p gradient[r(p), p]·z[r(p), p] − gradient[w, p]·z[w, p]`` with r(p)
            the second at p. Exact where the path from site to logit is linear with winners fixed,
            elsewhere a linear estimate.
    """

    unit: int
    name: str | None
    share: float
    response: float
    change: float


@dataclass(frozen=True)
class Place:
    """Where in the image a winner's masked activation is largest in size.

    The box is the position's cell of the map, in fractions of what the network saw (0 is its left
    or top edge, 1 its right or bottom one). What a unit of a late layer looks at reaches beyond
    its cell.

    Attributes:
        box: Left, top, right and bottom.
        centre: Across and down.
        activation, contribution: Of this position alone.
    """

    box: tuple[float, float, float, float]
    centre: tuple[float, float]
    activation: float
    contribution: float


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
        p_value, q_value: Of its name, from the atlas; ``None`` where it was not tested.
        unnamed: Why it has no name, from the atlas (see :data:`neuronym.results.UNNAMED`).
        candidate: For an unnamed unit the concept that would fit best, where the atlas has one.
        runner_up: Next in line; ``None`` at a dense site.
        effect_silenced: Change of what is explained, in logits, when the network ran again with
            the unit silenced: where it won, its block passed nothing. ``None`` where not run.
        effect_handed_over: The same when it could not win, so that its block's runner-ups passed
            instead; ``None`` where not run, at a dense site, and where no rival of it could win.
        place: Where it is strongest; ``None`` where there is no map (see ``Explanation.no_map``).
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
    p_value: float | None = None
    q_value: float | None = None
    unnamed: str | None = None
    candidate: str | None = None
    runner_up: RunnerUp | None = None
    effect_silenced: float | None = None
    effect_handed_over: float | None = None
    place: Place | None = None


@dataclass(frozen=True)
class SampleSummary:
    """What random winners, drawn in every layer, say about the explained class.

    Attributes:
        samples, seed: How many draws, and their seed.
        probability_mean, probability_spread: Of the class, over the samples (standard deviation
            divided by S − 1).
        logit_mean, logit_spread: The same of its logit, or of the difference that is explained.
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
    """Why one image got one logit, or prefers one class to another, by the winners of one site.

    Attributes:
        image: Where the image came from.
        site: Name of the site.
        target: The class that is explained (by default the predicted one).
        predictions: The most probable classes, best first.
        winners: The winners only, largest absolute contribution first.
        baseline: What is explained, with the site's output set to zero.
        completeness_error: ``explained - baseline - sum of contributions``, in logits: zero up
            to rounding where the path from site to logit is linear with winners fixed.
        competitive: Whether the site competes (else every unit that fired is listed).
        provenance: SPEC and fingerprint of the model, the pooling, versions.
        sampled: The uncertainty from random winners, where it was asked for.
        against: Where given, the target's logit minus the logit of this class is explained.
        grid: Rows and columns of the site's map; ``None`` where it has none.
        no_map: Why it has none.
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
    against: ClassScore | None = None
    grid: tuple[int, int] | None = None
    no_map: str | None = None

    @property
    def explained(self) -> float:
        """The target's logit, or how far it lies above the one of ``against``."""
        return self.target.logit - (0.0 if self.against is None else self.against.logit)

    @property
    def support(self) -> float:
        """Sum of the contributions above zero, in logits."""
        return sum(max(winner.contribution, 0.0) for winner in self.winners)

    @property
    def opposition(self) -> float:
        """Sum of the contributions below zero, in logits."""
        return sum(min(winner.contribution, 0.0) for winner in self.winners)

    def sentence(self, most: int = 3) -> str:
        """Say it in plain words; every number is one of the winners', or their sum.

        See :func:`neuronym.results.sentence.sentence`.

        Args:
            most: Names in favour at most.

        Raises:
            InputError: ``most`` is below 1.
        """
        if most < 1:
            raise InputError(f"most must be at least 1, not {most}")
        return sentence(self, most=most)

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
            fields["winners"] = tuple(_winner(row) for row in data["winners"])
            if fields.get("sampled") is not None:
                fields["sampled"] = SampleSummary(**data["sampled"])
            if fields.get("against") is not None:
                fields["against"] = ClassScore(**data["against"])
            if fields.get("grid") is not None:
                fields["grid"] = tuple(data["grid"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise UnreadableError(f"{str(path)!r} is not a whole explanation: {error}") from error


def _winner(row: Mapping[str, Any]) -> Winner:
    fields = dict(row)
    if fields.get("runner_up") is not None:
        fields["runner_up"] = RunnerUp(**fields["runner_up"])
    if (place := fields.get("place")) is not None:
        fields["place"] = Place(
            **{**place, "box": tuple(place["box"]), "centre": tuple(place["centre"])}
        )
    return Winner(**fields)
