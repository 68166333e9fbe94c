"""``neuronym explain --images``: a data set by its winners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from neuronym.cli._classes import class_of
from neuronym.cli._console import printer, progress, say

if TYPE_CHECKING:
    from neuronym.models import LoadedModel
    from neuronym.results import Atlas, ExplanationSet

__all__ = ["SetRequest", "check_request", "explain_images"]

_CARRIERS, _CLASSES = 3, 20


@dataclass(frozen=True)
class SetRequest:
    """What is asked of a data set.

    Attributes:
        images: SPEC of the images.
        sites: Names or patterns of sites, or ``None``.
        quiet: Whether there is no progress.
        options: By the name of the option, ``None`` where it was not given.
    """

    images: str
    sites: Sequence[str] | None
    quiet: bool
    options: Mapping[str, Any]


def check_request(
    image: Path | None, images: str | None, *, one: Mapping[str, Any], many: Mapping[str, Any]
) -> None:
    """Refuse what does not go together.

    Args:
        image, images: What is explained.
        one: Options that only ``--image`` takes, ``None`` where they were not given.
        many: Options that only ``--images`` takes.

    Raises:
        InputError: Both are given, an option of the other one is, or ``--out`` is lacking.
    """
    from neuronym.errors import InputError

    if image is not None and images is not None:
        raise InputError("--image explains one image and --images a data set: give one of them")
    mine, other, foreign = ("--image", "--images", many)
    if images is not None:
        mine, other, foreign = ("--images", "--image", one)
    given = [name for name, value in foreign.items() if value is not None]
    if given:
        hint = "; choose the class by --targets" if given == ["--class"] else ""
        raise InputError(f"{', '.join(given)} goes with {other}, not with {mine}{hint}")
    if images is not None and many["--out"] is None:
        raise InputError("--images needs --out DIR, the folder of tables to write")


def explain_images(model: LoadedModel, atlas: Atlas, request: SetRequest) -> None:
    """Explain a data set and say what came out."""
    from neuronym import probes
    from neuronym.devices import checked_device
    from neuronym.explain import ExplainSetOptions, explain_set
    from neuronym.probes.loading import STREAM

    given = request.options
    targets = given["--targets"] or "predicted"
    device = given["--device"]
    if device is not None:
        model.module.to(checked_device(device))
    defaults = ExplainSetOptions()
    streamed = request.images.startswith(STREAM)
    source = probes.load_pieces(request.images) if streamed else probes.load(request.images)
    with progress("explaining", quiet=request.quiet) as update:
        found = explain_set(
            model,
            source,
            atlas=atlas,
            out=given["--out"],
            sites=request.sites,
            targets=class_of(targets, model.class_names),
            options=ExplainSetOptions(
                most=given["--most"] or defaults.most,
                limit=given["--limit"],
                batch_size=given["--batch-size"] or defaults.batch_size,
                workers=given["--workers"],
                overwrite=given["--overwrite"] is not None,
                progress=update,
            ),
        )
    _show(found)
    typer.echo(str(given["--out"]))


def _show(found: ExplanationSet) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    summary = found.summary
    text = f"{summary['images']} images explained"
    if summary["skipped"]:
        text += f", {summary['skipped']} could not be read (skipped.parquet)"
    if summary["accuracy"] is not None:
        text += f"; {summary['accuracy']:.1%} of {summary['labelled']} labels predicted"
    say(text)
    for site, error in summary["completeness_error"].items():
        say(f"{site}: largest completeness error {error['largest']:+.1e} ({error['image']})")
    classes = summary["explained_classes"]
    site = found.sites[-1].name
    table = Table(box=box.SIMPLE_HEAD, title=f"what carries each class at {escape(site)}")
    table.add_column("class")
    table.add_column("images", justify="right")
    table.add_column("units with the largest mean contribution")
    for index in classes[:_CLASSES]:
        carriers = found.carriers(index, site, most=_CARRIERS)
        units = ", ".join(
            f"{each.name or '(unnamed)'} {each.mean:+.2f} (unit {each.unit})" for each in carriers
        )
        table.add_row(escape(carriers[0].class_name), str(carriers[0].images), escape(units))
    if len(classes) > _CLASSES:
        table.caption = f"and {len(classes) - _CLASSES} more classes in classes.parquet"
    printer(stderr=True).print(table)
