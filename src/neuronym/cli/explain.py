"""``neuronym explain``: one image, or a data set, by its winners."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronym.cli._classes import class_of
from neuronym.cli._console import printer
from neuronym.cli._explain_files import beside, check_pictures, pictures_of
from neuronym.cli._explain_set import SetRequest, check_request, explain_images
from neuronym.cli._made_with import model_of
from neuronym.cli._options import Atlas, Overwrite, Quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from neuronym.results import Explanation, Winner

__all__ = ["explain"]

_TOP = 10  # winners that are listed
_WORDS = ("name", "runner-up")
_LEAST = {"name": 24, "runner-up": 16}  # characters of these columns, whose words may wrap
_SPARE = ("won / usually", "activation", "in samples", "place", "runner-up", "p", "change")
"""What a narrow terminal does without, first of all the first."""


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
        list[str] | None,
        typer.Option(
            "--site",
            help="A site of the atlas; by default the last one. Several: repeat it, join by "
            "commas, use wildcards, or 'all'.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--class", help="The class to explain, by name or index; default: predicted."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Explain why the class and not this one."),
    ] = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, help="Winners to list; default: 10.")
    ] = None,
    causal: Annotated[
        int,
        typer.Option(
            "--causal", min=0, help="Silence this many winners, and hand them over, for real."
        ),
    ] = 0,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", min=2, help="Also draw the winners this often: how sure is all this?"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of the samples, for results that repeat.")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", help="Write where the winners are active into this folder."),
    ] = None,
    prefix_tokens: Annotated[
        int | None,
        typer.Option(
            "--prefix-tokens", min=0, help="Tokens before the patches, where the model is silent."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            help="Also write it to this JSON file; of several sites, to NAME.SITE.json.",
        ),
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
    from neuronym.explain import ExplainOptions, asks_for_several, examine, select_sites
    from neuronym.results import Atlas as AtlasResult

    one = {
        "--class": target,
        "--against": against,
        "--top": top,
        "--causal": causal or None,
        "--samples": samples,
        "--seed": seed,
        "--pictures": pictures,
        "--prefix-tokens": prefix_tokens,
        "--json": as_json or None,
        "--save": save,
    }
    many = {
        "--out": out,
        "--targets": targets,
        "--most": most,
        "--limit": limit,
        "--batch-size": batch_size,
        "--workers": workers,
        "--device": device,
        "--overwrite": overwrite or None,
    }
    check_request(image, images, one=one, many=many)
    if images is not None:
        loaded = AtlasResult.load(atlas)
        select_sites(loaded, site)  # before the model is loaded
        request = SetRequest(images, site, quiet=quiet, options=many)
        explain_images(model_of(model, loaded), loaded, request)
        return
    if image is None:
        raise InputError("give --image FILE, or --images SPEC --out DIR")
    loaded = AtlasResult.load(atlas)
    if not image.is_file():
        raise MissingError(f"image {str(image)!r} {_is_no_file(image)}")
    if save is not None and (save.is_dir() or not save.absolute().parent.is_dir()):
        raise InputError(f"--save takes a file in a folder that exists, not {str(save)!r}")
    several = asks_for_several(site)
    chosen = select_sites(loaded, site)  # before the model is loaded
    if pictures is not None:
        check_pictures(pictures, [each.name for each in chosen] if several else [])
    made = model_of(model, loaded)
    names = made.class_names
    found = examine(
        made,
        image,
        atlas=loaded,
        sites=site,
        target=None if target is None else class_of(target, names),
        against=None if against is None else class_of(against, names),
        samples=samples,
        seed=seed or 0,
        options=ExplainOptions(causal=causal, prefix_tokens=prefix_tokens),
    )
    explanations = [each.explanation for each in found]
    top = top or _TOP
    if save is not None:  # before the pictures, which may fail
        for each in explanations:
            each.save(beside(save, each.site) if several else save)
    written = pictures_of(made, found, pictures, top=top, several=several)
    if as_json:
        import json

        data = [each.to_dict() for each in explanations]
        typer.echo(json.dumps(data if several else data[0], indent=2, ensure_ascii=False))
        return
    _show_all(explanations, top)
    for path in written:
        typer.echo(str(path))


def _is_no_file(image: Path) -> str:
    return "is a folder, not an image file" if image.is_dir() else "does not exist"


def _show_all(explanations: Sequence[Explanation], top: int) -> None:
    from rich.markup import escape

    console = printer()
    first = explanations[0]
    guesses = ", ".join(f"{row.name} {row.probability:.1%}" for row in first.predictions[:3])
    for number, explanation in enumerate(explanations):
        if len(explanations) > 1:
            console.print(f"[bold]{escape(explanation.site)}[/bold]")
        console.print(escape(explanation.sentence()))
        if number == 0:
            console.print(f"[dim]most probable: {escape(guesses)}[/dim]")
        console.print()
        _show(console, explanation, top)
    if len(explanations) > 1:
        console.print("[dim]Each site accounts for the same logit: do not add them.[/dim]")


def _show(console: Console, explanation: Explanation, top: int) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from neuronym.results.numbers import signed
    from neuronym.results.sentence import decimals

    places = decimals(explanation)
    shown, rest = _chosen(explanation, top)
    columns, left_out = _fitting(_columns(explanation), shown, console.width, places=places)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in columns:
        words = heading in _WORDS
        table.add_column(heading, justify="left" if words else "right", no_wrap=not words)
    for winner in shown:
        table.add_row(*(escape(_cell(heading, winner, places)) for heading in columns))
    if rest:
        total = sum(winner.contribution for winner in rest)
        sum_of_rest = signed(total, places)
        cells = {"name": f"[dim]{len(rest)} more winners[/dim]", "contribution": sum_of_rest}
        table.add_row(*(cells.get(heading, "") for heading in columns))
    console.print(table)
    if left_out:
        console.print(f"[dim]no room for: {', '.join(left_out)} (see --json)[/dim]")
    if explanation.no_map is not None:
        console.print(f"[dim]no places: {escape(explanation.no_map)}[/dim]")
    _show_sum(console, explanation)


def _chosen(explanation: Explanation, top: int) -> tuple[list[Winner], list[Winner]]:
    """Split winners into those with a row and the rest; those of the sentence have a row."""
    from neuronym.results.sentence import named

    favour, against = named(explanation)
    must = {winner.unit for winner in (*favour, *against)}
    others = [winner.unit for winner in explanation.winners if winner.unit not in must]
    rows = must | set(others[: max(top - len(must), 0)])
    shown = [winner for winner in explanation.winners if winner.unit in rows]
    return shown, [winner for winner in explanation.winners if winner.unit not in rows]


def _fitting(
    columns: Sequence[str], winners: Sequence[Winner], width: int, *, places: int
) -> tuple[list[str], list[str]]:
    """Leave out what matters least until the table is as narrow as the terminal."""
    needs = {
        heading: _LEAST[heading]
        if heading in _LEAST
        else max(map(len, [heading, *(_cell(heading, winner, places) for winner in winners)]))
        for heading in columns
    }
    kept, left_out = list(columns), []
    for heading in _SPARE:
        if sum(needs[each] + 2 for each in kept) <= width:
            break
        if heading in kept:
            kept.remove(heading)
            left_out.append(heading)
    return kept, left_out


def _columns(explanation: Explanation) -> list[str]:
    """Return the headings that this explanation can fill."""
    winners = explanation.winners
    has: dict[str, Any] = {
        "name": True,
        "p": any(winner.p_value is not None for winner in winners),
        "unit": True,
        "activation": True,
        "contribution": True,
        "won / usually": explanation.competitive,
        "runner-up": any(winner.runner_up is not None for winner in winners),
        "change": any(winner.runner_up is not None for winner in winners),
        "silenced": any(winner.effect_silenced is not None for winner in winners),
        "handed over": any(winner.effect_handed_over is not None for winner in winners),
        "place": explanation.grid is not None,
        "in samples": explanation.sampled is not None,
    }
    return [heading for heading, wanted in has.items() if wanted]


def _cell(heading: str, winner: Winner, places: int) -> str:
    from neuronym.results.numbers import signed

    second, place = winner.runner_up, winner.place
    cells = {
        "name": winner.name or _unnamed(winner),
        "p": "" if winner.p_value is None else f"{winner.p_value:.2g}",
        "unit": str(winner.unit),
        "activation": f"{winner.activation:.3g}",
        "contribution": signed(winner.contribution, places),
        "won / usually": f"{winner.win_rate or 0:.0%} / {winner.win_rate_usual or 0:.0%}",
        "runner-up": "" if second is None else f"{second.name or '(unnamed)'} ({second.unit})",
        "change": "" if second is None else signed(second.change, places),
        "silenced": _effect(winner.effect_silenced, places),
        "handed over": _effect(winner.effect_handed_over, places),
        "place": "" if place is None else f"{place.centre[0]:.0%}, {place.centre[1]:.0%}",
        "in samples": f"{winner.sample_win_rate or 0:.0%} / {winner.contribution_mean or 0:+.3f} "
        f"± {winner.contribution_spread or 0:.3f}",
    }
    return cells[heading]


def _unnamed(winner: Winner) -> str:
    if winner.candidate is None:
        return "(unnamed)"
    return f"(unnamed: best candidate {winner.candidate})"


def _effect(value: float | None, places: int) -> str:
    from neuronym.results.numbers import signed

    return "" if value is None else signed(value, places)


def _show_sum(console: Console, explanation: Explanation) -> None:
    from rich.markup import escape

    from neuronym.results.numbers import fixed, signed
    from neuronym.results.sentence import decimals

    rival, places = explanation.against, decimals(explanation)
    what = "logit" if rival is None else f"logit minus that of {escape(rival.name)}"
    console.print(
        f"{what} {fixed(explanation.explained, places)} = "
        f"{fixed(explanation.baseline, places)} without the site "
        f"{signed(explanation.support + explanation.opposition, places)} from its winners "
        f"({signed(explanation.support, places)} for, {signed(explanation.opposition, places)} "
        f"against) {explanation.completeness_error:+.1e} (completeness error)"
    )
    if (sampled := explanation.sampled) is not None:
        console.print(
            f"with {sampled.samples} draws of the winners: {escape(explanation.target.name)} "
            f"{sampled.probability_mean:.1%} ± {sampled.probability_spread:.1%}, "
            f"most probable in {sampled.predicted:.0%}"
        )
