"""What the page shows of one explanation: its sentence, its chart and the check of its sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuronym.report.figures import Bar
from neuronym.report.options import ExplainedImage, ReportOptions
from neuronym.report.pictures import Picture, PictureFolder
from neuronym.results import Atlas, Explanation, Winner
from neuronym.results.numbers import fixed, number, percent, signed
from neuronym.results.sentence import Part, decimals, named, parts, unit_name

__all__ = ["Article", "Row", "Term", "make_article"]

_TOLERANCE = 1e-4  # of the largest term: more than rounding in 32 bits leaves


@dataclass(frozen=True)
class Row:
    """One unit, or all the units that have no row of their own, in a contribution chart.

    Attributes:
        name, unit, link: What it is, and the address of its neuron where the atlas has it.
        won, usual: Share of positions it won here, and over the probe set, as text.
        value: Its contribution as text.
        start, length: Where its bar starts and how long it is, as shares of the chart's width.
        positive: Whether it speaks for the class.
        rest: How many units the row stands for, 0 for a single unit.
    """

    name: str
    unit: int | None
    link: str | None
    activation: str
    won: str
    usual: str
    value: str
    start: float
    length: float
    positive: bool
    rest: int = 0


@dataclass(frozen=True)
class Term:
    """A term of the sum that gives the logit."""

    label: str
    value: str


@dataclass(frozen=True)
class Article:
    """Everything that the page shows of one explained image."""

    title: str
    image: str
    label: str | None
    foreign: bool
    picture: Picture | None
    site: str
    competitive: bool
    sentence: tuple[Part, ...]
    links: dict[int, str]
    predictions: tuple[Bar, ...]
    rows: tuple[Row, ...]
    axis: float
    positions: bool
    terms: tuple[Term, ...]
    logit: Term
    error: str
    exact: bool
    mismatch: str | None


def make_article(
    item: ExplainedImage, *, atlas: Atlas, pictures: PictureFolder, options: ReportOptions
) -> Article:
    """Prepare one explanation; the picture is copied into the report."""
    explanation = item.explanation
    links = _links(explanation, atlas)
    rows, axis = _chart(explanation, links, count=options.winners)
    places = decimals(explanation)
    total = sum(winner.contribution for winner in explanation.winners)
    explained = explanation.explained
    off = explained - explanation.baseline - total - explanation.completeness_error
    scale = max(1.0, abs(explained), abs(explanation.baseline), abs(total))
    predicted = explanation.predictions[0] if explanation.predictions else explanation.target
    return Article(
        title=predicted.name,
        image=explanation.image,
        label=item.label,
        foreign=_is_foreign(explanation, atlas),
        picture=_picture(item, atlas=atlas, pictures=pictures, options=options),
        site=explanation.site,
        competitive=explanation.competitive,
        sentence=parts(explanation),
        links=links,
        predictions=_probabilities(explanation),
        rows=rows,
        axis=axis,
        positions=any(
            winner.win_rate is not None and winner.win_rate < 1 for winner in explanation.winners
        ),
        terms=(
            Term("logit without the site", fixed(explanation.baseline, places)),
            Term(
                f"sum of all contributions ({signed(explanation.support, places)} and "
                f"{signed(explanation.opposition, places)})",
                signed(total, places),
            ),
            Term("completeness error", signed(explanation.completeness_error, places)),
        ),
        logit=Term(_what(explanation), fixed(explained, places)),
        error=number(abs(explanation.completeness_error), 2),
        exact=abs(explanation.completeness_error) <= _TOLERANCE * scale,
        mismatch=None if abs(off) <= _TOLERANCE * scale else signed(off, places),
    )


def _what(explanation: Explanation) -> str:
    """Say what the terms add up to."""
    rival = explanation.against
    minus = "" if rival is None else f" minus logit of {rival.name}"
    return f"logit of {explanation.target.name}{minus}"


def _links(explanation: Explanation, atlas: Atlas) -> dict[int, str]:
    known_site = explanation.site in {site.name for site in atlas.sites}
    if not known_site or _is_foreign(explanation, atlas):
        return {}
    known = {unit.unit for unit in atlas.of_site(explanation.site)}
    return {
        winner.unit: f"{explanation.site}/{winner.unit}"
        for winner in explanation.winners
        if winner.unit in known
    }


def _is_foreign(explanation: Explanation, atlas: Atlas) -> bool:
    """Whether fingerprints say that explanation and atlas come from different models."""
    found = []
    for provenance in (explanation.provenance, atlas.provenance):
        model = provenance.get("model")
        found.append(model.get("fingerprint") if isinstance(model, Mapping) else None)
    return None not in found and found[0] != found[1]


def _probabilities(explanation: Explanation) -> tuple[Bar, ...]:
    return tuple(
        Bar(
            score.name,
            percent(score.probability),
            min(max(score.probability, 0.0), 1.0),
            strong=score.index == explanation.target.index,
        )
        for score in explanation.predictions[:5]
    )


def _chosen(explanation: Explanation, count: int) -> tuple[list[Winner], list[Winner]]:
    """Split winners into those with a row of their own and the rest, largest first.

    The units that the sentence names always have a row, and no rest hides a single unit.
    """
    ranked = sorted(explanation.winners, key=lambda winner: -abs(winner.contribution))
    favour, against = named(explanation)
    must = {winner.unit for winner in (*favour, *against)}
    others = [winner.unit for winner in ranked if winner.unit not in must]
    shown = must | set(others[: max(count - len(must), 0)])
    if len(ranked) - len(shown) == 1:
        return ranked, []
    return (
        [winner for winner in ranked if winner.unit in shown],
        [winner for winner in ranked if winner.unit not in shown],
    )


def _chart(
    explanation: Explanation, links: dict[int, str], *, count: int
) -> tuple[tuple[Row, ...], float]:
    """Return the rows and where zero lies, as a share of the chart's width."""
    shown, rest = _chosen(explanation, count)
    places = decimals(explanation)
    values = [winner.contribution for winner in shown]
    high = max((value for value in values if value > 0), default=0.0)
    low = -min((value for value in values if value < 0), default=0.0)
    width = (high + low) or 1.0
    axis = low / width

    def bar(value: float) -> tuple[float, float]:
        length = abs(value) / width
        return (axis if value >= 0 else axis - length), length

    rows = [_row(winner, links, places, bar(winner.contribution)) for winner in shown]
    if rest:
        rows.append(_rest_row(rest, places))
    return tuple(rows), axis


