"""``neuronym dissect``: a name for every unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from neuronym.cli._console import leads, progress, say
from neuronym.cli._options import (
    BatchSize,
    ChannelDim,
    Device,
    MaybeImages,
    MaybeModel,
    MaybeSites,
    MaybeVisionText,
    Out,
    Overwrite,
    Pooling,
    Quiet,
    Seed,
    channel_dims,
)

if TYPE_CHECKING:
    from neuronym.concepts import ConceptSet
    from neuronym.dissect import DissectOptions
    from neuronym.probes import Pieces
    from neuronym.record.runs import Run
    from neuronym.results import Atlas

__all__ = ["dissect"]


def dissect(
    out: Out,
    model: MaybeModel = None,
    images: MaybeImages = None,
    sites: MaybeSites = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Name a run of neuronym record, without running the model."),
    ] = None,
    concepts: Annotated[
        str,
        typer.Option(
            "--concepts", help="common, imagenet-1k, imagenet-21k, attributes, or a text file."
        ),
    ] = "common",
    vision_text: MaybeVisionText = None,
    similarity: Annotated[
        str, typer.Option("--similarity", help="How activations and concepts are compared.")
    ] = "soft_wpmi",
    template: Annotated[
        list[str] | None,
        typer.Option("--template", help="Prompt such as 'a photo of a {}'; repeat for more."),
    ] = None,
    pooling: Pooling = None,
    channel_dim: ChannelDim = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Images per unit that (Soft)WPMI reads.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option("--scale", help="Factor of the concept scores.")
    ] = None,
    similarity_option: Annotated[
        list[str] | None,
        typer.Option(
            "--similarity-option", help="NAME=NUMBER, another keyword of the similarity; repeat."
        ),
    ] = None,
    centre: Annotated[
        bool | None,
        typer.Option(
            "--centre/--no-centre",
            help="Centre concept scores over the images; default: for all but rank_reorder.",
        ),
    ] = None,
    permutations: Annotated[
        int,
        typer.Option(
            "--permutations", min=0, help="Shuffles for p-values, for any similarity; 0: none."
        ),
    ] = 0,
    significance: Annotated[
        float,
        typer.Option(
            "--significance", help="False-discovery rate above which a name is left out; 0: none."
        ),
    ] = 0.05,
    null_draws: Annotated[
        int, typer.Option("--null-draws", min=1, help="Draws of the null distribution.")
    ] = 1000,
    fdr: Annotated[
        str, typer.Option("--fdr", help="bh, or by for units of any dependence.")
    ] = "bh",
    linear: Annotated[
        int,
        typer.Option("--linear", min=0, help="Most concepts of a linear explanation; 0: none."),
    ] = 0,
    compose: Annotated[
        int,
        typer.Option("--compose", min=1, max=3, help="Most concepts of a formula; 1: none."),
    ] = 1,
    device: Device = None,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Name the units of a model by the concepts that fit their activations best.

    Give --model, --images and --sites; or --run with what neuronym record made of them.
    """
    from neuronym import concepts as concept_sets
    from neuronym.dissect import DissectOptions

    names = concept_sets.load(concepts)
    if template:
        names = names.with_templates(template)
    keywords = _numbers(similarity_option or ())
    if top_k is not None:
        keywords["top_k"] = top_k
    if scale is not None:
        keywords["scale"] = scale
    asked = _Asked(model, images, sites, run, vision_text)
    with progress("recording" if run is None else "naming", quiet=quiet) as update:
        options = DissectOptions(
            pooling=pooling,
            channel_dims=channel_dims(channel_dim or ()),
            similarity_keywords=keywords,
            centre=centre,
            permutations=permutations,
            significance=significance or None,
            null_draws=null_draws,
            fdr=fdr,
            linear=linear,
            compose=compose,
            device=device,
            batch_size=batch_size,
            seed=seed,
            overwrite=overwrite,
            progress=update,
        )
        name = _from_model if run is None else _from_run
        atlas = name(asked, names, similarity=similarity, out=out, options=options)
    if leads():
        _show(atlas)
        typer.echo(str(out))


