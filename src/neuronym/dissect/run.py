"""``dissect``: a name for every unit of a model."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from neuronym.concepts import ConceptSet
from neuronym.dissect.competition import mask_reader
from neuronym.dissect.naming import (
    Naming,
    centred,
    label_masks,
    name_units,
    resolved_keywords,
)
from neuronym.dissect.options import DissectOptions
from neuronym.dissect.pictures import shown_images
from neuronym.dissect.provenance import provenance
from neuronym.dissect.target import Target, on_device, sample_of, target_of
from neuronym.embed import EmbedOptions, ImageEmbeddings, embed_concepts, record_and_embed
from neuronym.errors import InputError
from neuronym.files import cache_folder, caches_allowed, claim_folder
from neuronym.models import LoadedModel
from neuronym.probes import ProbeSet
from neuronym.record import Plan, Recording, RecordOptions, Sites, find_sites, record
from neuronym.results import Atlas, SiteInfo
from neuronym.similarity import DotProducts, Similarity, checked_keywords
from neuronym.store import prune
from neuronym.vision_text import VisionTextModel

__all__ = ["dissect", "record_sites"]

KIND = "atlas"
CACHE_BYTES = 4 << 30


def dissect(
    model: LoadedModel | nn.Module,
    probes: ProbeSet,
    concepts: ConceptSet,
    vision_text: VisionTextModel,
    *,
    sites: str | Sequence[str],
    similarity: str | Similarity = "soft_wpmi",
    out: str | Path | None = None,
    options: DissectOptions | None = None,
) -> Atlas:
    """Name every unit of the sites by the concept that fits its activations best.

    The probe set goes once through the model and the vision-text model; each image is decoded
    once. Concept scores are dot products of the vision-text model's embeddings, centred per
    concept over the images unless ``options.centre`` says otherwise. They are computed in blocks
    of concepts and only the best of each unit are kept, so that memory grows neither with the
    number of concepts nor with images × concepts. With AUROC, a concept that is a class of the
    data set is judged by its labels.

    A unit whose pooled activation is the same on every image has no name; nor has a competitive
    unit that is never above zero, because what it would be named by are the images it lost.

    Args:
        model: A loaded model, or a plain module together with ``options.transform``.
        probes: The images; broken ones are skipped and listed in the provenance.
        concepts: The words.
        vision_text: The model that embeds both.
        sites: Module names with wildcards, as in :func:`neuronym.record.find_sites`.
        similarity: A name of :data:`neuronym.similarity.SIMILARITIES`, or a function of one's own
            (see :func:`neuronym.similarity.rank_concepts`).
        out: Folder that the atlas is saved in, with thumbnails; new, empty, or claimed by
            :func:`neuronym.files.claim_folder` for an atlas. ``None`` saves nothing.
        options: Everything else.

    Returns:
        The atlas; with ``out`` its manifest was written last.

    Raises:
        InputError: No site matches, too few readable images, a keyword that is not taken, or
            another value that is not allowed.
        UnknownNameError: The similarity or pooling is not known.
        FolderInUseError: ``out`` holds something already.
        UnavailableError: The device is not there.
    """
    options = options or DissectOptions()
    if isinstance(similarity, str):
        checked_keywords(similarity, options.similarity_keywords)
    target = target_of(model, options.transform)
    seconds: dict[str, float] = {}
    with on_device(target.module, options.device) as device:
        with _timed(seconds, "find_sites"):
            found = _find(target, probes, sites, options, device)
        claim = None
        if out is not None:
            claim = claim_folder(out, kind=KIND, overwrite=options.overwrite)
        caches = _caches(options.cache)
        with _timed(seconds, "record_and_embed"):
            recording, images = _record_and_embed(
                target, probes, vision_text, found, options, caches
            )
    with _timed(seconds, "embed_concepts"):
        words = embed_concepts(
            vision_text,
            concepts,
            options=EmbedOptions(folder=caches[1], progress=_noted(options, "concepts")),
        )
    keywords = resolved_keywords(
        similarity,
        options,
        images=len(recording),
        words=words,
        logit_scale=vision_text.logit_scale,
    )
    naming = Naming(
        similarity=similarity,
        keywords=keywords,
        concepts=concepts,
        scores=_scores(images, words, device, centred=centred(similarity, options.centre)),
        labels=label_masks(probes, recording.indices, concepts) if similarity == "auroc" else {},
        ids=[probes.ids[place] for place in recording.indices.tolist()],
    )
    with _timed(seconds, "name"):
        units = name_units(recording, naming, options)
    with _timed(seconds, "thumbnails"):
        folder = None if claim is None else claim.clear()
        shown = shown_images(probes, units, folder, options)
    facts = provenance(
        target, probes, vision_text, recording=recording, naming=naming, options=options
    )
    facts |= _facts_of_run(sites, found, seconds)
    if folder is not None and Path(target.spec).is_dir():
        facts["model"]["relative"] = os.path.relpath(target.spec, folder)
    atlas = Atlas(_site_infos(recording), tuple(units), shown, facts)
    _prune(caches)
    return atlas if folder is None else atlas.save(folder)


def record_sites(
    model: LoadedModel | nn.Module,
    probes: ProbeSet,
    sites: Sequence[SiteInfo],
    *,
    options: DissectOptions | None = None,
) -> dict[str, npt.NDArray[np.float32]]:
    """Record sites of an atlas over another probe set, pooled as they were for the atlas.

    Args:
        model: The model of the atlas.
        probes: Other images.
        sites: From the atlas.
        options: Batches, device and the transform of a plain module; pooling and dimensions of
            the units are the atlas's.

    Returns:
        Site → ``(images, units)``; broken images have no row.

    Raises:
        InputError: The model has no such site, or it has another number of units.
    """
    options = options or DissectOptions()
    target = target_of(model, options.transform)
    with on_device(target.module, options.device) as device:
        masks = mask_reader(target.module)
        found = find_sites(
            target.module,
            [site.name for site in sites],
            sample_of(probes, target.transform).to(device),
            channel_dims={site.name: site.channel_dim for site in sites},
            competitive=tuple(masks.competitors) if masks else (),
        )
        by_name = {site.name: site for site in found}
        wanted = []
        for info in sites:
            site = by_name.get(info.name)
            if site is None or site.units != info.units:
                units = "no units" if site is None else f"{site.units} units"
                raise InputError(
                    f"site {info.name!r} has {units} in this model and {info.units} in the atlas"
                )
            wanted.append(site)
        recording = record(
            target.module,
            probes,
            wanted,
            transform=target.transform,
            options=RecordOptions(
                pooling={info.name: info.pooling for info in sites},
                batch_size=options.batch_size,
                workers=options.workers,
                progress=_noted(options, "recording"),
            ),
            masks=masks,
        )
    return {info.name: recording.activations(info.name) for info in sites}


def _find(
    target: Target,
    probes: ProbeSet,
    sites: str | Sequence[str],
    options: DissectOptions,
    device: torch.device,
) -> Sites:
    masks = mask_reader(target.module)
    return find_sites(
        target.module,
        sites,
        sample_of(probes, target.transform).to(device),
        channel_dims=options.channel_dims,
        competitive=tuple(masks.competitors) if masks else (),
    )


def _record_and_embed(
    target: Target,
    probes: ProbeSet,
    vision_text: VisionTextModel,
    found: Sites,
    options: DissectOptions,
    caches: tuple[Path | None, Path | None],
) -> tuple[Recording, ImageEmbeddings]:
    plan = Plan(
        target.module,
        probes,
        found,
        transform=target.transform,
        options=RecordOptions(
            pooling=options.pooling,
            folder=caches[0] if target.reusable else None,
            model_fingerprint=target.fingerprint if target.reusable else None,
        ),
        masks=mask_reader(target.module),
    )
    recording, images = record_and_embed(
        plan,
        vision_text,
        probes,
        options=EmbedOptions(
            batch_size=options.batch_size,
            workers=options.workers,
            folder=caches[1],
            progress=_noted(options, "recording"),
        ),
    )
    if len(recording) < 2:
        raise InputError(f"{probes.name!r} has fewer than 2 readable images")
    if not np.array_equal(recording.indices, images.indices):
        raise InputError(
            f"the images of {probes.name!r} changed between two passes; run again without caches"
        )
    return recording, images


def _scores(
    images: ImageEmbeddings,
    words: npt.NDArray[np.float32],
    device: torch.device,
    *,
    centred: bool,
) -> DotProducts:
    pictures = torch.from_numpy(images.vectors).to(device)
    scores = DotProducts(pictures, torch.from_numpy(words).to(device))
    return scores.centred() if centred else scores


def _facts_of_run(
    sites: str | Sequence[str], found: Sites, seconds: dict[str, float]
) -> dict[str, Any]:
    """Return what the provenance says of the sites asked for, and of the time it took."""
    return {
        "sites": sites if isinstance(sites, str) else ",".join(sites),
        "sites_left_out": found.left_out,
        "seconds": seconds,
    }


def _site_infos(recording: Recording) -> tuple[SiteInfo, ...]:
    return tuple(
        SiteInfo(
            name=site.name,
            units=site.units,
            channel_dim=site.channel_dim,
            competitors=recording.competitors[site.name],
            pooling=recording.poolings[site.name],
            positions=site.positions,
            active_fraction=recording.active_fraction(site.name),
        )
        for site in recording.sites
    )


def _caches(cache: bool | str | Path) -> tuple[Path | None, Path | None]:
    """Return the folders of recordings and embeddings, or ``None`` where nothing is kept."""
    if cache is False or (cache is True and not caches_allowed()):
        return None, None
    base = cache_folder() if cache is True else Path(cache)
    folders = base / "recordings", base / "embedded"
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if cache is True:  # a home that cannot be written: compute everything anew
            return None, None
        raise InputError(f"cannot write into cache {str(base)!r}: {error.strerror}") from error
    if cache is True and not all(os.access(folder, os.W_OK) for folder in folders):
        return None, None
    return folders


def _prune(caches: tuple[Path | None, Path | None]) -> None:
    for folder in caches:
        if folder is not None:
            prune(folder, limit_bytes=CACHE_BYTES)


@contextlib.contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 3)


def _noted(options: DissectOptions, stage: str) -> Callable[[int, int, str], None] | None:
    """Return the progress function of one stage, which notes the stage's name."""
    report = options.progress
    if report is None:
        return None
    return lambda done, total, note: report(done, total, note or stage)
