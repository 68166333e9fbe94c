"""Units by a text: how well each fits it, whether that is chance, and whether it is special."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neuronym.concepts import ConceptSet
from neuronym.concepts.base import check_templates
from neuronym.embed import embed_concepts
from neuronym.errors import InputError
from neuronym.false_discovery import q_values
from neuronym.results import Atlas, Evidence, SiteInfo, Unit
from neuronym.search.background import compare
from neuronym.search.chosen import chosen_sites, evidence_of, listens
from neuronym.search.null import p_values, profile
from neuronym.vision_text import VisionTextModel

__all__ = [
    "TextMatch",
    "UnitMatch",
    "check_vision_text",
    "match_directions",
    "match_text",
    "match_texts",
    "text_directions",
]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class UnitMatch:
    """How one unit fits a text.

    Attributes:
        site, unit: The unit.
        name: Its name in the atlas, or ``None``.
        correlation: Of its pooled activation and the text's scores over the images, -1 to 1.
        p_value: How often the correlation is as large when the images are permuted.
        q_value: The smallest false-discovery rate over the units searched at which it counts.
        rank_among_words: Share of the background words that fit the unit at least as well.
        matches: Whether ``q_value`` and ``rank_among_words`` are small enough.
    """

    site: str
    unit: int
    name: str | None
    correlation: float
    p_value: float
    q_value: float
    rank_among_words: float
    matches: bool

    @property
    def key(self) -> str:
        """``"site/unit"``."""
        return f"{self.site}/{self.unit}"


@dataclass(frozen=True)
class TextMatch:
    """All units that were searched for one text.

    Attributes:
        text: The text.
        units: Those that match first, then by falling correlation.
        by_chance: Share of random directions among the words (texts without a meaning) whose best
            unit stands out at least as much as this text's best unit; 0 where the background has
            fewer than 10 words.
        level: Largest q-value of a match.
        specific: Largest share of other words that fit as well.
        chance: Largest ``by_chance`` of a text that anything matches.
        words: How many other words there are.
        images: How many images the correlations are over.
    """

    text: str
    units: tuple[UnitMatch, ...]
    by_chance: float
    level: float
    specific: float
    chance: float
    words: int
    images: int

    @property
    def matching(self) -> tuple[UnitMatch, ...]:
        """Units that match, best first."""
        return tuple(unit for unit in self.units if unit.matches)

    @property
    def best(self) -> UnitMatch:
        """The first unit, match or not."""
        return self.units[0]

    def nothing(self) -> str:
        """Say in one line that nothing matches, and what comes nearest."""
        best = self.best
        named = "" if best.name is None else f" ({best.name!r})"
        return (
            f"no unit fits {self.text!r} (of {len(self.units)} units): the best is {best.key}"
            f"{named} with correlation {best.correlation:.3f}, p {best.p_value:.2g}, q "
            f"{best.q_value:.2g} (at most {self.level:g} counts), and "
            f"{100 * best.rank_among_words:.3g} % of other words fit it as well (at most "
            f"{100 * self.specific:g} % counts); {100 * self.by_chance:.3g} % of texts without a "
            f"meaning find a unit as good (at most {100 * self.chance:g} % counts)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        made = asdict(self)
        return {**made, "units": list(made["units"])}


def match_text(
    atlas: Atlas,
    vision_text: VisionTextModel,
    text: str,
    *,
    sites: str | Sequence[str] | None = None,
    level: float = 0.05,
    specific: float = 0.01,
    chance: float = 0.05,
    templates: str | Sequence[str] | None = None,
) -> TextMatch:
    """Find the units that see what a text says.

    The correlation of each unit's pooled activation with the text's scores, over all images of
    the atlas, comes from moments: no image and no model of images is needed. With many images
    every tiny correlation is significant, and a unit may fit a whole field of words; a unit
    *matches* where its q-value is at most ``level`` and at most the share ``specific`` of the
    background, a sample of the atlas's concept set, fits it at least as well. Words that are
    embedded as the text is are left out of the background.

    Of K units, K × ``specific`` are so special for a random text too, and nonsense lies somewhere
    among the words as well. So a text as a whole must do better than texts without a meaning:
    ``max_k r z``, with z how many standard deviations r is above the unit's correlations with the
    background, is compared with that of 500 random directions that have the mean and covariance
    of the background; where more than the share ``chance`` of them reach it, nothing matches.

    Args:
        atlas: With evidence.
        vision_text: The model that the atlas was made with.
        text: A word or phrase.
        sites: Names of sites with wildcards; all by default.
        level: False-discovery rate over the units searched, above 0 and below 1.
        specific: From 0 (no other word fits better) to 1 (not asked for).
        chance: From 0 to 1 (not asked for).
        templates: Prompts, see :func:`neuronym.concepts.from_words`; by default the atlas's.

    Returns:
        All units searched, those that match first. Units that are constant, or that compete and
        are never above zero, have the p-value 1.

    Raises:
        InputError: The atlas has no evidence, it was made with another vision-text model, the
            text is empty, a pattern matches no site, or a number is out of range.
    """
    (match,) = match_texts(
        atlas,
        vision_text,
        [text],
        sites=sites,
        level=level,
        specific=specific,
        chance=chance,
        templates=templates,
    )
    return match


def match_texts(
    atlas: Atlas,
    vision_text: VisionTextModel,
    texts: Sequence[str],
    *,
    sites: str | Sequence[str] | None = None,
    level: float = 0.05,
    specific: float = 0.01,
    chance: float = 0.05,
    templates: str | Sequence[str] | None = None,
) -> list[TextMatch]:
    """As :func:`match_text` for several texts, each on its own; the background is read once."""
    _check(texts, level, specific=specific, chance=chance)
    chosen_sites(atlas, sites)  # a wrong pattern is told before texts are embedded
    directions = text_directions(atlas, vision_text, texts, templates=templates)
    return match_directions(
        atlas, directions, texts, sites=sites, level=level, specific=specific, chance=chance
    )


def text_directions(
    atlas: Atlas,
    vision_text: VisionTextModel,
    texts: Sequence[str],
    *,
    templates: str | Sequence[str] | None = None,
) -> npt.NDArray[np.float32]:
    """Embed texts as the atlas's concepts were: ``(texts, dim)``.

    Raises:
        InputError: The atlas has no evidence, or was made with another vision-text model.
    """
    check_vision_text(atlas, vision_text, evidence_of(atlas))
    asked = [" ".join(text.split()) for text in texts]
    made_with = templates or tuple(atlas.provenance.get("concepts", {}).get("templates", ("{}",)))
    query = ConceptSet("query", tuple(dict.fromkeys(asked)), check_templates(made_with))
    rows = embed_concepts(vision_text, query)
    return rows[[query.words.index(text) for text in asked]]


def match_directions(
    atlas: Atlas,
    directions: npt.NDArray[np.float32],
    names: Sequence[str],
    *,
    sites: str | Sequence[str] | None = None,
    level: float = 0.05,
    specific: float = 0.01,
    chance: float = 0.05,
) -> list[TextMatch]:
    """As :func:`match_texts` for directions of the vision-text space, such as from examples.

    Args:
        atlas: With evidence.
        directions: ``(names, dim)``; an image's score is the dot product of its embedding.
        names: What the results call them.
        sites, level, specific, chance: See :func:`match_text`.
    """
    chosen = chosen_sites(atlas, sites)
    evidence = evidence_of(atlas)
    units = [unit for site in chosen for unit in atlas.of_site(site.name)]
    heard = np.array([listens(unit) for unit in units])
    compared = compare(evidence, [site.name for site in chosen], directions, heard)
    matches = []
    for row, name in enumerate(names):
        correlation, share = compared.correlations[:, row], compared.shares[:, row]
        p = np.where(heard, _chances(evidence, chosen, directions[row], correlation), 1.0)
        table = _Table(correlation, p, _q(p, heard), np.where(heard, share, 1.0))
        told = compared.by_chance[row] <= chance
        matches.append(
            TextMatch(
                text=name,
                units=table.units(units, level, specific if told else -1.0),
                by_chance=float(compared.by_chance[row]),
                level=level,
                specific=specific,
                chance=chance,
                words=len(evidence.words),
                images=evidence.count,
            )
        )
    return matches


@dataclass(frozen=True, eq=False)
class _Table:
    correlation: Doubles
    p: Doubles
    q: Doubles
    share: Doubles

    def units(self, units: Sequence[Unit], level: float, specific: float) -> tuple[UnitMatch, ...]:
        matches = (self.q <= level) & (self.share <= specific) & (self.correlation > 0)
        order = np.lexsort([-self.correlation, ~matches])
        return tuple(
            UnitMatch(
                site=units[index].site,
                unit=units[index].unit,
                name=units[index].name,
                correlation=float(self.correlation[index]),
                p_value=float(self.p[index]),
                q_value=float(self.q[index]),
                rank_among_words=float(self.share[index]),
                matches=bool(matches[index]),
            )
            for index in order
        )


def _chances(
    evidence: Evidence, sites: Sequence[SiteInfo], vector: npt.NDArray[np.float32], found: Doubles
) -> Doubles:
    """p-value of every unit of the sites, in order."""
    parts, start = [], 0
    for site in sites:
        parts.append(_chance(evidence, site.name, vector, found[start : start + site.units]))
        start += site.units
    return np.concatenate(parts)


def _chance(
    evidence: Evidence, site: str, vector: npt.NDArray[np.float32], found: Doubles
) -> Doubles:
    each, deviation = evidence.site(site), evidence.deviation(site)
    p = np.ones(len(found))
    varies = np.flatnonzero(deviation > 0)
    extremes = np.concatenate([each.largest, each.smallest], axis=1)[varies]
    shape = profile(extremes, evidence.mean(site)[varies], deviation[varies], images=evidence.count)
    scores = evidence.sample.astype(np.float64) @ vector.astype(np.float64)
    p[varies] = p_values(found[varies], shape, scores)
    return p


def _q(p: Doubles, heard: npt.NDArray[np.bool_]) -> Doubles:
    q = np.ones(len(p))
    q[heard] = q_values(p[heard])
    return q


def check_vision_text(atlas: Atlas, vision_text: VisionTextModel, evidence: Evidence) -> None:
    """Check that texts are embedded by the model that embedded the images.

    Raises:
        InputError: It is another model.
    """
    made_with = atlas.provenance.get("vision_text", {})
    expected = made_with.get("fingerprint")
    if expected not in (None, vision_text.fingerprint) or vision_text.dim != evidence.dim:
        raise InputError(
            f"the atlas was made with the vision-text model {made_with.get('spec')!r} ({expected}, "
            f"{evidence.dim} dimensions), not with {vision_text.name!r} "
            f"({vision_text.fingerprint}, {vision_text.dim} dimensions)"
        )


def _check(texts: Sequence[str], level: float, **shares: float) -> None:
    if isinstance(texts, str) or not texts:
        raise InputError(f"texts must be a list of at least one text, not {texts!r}")
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"a text to search for must be a word or phrase, not {text!r}")
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1:
        raise InputError(f"level must be above 0 and below 1, not {level!r}")
    for name, share in shares.items():
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not number or not 0 <= share <= 1:
            raise InputError(f"{name} must be a number from 0 to 1, not {share!r}")