class _Asked(NamedTuple):
    """What to name: a model with images and sites, or a run."""

    model: str | None
    images: str | None
    sites: str | None
    run: Path | None
    vision_text: str | None


def _from_model(
    asked: _Asked, names: ConceptSet, *, similarity: str, out: Path, options: DissectOptions
) -> Atlas:
    from neuronym import models, probes, vision_text
    from neuronym.dissect import dissect as named
    from neuronym.errors import InputError

    if asked.model is None or asked.images is None or asked.sites is None:
        given = {"--model": asked.model, "--images": asked.images, "--sites": asked.sites}
        missing = ", ".join(flag for flag, value in given.items() if value is None)
        raise InputError(f"missing {missing}; give --model, --images and --sites, or --run")
    return named(
        models.load(asked.model),
        probes.load_pieces(asked.images),
        names,
        vision_text.load(
            asked.vision_text or "pocket",
            device=options.device or "cpu",
            batch_size=options.batch_size,
        ),
        sites=asked.sites,
        similarity=similarity,
        out=out,
        options=options,
    )


def _from_run(
    asked: _Asked, names: ConceptSet, *, similarity: str, out: Path, options: DissectOptions
) -> Atlas:
    from neuronym import vision_text
    from neuronym.dissect import name_run
    from neuronym.errors import InputError
    from neuronym.record.runs import Run as Recorded

    given = {
        "--model": asked.model,
        "--sites": asked.sites,
        "--pooling": options.pooling,
        "--channel-dim": options.channel_dims or None,
    }
    for flag, value in given.items():
        if value is not None:
            raise InputError(f"--run was recorded with its own; leave {flag} out")
    run = Recorded(str(asked.run))
    return name_run(
        run,
        names,
        vision_text.load(
            asked.vision_text or run.info.facts["vision_text"],
            device=options.device or "cpu",
            batch_size=options.batch_size,
        ),
        similarity=similarity,
        out=out,
        images=_pictures(run, asked.images),
        options=options,
    )


def _pictures(run: Run, given: str | None) -> Pieces | None:
    """Return the run's images for thumbnails; where they are not here, the atlas has none."""
    from neuronym import probes
    from neuronym.errors import NeuronymError

    facts = run.info.facts
    try:
        found = probes.load_pieces(
            given or facts["images"], length=facts["segment"] or probes.PIECE_LENGTH
        )
    except NeuronymError as error:
        if given is not None:
            raise
        say(f"no thumbnails, because the images are not here: {error}")
        return None
    if given is None and found.fingerprint != run.info.identity["images"]:
        say(f"no thumbnails, because {facts['images']!r} has changed since it was recorded")
        return None
    return found


def _numbers(pairs: Sequence[str]) -> dict[str, Any]:
    from neuronym.errors import InputError

    values: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not name or number != number:
            raise InputError(f"--similarity-option takes NAME=NUMBER, not {pair!r}")
        values[name.replace("-", "_")] = int(number) if number.is_integer() else number
    return values


def _show(atlas: Atlas) -> None:
    images = atlas.provenance["images"]
    if images["skipped"]:
        first = ", ".join(images["skipped_ids"][:3])
        more = " …" if images["skipped"] > 3 else ""
        say(f"{images['skipped']} images could not be read and were skipped: {first}{more}")
    for site in atlas.sites:
        units = atlas.of_site(site.name)
        named = [unit for unit in units if unit.name is not None]
        chance = sum(unit.unnamed == "not significant" for unit in units)
        rest = f"; {chance} not, because their best name may be chance" if chance else ""
        say(f"{site.name}: {len(named)} of {len(units)} units named{rest}")
    best = sorted(
        (unit for unit in atlas if unit.score is not None), key=lambda unit: -(unit.score or 0.0)
    )
    for unit in best[:5]:
        say(f"  {unit.key}: {unit.name} ({unit.score:.3g})")
