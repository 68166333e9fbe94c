"""``dissect``: a name for every unit of a model."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from neuronym.concepts import ConceptSet
from neuronym.dissect.evidence import needs_activations
from neuronym.dissect.from_run import KIND, name_run
from neuronym.dissect.kept_runs import KeptRuns
from neuronym.dissect.options import DissectOptions
from neuronym.dissect.progress import noted, timed
from neuronym.dissect.recording import Prepared, RecordingOptions, prepared
from neuronym.dissect.target import on_device, sample_of, target_of
from neuronym.errors import FolderInUseError, InputError
from neuronym.files import claim_folder
from neuronym.lwta.masks import mask_reader
from neuronym.models import LoadedModel
from neuronym.probes import Pieces, ProbeSet, pieces_of
from neuronym.record import RecordOptions, find_sites, record
from neuronym.record.runs import Run
from neuronym.results import Atlas, SiteInfo
from neuronym.similarity import Similarity, checked_keywords
from neuronym.vision_text import VisionTextModel

__all__ = ["dissect", "record_sites"]

TOP = 100


def dissect(
    model: LoadedModel | nn.Module,
    images: ProbeSet | Pieces,
    concepts: ConceptSet,
    vision_text: VisionTextModel,
    *,
    sites: str | Sequence[str],
    similarity: str | Similarity = "soft_wpmi",
    out: str | Path | None = None,
    options: DissectOptions | None = None,
) -> Atlas:
    """Name every unit of the sites by the concept that fits its activations best.

    The images go once through the model and the vision-text model, into a run
    (:func:`neuronym.dissect.record_run`) that lies in the cache or, where the model is code that
    may change, in a temporary folder; each image is decoded once. Then the run is named
    (:func:`neuronym.dissect.name_run`). Memory grows with units, concepts and sketches, not with
    the images; a similarity that reads activations reads them for all images, from disk.

    Args:
        model: A loaded model, or a plain module together with ``options.transform``.
        images: A probe set or pieces of one; broken images are skipped and listed in the
            provenance.
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
    pieces = images if isinstance(images, Pieces) else pieces_of(images)
    kept = KeptRuns(options.cache)
    seconds: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        with timed(seconds, "find_sites"):
            ready = stack.enter_context(
                prepared(
                    model,
                    pieces,
                    vision_text,
                    sites=sites,
                    options=_recording_options(pieces, similarity, options),
                    known=kept.with_embeddings,
                )
            )
        if out is not None:
            ready.team.led(lambda: _claim(out, options))
        run = _recorded(ready, kept, stack, seconds)
        if not ready.team.leads and out is not None:
            ready.team.led(lambda: None)
            return Atlas.load(out)
        atlas = name_run(
            run,
            concepts,
            vision_text,
            similarity=similarity,
            out=out,
            images=pieces,
            options=options,
            seconds=seconds,
        )
        ready.team.led(lambda: None)  # nobody reads a temporary run any more
    kept.prune()
    return atlas


def _claim(out: str | Path, options: DissectOptions) -> None:
    claim_folder(out, kind=KIND, overwrite=options.overwrite)


def _recorded(
    ready: Prepared, kept: KeptRuns, stack: contextlib.ExitStack, seconds: dict[str, float]
) -> Run:
    """Record into the cache, or into a folder that is deleted when the stack closes."""
    place = kept.place(ready.info) if ready.target.reusable else None
    with timed(seconds, "record_and_embed"):
        if place is not None:
            try:
                return ready.record(place)
            except FolderInUseError:  # another process records the same just now
                if ready.team.size > 1:
                    raise
        made = ready.team.led(lambda: tempfile.mkdtemp(prefix="neuronym-run-"))
        if ready.team.leads:
            stack.callback(shutil.rmtree, made, ignore_errors=True)
        return ready.record(Path(made) / "run")


def _recording_options(
    pieces: Pieces, similarity: str | Similarity, options: DissectOptions
) -> RecordingOptions:
    """Keep as little as the similarity needs; where the sample holds all images, nothing more."""
    sample = RecordingOptions.sample
    whole = pieces.total is not None and pieces.total <= sample
    reads = needs_activations(similarity) or options.permutations > 0
    top_k = options.similarity_keywords.get("top_k", 1)
    return RecordingOptions(
        pooling=options.pooling,
        channel_dims=options.channel_dims,
        top=max(TOP, options.top_images, top_k if isinstance(top_k, int) else 1),
        keep="all" if reads and not whole else "none",
        batch_size=options.batch_size,
        workers=options.workers,
        device=options.device,
        transform=options.transform,
        progress=noted(options.progress, "recording"),
    )


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
                progress=noted(options.progress, "recording"),
            ),
            masks=masks,
        )
    return {info.name: recording.activations(info.name) for info in sites}
