"""``name_run``: names from a recorded run, without running a model on images again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from neuronym.concepts import ConceptSet
from neuronym.devices import checked_device
from neuronym.dissect.better import NamingContext, with_longer_names
from neuronym.dissect.evidence import (
    Comparison,
    Rows,
    check_top,
    evidence_of,
    needs_activations,
    rows_of,
)
from neuronym.dissect.kept_evidence import atlas_evidence
from neuronym.dissect.kept_runs import kept_folder
from neuronym.dissect.naming import centred, label_masks, name_units, resolved_keywords
from neuronym.dissect.options import DissectOptions
from neuronym.dissect.pictures import shown_images
from neuronym.dissect.progress import noted, timed
from neuronym.dissect.provenance import provenance
from neuronym.embed import EmbedOptions, embed_concepts
from neuronym.errors import InputError
from neuronym.files import claim_folder
from neuronym.probes import PIECE_LENGTH, Pieces, ProbeSet, pieces_of
from neuronym.record.runs import Run
from neuronym.results import Atlas, SiteInfo, Unit
from neuronym.similarity import Similarity, checked_keywords
from neuronym.vision_text import VisionTextModel

__all__ = ["KIND", "name_run"]

KIND = "atlas"


def name_run(
    run: Run,
    concepts: ConceptSet,
    vision_text: VisionTextModel,
    *,
    similarity: str | Similarity = "soft_wpmi",
    out: str | Path | None = None,
    images: ProbeSet | Pieces | None = None,
    options: DissectOptions | None = None,
    seconds: dict[str, float] | None = None,
) -> Atlas:
    """Name every unit of a recorded run by the concept that fits its activations best.

    Cosine reads the moments, WPMI and SoftWPMI the top images of each unit: exact for all images
    of the run. Every other similarity reads activations: those that the run kept, else those of
    its sample; the provenance says which. Concept scores are dot products of the vision-text
    model's embeddings, centred per concept over the images unless ``options.centre`` says
    otherwise, computed in blocks of concepts of which only the best are kept.

    A unit whose pooled activation is the same on every image has no name; nor has a competitive
    unit that is never above zero, because what it would be named by are the images it lost; nor
    a unit whose best score is not significant (``options.significance``).

    Args:
        run: From :func:`neuronym.dissect.record_run` or
            :func:`neuronym.record.runs.merge_runs`.
        concepts: The words.
        vision_text: The model that embedded the run's images; it embeds the words.
        similarity: A name of :data:`neuronym.similarity.SIMILARITIES`, or a function.
        out: Folder that the atlas is saved in; ``None`` saves nothing.
        images: The images of the run, for thumbnails; without them the atlas has none.
        options: Everything else; what is about recording is not used.
        seconds: Seconds of earlier stages, for the provenance.

    Returns:
        The atlas; with ``out`` its manifest was written last.

    Raises:
        InputError: The vision-text model or the images are others, a keyword is not taken,
            ``top_k`` is more than the run keeps, or another value that is not allowed.
        UnknownNameError: The similarity is not known.
        FolderInUseError: ``out`` holds something already.
    """
    options = options or DissectOptions()
    seconds = {} if seconds is None else seconds
    _check(run, vision_text, options)
    pieces = None if images is None else _same_images(run, images)
    if isinstance(similarity, str):
        checked_keywords(similarity, options.similarity_keywords)
    claim = None
    if out is not None:
        claim = claim_folder(out, kind=KIND, overwrite=options.overwrite)
    with timed(seconds, "embed_concepts"):
        words = embed_concepts(
            vision_text,
            concepts,
            options=EmbedOptions(
                folder=kept_folder(options.cache, "embedded"),
                progress=noted(options.progress, "concepts"),
            ),
        )
    comparison = _comparison(run, concepts, words, similarity=similarity, options=options)
    with timed(seconds, "name"):
        reads = needs_activations(similarity) or options.permutations > 0
        longer = options.linear > 0 or options.compose > 1
        rows = rows_of(run) if reads or longer else None
        labels: Mapping[int, Tensor] = {}
        if rows is not None and (longer or similarity == "auroc"):
            labels = label_masks(run.labels(rows.keys), run.info.facts["label_names"], concepts)
        evidence = evidence_of(
            run, comparison, rows if reads else None, labels if similarity == "auroc" else {}
        )
        units, keys = name_units(run, evidence, concepts, options)
        if rows is not None and longer:
            units = _longer(units, rows, comparison, labels, options)
    with timed(seconds, "thumbnails"):
        folder = None if claim is None else claim.clear()
        shown = shown_images(run, pieces, keys, folder, options)
    facts = provenance(run, comparison, evidence, options)
    facts["seconds"] = seconds
    spec = run.info.facts["model"]
    if folder is not None and Path(spec).is_dir():
        facts["model"]["relative"] = os.path.relpath(spec, folder)
    atlas = Atlas(
        _site_infos(run), tuple(units), shown, facts, held=atlas_evidence(run, concepts, words)
    )
    return atlas if folder is None else atlas.save(folder)


def _check(run: Run, vision_text: VisionTextModel, options: DissectOptions) -> None:
    recorded = run.info.identity["vision_text"]["fingerprint"]
    if vision_text.fingerprint != recorded:
        raise InputError(
            f"run {str(run.folder)!r} holds embeddings of {run.info.facts['vision_text']!r} "
            f"({recorded}), not of {vision_text.name!r} ({vision_text.fingerprint}): name it with "
            "the model that embedded its images"
        )
    if run.info.shard.count > 1:
        raise InputError(
            f"run {str(run.folder)!r} is shard {run.info.shard} of its images; merge all shards "
            "first (neuronym merge)"
        )
    if len(run) < 2:
        raise InputError(f"{run.info.facts['images']!r} has fewer than 2 readable images")
    kept = run.info.identity["top"]
    if options.top_images > kept:
        raise InputError(
            f"top_images {options.top_images} is more than the {kept} that run "
            f"{str(run.folder)!r} keeps; record it with a larger top (--top)"
        )


def _same_images(run: Run, images: ProbeSet | Pieces) -> Pieces:
    pieces = images
    if not isinstance(pieces, Pieces):
        pieces = pieces_of(pieces, length=run.info.facts["segment"] or PIECE_LENGTH)
    recorded = run.info.identity["images"]
    if pieces.fingerprint != recorded:
        raise InputError(
            f"images {pieces.name!r} ({pieces.fingerprint}) are not those of run "
            f"{str(run.folder)!r} ({run.info.facts['images']!r}, {recorded})"
        )
    return pieces


def _comparison(
    run: Run,
    concepts: ConceptSet,
    words: npt.NDArray[np.float32],
    *,
    similarity: str | Similarity,
    options: DissectOptions,
) -> Comparison:
    keywords = resolved_keywords(
        similarity,
        options,
        images=min(len(run), 4 * run.info.identity["top"]),
        words=words,
        logit_scale=run.info.facts["logit_scale"],
    )
    check_top(similarity, keywords, run)
    return Comparison(
        similarity=similarity,
        keywords=keywords,
        concepts=concepts,
        words=words,
        centred=centred(similarity, options.centre),
        device=checked_device(options.device or "cpu"),
    )


def _longer(
    units: list[Unit],
    rows: Rows,
    comparison: Comparison,
    labels: Mapping[int, Tensor],
    options: DissectOptions,
) -> list[Unit]:
    context = NamingContext(
        images=rows.embeddings,
        concepts=comparison.words,
        words=comparison.concepts.words,
        keys=rows.keys,
        labels={concept: mask.numpy() for concept, mask in labels.items()},
    )
    return with_longer_names(units, rows.activations, context, options)


def _site_infos(run: Run) -> tuple[SiteInfo, ...]:
    return tuple(
        SiteInfo(
            name=site.name,
            units=site.units,
            channel_dim=site.channel_dim,
            competitors=run.info.competitors[site.name],
            pooling=run.info.poolings[site.name],
            positions=site.positions,
            active_fraction=run.active_fraction(site.name),
        )
        for site in run.sites
    )
