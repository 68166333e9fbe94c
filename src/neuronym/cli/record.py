"""``neuronym record`` and ``neuronym merge``: one pass over any number of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuronym.cli._console import leads, progress, say
from neuronym.cli._options import (
    BatchSize,
    ChannelDim,
    Device,
    Images,
    Model,
    Out,
    Overwrite,
    Pooling,
    Quiet,
    Sites,
    VisionText,
    channel_dims,
)

if TYPE_CHECKING:
    from neuronym.record.runs import Run

__all__ = ["merge", "record"]


def record(
    model: Model,
    images: Images,
    sites: Sites,
    out: Out,
    vision_text: VisionText = "pocket",
    pooling: Pooling = None,
    channel_dim: ChannelDim = None,
    shard: Annotated[
        str,
        typer.Option("--shard", help="I/N records part I of N, from 1; neuronym merge joins them."),
    ] = "1/1",
    keep: Annotated[
        str,
        typer.Option(
            "--keep", help="Activations kept of every image: none, winners (of blocks) or all."
        ),
    ] = "none",
    top: Annotated[
        int, typer.Option("--top", min=1, help="Top images per unit that names may rest on later.")
    ] = 100,
    sample: Annotated[
        int, typer.Option("--sample", min=2, help="Images whose activations are kept as a sample.")
    ] = 2000,
    segment: Annotated[
        int, typer.Option("--segment", min=1, help="Images that are recorded as a whole.")
    ] = 4096,
    reduced: Annotated[
        bool,
        typer.Option(
            "--reduced/--full", help="Decode large JPEG files at a reduced size; see the docs."
        ),
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=0, help="Threads that decode images.")
    ] = None,
    device: Device = None,
    batch_size: BatchSize = 32,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Record a model's units over images, to be named later; repeat it to go on after a stop."""
    from neuronym import models, probes
    from neuronym import vision_text as vision_text_models
    from neuronym.dissect import RecordingOptions, record_run
    from neuronym.record.runs import parse_shard

    part = parse_shard(shard)
    with progress("recording", quiet=quiet) as update:
        run = record_run(
            models.load(model),
            probes.load_pieces(images, length=segment),
            vision_text_models.load(vision_text, device=device or "cpu", batch_size=batch_size),
            sites=sites,
            out=out,
            options=RecordingOptions(
                pooling=pooling,
                channel_dims=channel_dims(channel_dim or ()),
                top=top,
                sample=sample,
                keep=keep,
                segment=segment,
                shard=part,
                reduced=reduced,
                batch_size=batch_size,
                workers=workers,
                device=device,
                overwrite=overwrite,
                progress=update,
            ),
        )
    if leads():
        _show(run)
        typer.echo(str(out))


def merge(
    shards: Annotated[list[Path], typer.Argument(help="Folders of all shards, in any order.")],
    out: Out,
    overwrite: Overwrite = False,
) -> None:
    """Merge the runs of all shards into one, as if one process had recorded it."""
    from neuronym.record.runs import merge_runs

    _show(merge_runs(shards, out, overwrite=overwrite))
    typer.echo(str(out))


def _show(run: Run) -> None:
    skipped = run.skipped
    say(
        f"{len(run)} images, {sum(site.units for site in run.sites)} units at "
        f"{len(run.sites)} sites"
    )
    if skipped:
        first = ", ".join(each.id for each in skipped[:3])
        more = " …" if len(skipped) > 3 else ""
        say(f"{len(skipped)} images could not be read and were skipped: {first}{more}")
