"""``neuronym evaluate``: how good an explanation or a name is, as a scorecard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from neuronym.cli._console import printer, progress, say
from neuronym.cli._made_with import model_of
from neuronym.cli._options import (
    Atlas,
    BatchSize,
    Device,
    Images,
    MaybeModel,
    Out,
    Overwrite,
    Quiet,
    Seed,
)

if TYPE_CHECKING:
    from neuronym.results import Metric, Scorecard

__all__ = ["evaluate"]

KIND = "evaluation"
SCHEMA = 1


def evaluate(
    atlas: Atlas,
    images: Images,
    out: Out,
    metrics: Annotated[
        str, typer.Option("--metrics", help="faithfulness, truth (scenes only); commas join.")
    ] = "faithfulness",
    model: MaybeModel = None,
    site: Annotated[
        list[str] | None,
        typer.Option("--site", help="Sites, with wildcards; repeat for more. Default: all."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many images, drawn at random.")
    ] = None,
    order: Annotated[
        str,
        typer.Option("--order", help="Winners removed first: signed, magnitude or activation."),
    ] = "signed",
    steps: Annotated[
        int, typer.Option("--steps", min=2, help="Points of a deletion curve after the first.")
    ] = 20,
    random_orders: Annotated[
        int, typer.Option("--random-orders", min=1, help="Shuffles of the winners per image.")
    ] = 5,
    device: Device = None,
    batch_size: BatchSize = 128,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scorecard as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure explanations and names on other images: faithfulness, truth."""
    from neuronym import probes
    from neuronym.evaluate import EvaluateOptions, FaithfulnessOptions
    from neuronym.evaluate import evaluate as run
    from neuronym.files import claim_folder, write_manifest
    from neuronym.results import Atlas as AtlasResult

    loaded = AtlasResult.load(atlas)
    asked = [name.strip() for name in metrics.split(",") if name.strip()]
    settings = FaithfulnessOptions(order=order, steps=steps, random_orders=random_orders)
    claim = claim_folder(out, kind=KIND, overwrite=overwrite)
    with claim.returned_on_failure(), progress("evaluating", quiet=quiet) as update:
        found = run(
            model_of(model, loaded),
            probes.load(images),
            atlas=loaded,
            metrics=asked,
            options=EvaluateOptions(
                sites=tuple(site or ()),
                limit=limit,
                seed=seed,
                batch_size=batch_size,
                device=device,
                faithfulness=settings,
                progress=update,
            ),
        )
    with claim.staged() as folder:
        found.save(folder)
        write_manifest(folder, kind=KIND, schema=SCHEMA, metrics=list(found.measured))
    if not quiet:
        _notes(found.scorecard)
    if as_json:
        import json

        from neuronym.files import read_json

        typer.echo(json.dumps(read_json(out / "scorecard.json"), indent=2, ensure_ascii=False))
        return
    _show(found.headlines)
    typer.echo(str(out / "scorecard.json"))


def _notes(card: Scorecard) -> None:
    for facts in card.provenance["metrics"].values():
        if facts.get("skipped"):
            first = ", ".join(facts["skipped_ids"][:3])
            more = " …" if facts["skipped"] > 3 else ""
            say(f"{facts['skipped']} images could not be read and were skipped: {first}{more}")
        for note in facts["notes"]:
            say(note)


def _show(rows: Sequence[Metric]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("metric", "value", "95 % interval", "n"):
        table.add_column(
            heading, justify="left" if heading == "metric" else "right", overflow="fold"
        )
    for row in rows:
        interval = f"{row.interval[0]:.3f} to {row.interval[1]:.3f}" if row.interval else "–"
        table.add_row(escape(row.name), f"{row.value:.3f}", interval, str(row.n))
    printer().print(table)
