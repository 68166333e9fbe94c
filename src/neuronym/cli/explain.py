"""``neuronym explain``: one image, or a data set, by its winners."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuronym.cli._explain_set import SetRequest, check_request, explain_images
from neuronym.cli._options import Atlas, Overwrite, Quiet, Seed

if TYPE_CHECKING:
    from neuronym.models import LoadedModel
    from neuronym.results import Atlas as AtlasResult
    from neuronym.results import Explanation

__all__ = ["explain"]


def explain(
    atlas: Atlas,
    image: Annotated[
        Path | None, typer.Option("--image", help="The image file to explain.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option("--images", help="Or a whole data set: a SPEC as for dissect; see --out."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="The model; by default the one the atlas was made from."),
    ] = None,
    site: Annotated[
        str | None, typer.Option("--site", help="A site of the atlas; by default the last one.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--class", help="The class to explain, by name or index; default: predicted."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Winners to list.")] = 10,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", min=2, help="Also draw the winners this often: how sure is all this?"
        ),
    ] = None,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", help="Also write the explanation to this JSON file.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --images: the folder of tables to write.")
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            "--targets",
            help="With --images: explain the predicted class, the label, or a class by name or "
            "index; default: predicted.",
        ),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option(
            "--most", min=1, help="With --images: winners to list of each image; default: 50."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="With --images: only the first so many.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="With --images; default: 64.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, help="With --images: threads that decode images."),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="With --images: cpu, cuda …")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Say why the model decides as it does: on one image, or on every image of a data set."""
    from neuronym.errors import InputError, MissingError
    from neuronym.explain import explain as explain_image
    from neuronym.results import Atlas as AtlasResult

    one = {"--class": target, "--samples": samples, "--json": as_json or None, "--save": save}
    many = {
        "--out": out,
        "--targets": targets,
        "--most": most,
        "--limit": limit,
        "--batch-size": batch_size,
        "--workers": workers,
        "--device": device,
    }
    check_request(image, images, one=one, many=many)
    loaded = AtlasResult.load(atlas)
    if images is not None:
        request = SetRequest(images, site, overwrite=overwrite, quiet=quiet, options=many)
        explain_images(_model(model, loaded), loaded, request)
        return
    if image is None or not image.is_file():
        raise MissingError(f"image {str(image)!r} does not exist")
    if save is not None and (save.is_dir() or not save.absolute().parent.is_dir()):
        raise InputError(f"--save takes a file in a folder that exists, not {str(save)!r}")
    explanation = explain_image(
        _model(model, loaded),
        image,
        atlas=loaded,
        site=site,
        target=int(target) if target is not None and target.isdigit() else target,
        samples=samples,
        seed=seed,
    )
    if save is not None:
        explanation.save(save)
    if as_json:
        import json

        typer.echo(json.dumps(explanation.to_dict(), indent=2, ensure_ascii=False))
        return
    _show(explanation, top)


def _model(spec: str | None, atlas: AtlasResult) -> LoadedModel:
    """Load the model that was given, or the one that the atlas was made from."""
    from neuronym.errors import InputError, NeuronymError
    from neuronym.models import load

    if spec is not None:
        return load(spec)
    spec = atlas.model_spec
    try:
        return load(spec)
    except NeuronymError as error:
        raise InputError(
            f"the atlas's model {spec!r} cannot be loaded: {error}; say where it is by --model"
        ) from error


def _show(explanation: Explanation, top: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from neuronym.report import sentence

    console = Console()
    console.print(escape(sentence(explanation)))
    guesses = ", ".join(f"{row.name} {row.probability:.1%}" for row in explanation.predictions[:3])
    console.print(f"[dim]most probable: {escape(guesses)}[/dim]\n")
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("name", "unit", "activation", "contribution"):
        table.add_column(heading, justify="left" if heading == "name" else "right")
    if explanation.competitive:
        table.add_column("won here / usually", justify="right")
    if explanation.sampled is not None:
        table.add_column("won / contribution in samples", justify="right")
    shown, rest = explanation.winners[:top], explanation.winners[top:]
    for winner in shown:
        row = [
            escape(winner.name or "(unnamed)"),
            str(winner.unit),
            f"{winner.activation:.3g}",
            f"{winner.contribution:+.3f}",
        ]
        if explanation.competitive:
            row.append(f"{winner.win_rate or 0:.0%} / {winner.win_rate_usual or 0:.0%}")
        if explanation.sampled is not None:
            row.append(
                f"{winner.sample_win_rate or 0:.0%} / {winner.contribution_mean or 0:+.3f} "
                f"± {winner.contribution_spread or 0:.3f}"
            )
        table.add_row(*row)
    if rest:
        total = sum(winner.contribution for winner in rest)
        table.add_row(f"[dim]{len(rest)} more winners[/dim]", "", "", f"{total:+.3f}")
    console.print(table)
    contributions = sum(winner.contribution for winner in explanation.winners)
    console.print(
        f"logit {explanation.target.logit:.3f} = {explanation.baseline:.3f} without the site "
        f"{contributions:+.3f} from its winners {explanation.completeness_error:+.1e} "
        "(completeness error)"
    )
    if (sampled := explanation.sampled) is not None:
        console.print(
            f"with {sampled.samples} draws of the winners: {escape(explanation.target.name)} "
            f"{sampled.probability_mean:.1%} ± {sampled.probability_spread:.1%}, "
            f"most probable in {sampled.predicted:.0%}"
        )
