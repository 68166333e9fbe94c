"""``neuronym dissect``: a name for every unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronym.cli._console import progress, say
from neuronym.cli._options import BatchSize, Images, Model, Out, Overwrite, Quiet, Seed

if TYPE_CHECKING:
    from neuronym.results import Atlas

__all__ = ["dissect"]


def dissect(
    model: Model,
    images: Images,
    sites: Annotated[
        str,
        typer.Option("--sites", help="Module names with wildcards, e.g. 'blocks.6*'; commas join."),
    ],
    out: Out,
    concepts: Annotated[
        str,
        typer.Option(
            "--concepts", help="common, imagenet-1k, imagenet-21k, attributes, or a text file."
        ),
    ] = "common",
    vision_text: Annotated[
        str,
        typer.Option(
            "--vision-text", help="pocket, open_clip:ARCH/TAG_OR_CHECKPOINT, hf:REPO_OR_FOLDER."
        ),
    ] = "pocket",
    similarity: Annotated[
        str, typer.Option("--similarity", help="How activations and concepts are compared.")
    ] = "soft_wpmi",
    template: Annotated[
        list[str] | None,
        typer.Option("--template", help="Prompt such as 'a photo of a {}'; repeat for more."),
    ] = None,
    pooling: Annotated[
        str | None, typer.Option("--pooling", help="mean, max, token or winner; default: by site.")
    ] = None,
    channel_dim: Annotated[
        list[str] | None,
        typer.Option("--channel-dim", help="MODULE=DIM where the units' dimension is not known."),
    ] = None,
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
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda …")] = None,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Name the units of a model by the concepts that fit their activations best."""
    from neuronym import concepts as concept_sets
    from neuronym import models, probes
    from neuronym import vision_text as vision_text_models
    from neuronym.dissect import DissectOptions
    from neuronym.dissect import dissect as run

    names = concept_sets.load(concepts)
    if template:
        names = names.with_templates(template)
    keywords = _numbers(similarity_option or ())
    if top_k is not None:
        keywords["top_k"] = top_k
    if scale is not None:
        keywords["scale"] = scale
    with progress("recording", quiet=quiet) as update:
        atlas = run(
            models.load(model),
            probes.load(images),
            names,
            vision_text_models.load(vision_text, device=device or "cpu", batch_size=batch_size),
            sites=sites,
            similarity=similarity,
            out=out,
            options=DissectOptions(
                pooling=pooling,
                channel_dims=_channel_dims(channel_dim or ()),
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
            ),
        )
    _show(atlas)
    typer.echo(str(out))


def _channel_dims(pairs: Sequence[str]) -> dict[str, int]:
    from neuronym.errors import InputError

    dims = {}
    for pair in pairs:
        name, _, dim = pair.rpartition("=")
        if not name or not dim.lstrip("-").isdigit():
            raise InputError(f"--channel-dim takes MODULE=DIM with a whole number, not {pair!r}")
        dims[name] = int(dim)
    return dims


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
