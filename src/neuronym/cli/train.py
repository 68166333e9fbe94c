"""``neuronym train``: a competitive network, or its dense twin."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronym.cli._console import progress, say
from neuronym.cli._options import Out, Overwrite, Quiet
from neuronym.cli._settings import pairs

if TYPE_CHECKING:
    from neuronym.train import TrainResult, TrainSettings

__all__ = ["train"]


def _list_presets(wanted: bool) -> None:
    if not wanted:
        return
    from neuronym.train import PRESETS

    typer.echo(f"{'preset':16} {'model':38} {'U':>3} {'epochs':>6} {'batch':>5} rate")
    for name, each in PRESETS.items():
        typer.echo(
            f"{name:16} {each.model:38} {each.competitors:>3} {each.epochs:>6} "
            f"{each.batch_size:>5} {each.learning_rate:g} ({each.optimizer}, {each.schedule})"
        )
    raise typer.Exit


def train(
    data: Annotated[
        str,
        typer.Option("--data", help="Labelled images: any SPEC of --images, e.g. FILE.parquet."),
    ],
    out: Out,
    model: Annotated[
        str | None,
        typer.Option("--model", help="timm:NAME, torchvision:NAME, a folder, module:factory …"),
    ] = None,
    competitors: Annotated[
        int | None, typer.Option("--competitors", "-U", help="Competitors U of a block, 2 or more.")
    ] = None,
    dense: Annotated[
        bool, typer.Option("--dense", help="Train the dense twin: no competition, all else equal.")
    ] = False,
    validation: Annotated[
        str | None, typer.Option("--validation", help="Labelled images that choose the best epoch.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="Start from a named set of settings; see --list-presets."),
    ] = None,
    list_presets: Annotated[
        bool,
        typer.Option(
            "--list-presets",
            callback=_list_presets,
            is_eager=True,
            help="List the presets and stop.",
        ),
    ] = False,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--lr", help="Largest rate.")] = None,
    kl_weight: Annotated[
        float | None, typer.Option("--kl-weight", help="Scale of the KL term; 0 switches it off.")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start from published weights.")
    ] = False,
    gradual: Annotated[
        float | None,
        typer.Option(
            "--gradual",
            help="Share of the steps over which dense activations fade into competition; for "
            "--pretrained and for dense folders, e.g. 0.5.",
        ),
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", help="Passes per step, to need less memory.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="τ of the relaxed winner.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="float32, bfloat16 or float16.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda …")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of everything random.")] = None,
    other: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any other setting as NAME=VALUE, e.g. augment=cifar; commas join lists."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the folder.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a classifier whose units compete; write the model, its configuration and metrics."""
    given = {
        "model": model,
        "competitors": competitors,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "kl_weight": kl_weight,
        "pretrained": pretrained or None,
        "gradual": gradual,
        "accumulate": accumulate,
        "temperature": temperature,
        "precision": precision,
        "device": device,
        "seed": seed,
    }
    settings = _settings(
        {name: value for name, value in given.items() if value is not None},
        preset=preset,
        dense=dense,
        other=other or (),
    )
    from neuronym import probes
    from neuronym.train import Progress
    from neuronym.train import train as run
    from neuronym.train.team import close_team

    images = probes.load(data)
    held = probes.load(validation) if validation else None
    leads = os.environ.get("RANK", "0") == "0"
    with progress("training", quiet=quiet or not leads) as update:

        def step(state: Progress) -> None:
            accuracy = "" if state.accuracy is None else f", accuracy {state.accuracy:.3f}"
            dead = "" if state.dead_units is None else f", {state.dead_units} dead units"
            note = f"epoch {state.epoch}/{state.epochs}, loss {state.loss:.3f}{accuracy}{dead}"
            update(state.step, state.steps, note)

        result = run(
            settings,
            images,
            out=out,
            validation=held,
            resume=resume,
            overwrite=overwrite,
            progress=step,
        )
    if leads:
        _show(result, out)
    close_team()


def _show(result: TrainResult, out: Path) -> None:
    measured = result.validation
    active, found = measured.active_fraction, measured.diagnosis
    say(
        f"best epoch {result.best_epoch}: accuracy {measured.accuracy:.4f} over "
        f"{measured.images} validation images"
        + ("" if active is None else f", {active:.2%} of the units active")
        + ("" if found is None else f", {found.dead_units} of {found.units} units dead")
        + f", {result.seconds:.0f} s"
    )
    if result.skipped:
        say(f"{len(result.skipped)} images could not be read; metrics.json lists them")
    typer.echo(str(out))


def _settings(
    given: dict[str, Any], *, preset: str | None, dense: bool, other: Sequence[str]
) -> TrainSettings:
    from neuronym.errors import InputError
    from neuronym.train import TrainSettings, preset_of

    given |= pairs(other, TrainSettings, "training setting")
    dense = bool(given.pop("dense", False)) or dense
    if preset is None:
        if "model" not in given:
            raise InputError("give --model (timm:NAME, torchvision:NAME …) or --preset")
        return TrainSettings(dense=dense, **given)
    start = preset_of(preset, batch_size=given.get("batch_size"))
    if dense:
        if given.get("competitors") is not None:
            raise InputError("--dense trains without competition: leave --competitors out")
        given |= {"dense": True, "competitors": None}
    return replace(start, **given)
