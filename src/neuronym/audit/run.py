"""``audit``: does a model rely on what it should not?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from neuronym._version import __version__
from neuronym.audit.collect import Groups, Pass, groups_of, run_pass, units_of_sites
from neuronym.audit.concerns import Concern, concerns_of
from neuronym.audit.findings import Asked, faint_notes, findings_of
from neuronym.audit.matching import Matched, match_all
from neuronym.audit.options import AuditOptions
from neuronym.audit.removal import removals
from neuronym.errors import InputError
from neuronym.explain.select import class_index, select_sites
from neuronym.models import LoadedModel
from neuronym.models.base import check_made_from
from neuronym.probes import ProbeSet
from neuronym.results import Atlas, Audit, ConcernUnits, Finding
from neuronym.vision_text import VisionTextModel

__all__ = ["audit"]


def audit(
    model: LoadedModel,
    atlas: Atlas,
    probes: ProbeSet,
    *,
    vision_text: VisionTextModel,
    concerns: Sequence[str | Concern],
    sites: str | Sequence[str] | None = None,
    options: AuditOptions | None = None,
) -> Audit:
    """Say how much of each class's evidence flows through units that match each concern.

    The images are decoded three times: scored by the vision-text model, run through the model
    with contributions, and run through it once more for the removals. What is kept grows by 18
    bytes for each image and concern (12 more for each further site); no embedding and no
    activation is.

    Args:
        model: The model that the atlas was made from.
        atlas: With evidence (:class:`neuronym.results.Evidence`).
        probes: Images to audit, of the classes of the model; with labels where accuracy is to be
            measured. They should hold images with and without each concern.
        vision_text: The vision-text model that the atlas was made with.
        concerns: Texts, or concerns with example images.
        sites: Sites of the atlas, with wildcards; by default its last competitive site, else its
            last one. Contributions of different sites are never added: each is judged alone.
        options: Everything else.

    Raises:
        InputError: No concern or an empty one, a class that does not exist, concerns none of
            which any unit matches, a model or a vision-text model that the atlas was not made
            with, an atlas without evidence, a pattern that matches no site, or labels
            that are asked for and missing.
    """
    options = options or AuditOptions()
    asked = concerns_of(concerns)
    check_made_from(model, atlas.provenance, what="the atlas")
    wanted = frozenset(class_index(each, model.class_names) for each in options.classes)
    chosen = select_sites(atlas, sites)
    matched = match_all(atlas, vision_text, asked, chosen, options)
    if not any(each.units for each in matched):
        raise InputError(_nothing(matched))
    groups = groups_of(probes, vision_text, matched, options)
    seen = run_pass(model, probes, units_of_sites(atlas, chosen, matched), groups, options)
    names = [each.concern.name for each in matched]
    question = Asked(names, model.class_names, groups, options, wanted)
    findings = findings_of(seen, question)
    worst = _worst(findings, options)
    removed, impossible = removals(model, probes, worst[: options.removals], seen, question)
    return Audit(
        concerns=_concerns(matched, groups),
        findings=findings,
        removals=tuple(removed),
        level=options.level,
        notes=(
            *_notes(matched, seen, findings, options),
            *groups.notes,
            *faint_notes(seen, findings, question),
            *_not_removed(len(worst), options),
            *impossible,
        ),
        provenance=_provenance(model, atlas, probes, vision_text, seen, options),
    )


def _nothing(matched: Sequence[Matched]) -> str:
    names = ", ".join(repr(each.concern.name) for each in matched[:5])
    more = f" and {len(matched) - 5} more" if len(matched) > 5 else ""
    near = max(matched, key=lambda each: each.match.best.correlation).match
    return (
        f"no unit matches {names}{more}; that is no proof that the model does not rely on it. "
        f"Nearest: {near.nothing()}"
    )


def _worst(findings: Sequence[Finding], options: AuditOptions) -> list[str]:
    """Return the concerns with significant findings, the best ranked first."""
    found = dict.fromkeys(
        row.concern for row in findings if row.q_value is not None and row.q_value <= options.level
    )
    return list(found)


def _not_removed(significant: int, options: AuditOptions) -> list[str]:
    """Say whether concerns with significant findings were left in."""
    left = significant - options.removals
    if left <= 0 or not options.removals:
        return []
    tried = "only the concern with the best rank was"
    if options.removals > 1:
        tried = f"only the {options.removals} concerns with the best ranks were"
    return [f"{tried} to be removed; {left} more {'has' if left == 1 else 'have'} findings"]


def _concerns(matched: Sequence[Matched], groups: Groups) -> tuple[ConcernUnits, ...]:
    made = []
    for column, each in enumerate(matched):
        units = each.match.matching
        made.append(
            ConcernUnits(
                name=each.concern.name,
                text=each.concern.read_as,
                note=each.concern.note,
                units=tuple(unit.key for unit in units),
                correlations=tuple(unit.correlation for unit in units),
                images_with=int(groups.shows[:, column].sum()),
                images_without=int(groups.lacks[:, column].sum()),
                groups="given" if groups.given[column] else "score",
            )
        )
    return tuple(made)


def _notes(
    matched: Sequence[Matched],
    seen: Pass,
    findings: Sequence[Finding],
    options: AuditOptions,
) -> list[str]:
    """Say what was left out, and why."""
    notes = []
    if missing := [each.concern.name for each in matched if not each.units]:
        notes.append(
            f"no unit matches {', '.join(missing)}: this is no proof that the model does not rely "
            "on it; the vision-text model may not see it, or no single unit may carry it"
        )
    if not (seen.labels >= 0).any():
        notes.append("the images have no labels of the model's classes: accuracy is left out")
    few = sorted({row.class_name for row in findings if row.rank is None})
    if few:
        listed = ", ".join(few[:10]) + (f" and {len(few) - 10} more" if len(few) > 10 else "")
        notes.append(f"fewer than {options.min_images} images: {listed} not judged")
    if seen.skipped:
        images = "1 image" if seen.skipped == 1 else f"{seen.skipped} images"
        notes.append(f"{images} could not be read")
    largest = max(seen.completeness_error.items(), key=lambda item: item[1])
    if largest[1] > 1e-3:
        notes.append(
            f"contributions at site {largest[0]!r} leave up to {largest[1]:.2g} logits unexplained "
            "(completeness error)"
        )
    return notes


def _provenance(
    model: LoadedModel,
    atlas: Atlas,
    probes: ProbeSet,
    vision_text: VisionTextModel,
    seen: Pass,
    options: AuditOptions,
) -> dict[str, Any]:
    settings = asdict(replace(options, progress=None, groups={}))
    kept = {key: value for key, value in settings.items() if key not in ("progress", "groups")}
    return {
        "neuronym": __version__,
        "torch": torch.__version__,
        "model": {"spec": model.spec, "fingerprint": model.fingerprint},
        "atlas": None if atlas.folder is None else str(atlas.folder),
        "images": {
            "spec": probes.name,
            "fingerprint": probes.fingerprint,
            "seen": len(seen.targets),
            "skipped": seen.skipped,
        },
        "vision_text": {"spec": vision_text.name, "fingerprint": vision_text.fingerprint},
        "completeness_error": dict(seen.completeness_error),
        "options": {**kept, "classes": list(options.classes)},
        "groups_given": sorted(options.groups),
    }
