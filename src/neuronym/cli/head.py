"""``neuronym head``: a competing last layer on the frozen features of any backbone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronym.cli._console import progress, say
from neuronym.cli._options import Out, Overwrite, Quiet

if TYPE_CHECKING:
    from neuronym.train.head import HeadResult
    from neuronym.train.head_settings import HeadSettings

__all__ = ["head"]

_CLASSES_SHOWN = 20


def head(
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            help="timm:NAME, torchvision:NAME, pocket:efficientnet_lite0, a trained folder, or "
            "module.path:factory.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option("--data", help="Labelled images: any SPEC of --images, e.g. FILE.parquet."),
    ],
    out: Out,
    competitors: Annotated[
        int | None,
        typer.Option("--competitors", "-U", help="Competitors U of a block, 2 or more [16]."),
    ] = None,
    dense: Annotated[
        bool, typer.Option("--dense", help="Train the dense twin: ReLU, all else equal.")
    ] = False,
    linear: Annotated[
        bool, typer.Option("--linear", help="Train one linear layer, without a hidden one.")
    ] = False,
    validation: Annotated[
        str | None, typer.Option("--validation", help="Labelled images that choose the best epoch.")
    ] = None,
    site: Annotated[
        str | None,
        typer.Option("--site", help="Module that gives the features; default: penultimate."),
    ] = None,
    pooling: Annotated[
        str | None, typer.Option("--pooling", help="Of a site: mean, max or token:INDEX.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=1, help="Side in pixels; default: its own."),
    ] = None,
    hidden: Annotated[int | None, typer.Option("--hidden", help="Hidden units; or 1536.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the data.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--lr", help="Largest rate.")] = None,
    kl_weight: Annotated[
        float | None, typer.Option("--kl-weight", help="Scale of the KL term; 0 switches it off.")
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Learn from the mirrored images too.")
    ] = False,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda …")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of everything random.")] = None,
    features: Annotated[
        Path | None,
        typer.Option("--features", help="Folder for features, not the cache."),
    ] = None,
    other: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting as NAME=VALUE, e.g. dropout=0.1."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a head whose units compete on a frozen backbone; write both as one model."""
    given = {
        "competitors": competitors,
        "site": site,
        "pooling": pooling,
        "input_size": None if image_size is None else (3, image_size, image_size),
        "hidden": hidden,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "kl_weight": kl_weight,
        "mirror": mirror or None,
        "device": device,
        "seed": seed,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = _settings(chosen, other or [], dense=dense, linear=linear)
    from neuronym import probes
    from neuronym.train.head import HeadOptions, train_head
    from neuronym.train.head_fit import HeadProgress

    images = probes.load(data)
    held = probes.load(validation) if validation else None
    with (
        progress("features", quiet=quiet) as features_bar,
        progress("training", quiet=quiet) as bar,
    ):

        def step(state: HeadProgress) -> None:
            accuracy = "" if state.accuracy is None else f", accuracy {state.accuracy:.3f}"
            note = f"epoch {state.epoch}/{state.epochs}, loss {state.loss:.3f}{accuracy}"
            bar(state.step, state.steps, note)

        result = train_head(
            backbone,
            images,
            out=out,
            settings=settings,
            validation=held,
            overwrite=overwrite,
            options=HeadOptions(features=features, feature_progress=features_bar, progress=step),
        )
    _show(result, out, quiet=quiet)


def _settings(
    given: dict[str, Any], other: list[str], *, dense: bool, linear: bool
) -> HeadSettings:
    from neuronym.cli._settings import pairs
    from neuronym.errors import InputError
    from neuronym.train.head_settings import HeadSettings

    given |= pairs(other, HeadSettings, "head setting")
    if dense and linear:
        raise InputError("--dense and --linear are two different twins: give one")
    if dense or linear:
        if "competitors" in given:
            option = "--dense" if dense else "--linear"
            raise InputError(f"{option} trains without competition: leave --competitors out")
        given |= {"competitors": None, "activation": "relu" if dense else "linear"}
    return HeadSettings(**given)


def _show(result: HeadResult, out: Path, *, quiet: bool) -> None:
    measured = result.validation
    active = measured.active_fraction
    say(
        f"best epoch {result.best_epoch}: accuracy {measured.accuracy:.4f} over "
        f"{measured.images} validation images"
        + ("" if active is None else f", {active:.2%} of the hidden units active")
        + f"; features {result.seconds['features']:.0f} s, head {result.seconds['head']:.0f} s"
    )
    if not quiet:
        rows = sorted(result.per_class.items(), key=lambda row: row[1][0] / max(1, row[1][1]))
        for name, (right, count) in rows[:_CLASSES_SHOWN]:
            share = f"{right / count:.1%}" if count else "-"
            say(f"  {share:>7}  {right:>6} of {count:<6} {name}")
        if len(rows) > _CLASSES_SHOWN:
            say(f"  … {len(rows) - _CLASSES_SHOWN} better classes; metrics.json lists all")
    if result.skipped:
        say(f"{len(result.skipped)} images could not be read; metrics.json lists them")
    typer.echo(str(out))