def _rest_row(rest: Sequence[Winner], places: int) -> Row:
    """Sum the other units; without a bar, which would dwarf those of single units."""
    gain = sum(winner.contribution for winner in rest if winner.contribution > 0)
    loss = sum(winner.contribution for winner in rest if winner.contribution < 0)
    return Row(
        name=f"{len(rest):,} other units ({signed(gain, places)} and {signed(loss, places)})",
        unit=None,
        link=None,
        activation="",
        won="",
        usual="",
        value=signed(gain + loss, places),
        start=0.0,
        length=0.0,
        positive=gain + loss >= 0,
        rest=len(rest),
    )


def _row(winner: Winner, links: dict[int, str], places: int, bar: tuple[float, float]) -> Row:
    return Row(
        name=unit_name(winner),
        unit=winner.unit,
        link=links.get(winner.unit),
        activation=number(winner.activation),
        won="" if winner.win_rate is None else percent(winner.win_rate),
        usual="" if winner.win_rate_usual is None else percent(winner.win_rate_usual),
        value=signed(winner.contribution, places),
        start=bar[0],
        length=bar[1],
        positive=winner.contribution >= 0,
    )


def _picture(
    item: ExplainedImage, *, atlas: Atlas, pictures: PictureFolder, options: ReportOptions
) -> Picture | None:
    if item.image is not None:
        return pictures.explained(item.image, size=options.image_size)
    image = atlas.images.get(item.explanation.image)
    if image is None:
        return pictures.named(item.explanation.image, size=options.image_size)
    if image.thumbnail is None or atlas.folder is None:
        return None
    return pictures.thumbnail(atlas.folder, image.thumbnail, size=options.thumbnail_size)
