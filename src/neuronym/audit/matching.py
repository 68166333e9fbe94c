"""Which units match a concern, by a text or by example images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neuronym.audit.concerns import Concern
from neuronym.audit.options import AuditOptions
from neuronym.embed import embed_batch
from neuronym.errors import InputError
from neuronym.probes import batches
from neuronym.results import Atlas, SiteInfo
from neuronym.search.chosen import evidence_of
from neuronym.search.text import (
    TextMatch,
    check_vision_text,
    match_directions,
    text_directions,
)
from neuronym.vision_text import VisionTextModel

__all__ = ["Matched", "match_all"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Matched:
    """A concern with its direction and the units that match it.

    Attributes:
        concern: The concern.
        direction: ``(dim,)``; an image's score is the dot product of its embedding with it.
        match: Every unit that was searched.
        units: Site → ``(matching,)`` int64 indices of the units that match, best first.
    """

    concern: Concern
    direction: Floats
    match: TextMatch
    units: Mapping[str, npt.NDArray[np.int64]]


def match_all(
    atlas: Atlas,
    vision_text: VisionTextModel,
    concerns: Sequence[Concern],
    sites: Sequence[SiteInfo],
    options: AuditOptions,
) -> list[Matched]:
    """Match every concern with the units of the sites; see :func:`neuronym.search.match_text`.

    The direction of a concern that is given by example images is Fisher's discriminant between
    them and the atlas's images, shrunk: ``(S + λ 1)⁻¹ (mean of the examples − mean of the
    images)``, S the covariance of the images' embeddings and λ its mean variance. That a text
    without a meaning does as well is asked of texts only.

    Raises:
        InputError: The atlas has no evidence, it was made with another vision-text model, or no
            example image of a concern is readable.
    """
    check_vision_text(atlas, vision_text, evidence_of(atlas))
    texts = [each.read_as for each in concerns]
    worded = [text for text in texts if text is not None]
    rows = iter(text_directions(atlas, vision_text, worded) if worded else ())
    directions = np.stack(
        [
            next(rows) if text is not None else _of_examples(atlas, vision_text, each, options)
            for text, each in zip(texts, concerns, strict=True)
        ]
    )
    matches: dict[int, TextMatch] = {}
    for rows_of, chance in (
        ([place for place, text in enumerate(texts) if text is not None], options.chance),
        ([place for place, text in enumerate(texts) if text is None], 1.0),
    ):
        if rows_of:  # the background is read once for all texts, and once for all examples
            found = match_directions(
                atlas,
                directions[rows_of],
                [concerns[place].name for place in rows_of],
                sites=[site.name for site in sites],
                level=options.match_level,
                specific=options.specific,
                chance=chance,
            )
            matches |= dict(zip(rows_of, found, strict=True))
    return [
        Matched(concern, directions[place], matches[place], _by_site(matches[place]))
        for place, concern in enumerate(concerns)
    ]


def _of_examples(
    atlas: Atlas, vision_text: VisionTextModel, concern: Concern, options: AuditOptions
) -> Floats:
    evidence = evidence_of(atlas)
    total, count = np.zeros(evidence.dim), 0
    if concern.examples is not None:
        with batches(
            concern.examples, batch_size=options.batch_size, workers=options.workers
        ) as stream:
            for batch in stream:
                total += embed_batch(vision_text, batch).astype(np.float64).sum(0)
                count += len(batch)
    if not count:
        raise InputError(f"no example image of concern {concern.name!r} can be read")
    covariance = evidence.covariance()
    shrunk = covariance + max(np.trace(covariance) / len(covariance), 1e-12) * np.eye(
        len(covariance)
    )
    direction = np.linalg.solve(shrunk, total / count - evidence.sums / evidence.count)
    return np.asarray(direction, np.float32)


def _by_site(match: TextMatch) -> dict[str, npt.NDArray[np.int64]]:
    found: dict[str, list[int]] = {}
    for unit in match.matching:
        found.setdefault(unit.site, []).append(unit.unit)
    return {site: np.array(units, np.int64) for site, units in found.items()}
