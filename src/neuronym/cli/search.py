"""``neuronym search``: units by a text, a picture, another unit, or the class they drive."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronym.calls import is_index
from neuronym.cli._console import printer
from neuronym.cli._made_with import model_of, vision_text_of
from neuronym.cli._options import Atlas, MaybeVisionText

if TYPE_CHECKING:
    from neuronym.results import Atlas as AtlasResult
    from neuronym.results import ClassUnit
    from neuronym.search import NameHit, TextMatch

__all__ = ["search"]


def search(
    atlas: Atlas,
    text: Annotated[
        str | None, typer.Argument(help="A word or phrase; with * or ? a pattern of names.")
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", help="An example image; repeat for more."),
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", help="SITE/UNIT: units that see what this one sees.")
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", help="Units that carry this class (with --explanations)."),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option("--unit", help="SITE/UNIT: classes that it drives (with --explanations)."),
    ] = None,
    explanations: Annotated[
        Path | None,
        typer.Option("--explanations", help="A folder of neuronym explain --images … --out."),
    ] = None,
    site: Annotated[
        str | None,
        typer.Option("--site", help="Only these sites: names with wildcards; commas join."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Rows to list.")] = 20,
    level: Annotated[
        float, typer.Option("--level", help="False-discovery rate over the units searched.")
    ] = 0.05,
    specific: Annotated[
        float,
        typer.Option("--specific", help="Largest share of other words that may fit as well."),
    ] = 0.01,
    show_all: Annotated[
        bool, typer.Option("--all", help="Also list units that do not match, marked so.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", help="For --image: the model, if not where the atlas says."),
    ] = None,
    vision_text: MaybeVisionText = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Find units: by TEXT, by example images, by likeness to a unit, or by class."""
    from neuronym.errors import InputError
    from neuronym.results import Atlas as AtlasResult

    asked = {
        "TEXT": text, "--image": image, "--like": like, "--class": class_name, "--unit": unit
    }  # fmt: skip
    given = [name for name, value in asked.items() if value]
    if len(given) != 1:
        said = " and ".join(given) or "nothing"
        raise InputError(f"search for one of {', '.join(asked)}, not for {said}")
    if (class_name or unit) and explanations is None:
        raise InputError(f"{given[0]} reads the folder of --explanations DIR")
    if unit and site:
        raise InputError(f"--unit {unit} names its site; leave out --site {site}")
    loaded = AtlasResult.load(atlas)
    if text:
        request = _Request(top=top, site=site, level=level, specific=specific, show_all=show_all)
        _by_text(loaded, text, vision_text, request, as_json)
    elif image:
        _by_image(loaded, image, model, site, (top, as_json))
    elif like:
        _by_likeness(loaded, like, site, (top, as_json))
    elif explanations is not None:
        _by_class(loaded, explanations, (class_name, unit, site), (top, as_json))


class _Request:
    def __init__(
        self, *, top: int, site: str | None, level: float, specific: float, show_all: bool
    ) -> None:
        self.top, self.site, self.show_all = top, site, show_all
        self.level, self.specific = level, specific


def _by_text(
    atlas: AtlasResult, text: str, spec: str | None, request: _Request, as_json: bool
) -> None:
    from neuronym.errors import InputError
    from neuronym.search import match_name, match_text
    from neuronym.search.names import text_encoder

    if any(sign in text for sign in "*?["):  # a pattern says nothing about images
        hits = match_name(atlas, text, sites=request.site)
        if not hits:
            raise InputError(f"no unit has a name like {text!r}")
        match = None
    else:
        model = vision_text_of(spec, atlas)
        match = match_text(
            atlas,
            model,
            text,
            sites=request.site,
            level=request.level,
            specific=request.specific,
        )
        hits = match_name(atlas, text, sites=request.site, encoder=text_encoder(model))
        if not (match.matching or hits or request.show_all):
            raise InputError(f"{match.nothing()}; see the ranking by --all")
    rows = _text_rows(match, hits, request.show_all)
    found = sum(row["found_by"] != "" for row in rows)
    if as_json:
        facts = {} if match is None else match.to_dict()
        _print_json({"text": text, **facts, "found": found, "units": rows[: request.top]})
        return
    columns = ("unit", "name", "found by", "correlation", "p", "q", "other words", "name likeness")
    table = [
        (
            row["unit"],
            row["name"] or "–",
            row["found_by"] or "no match",
            _number(row["correlation"], "+.3f"),
            _number(row["p_value"], ".1g"),
            _number(row["q_value"], ".1g"),
            _percent(row["rank_among_words"]),
            _number(row["name_similarity"], ".2f"),
        )
        for row in rows
    ]
    _show(f"{found} units for {text!r}", columns, table, request.top)


def _text_rows(
    match: TextMatch | None, hits: Sequence[NameHit], show_all: bool
) -> list[dict[str, Any]]:
    """Join what fits the images with what fits the names, the images' evidence first."""
    by_name = {hit.key: hit for hit in hits}
    rows = []
    for unit in () if match is None else match.units:
        hit = by_name.pop(unit.key, None)
        if not (unit.matches or hit is not None or show_all):
            continue
        kinds = ["images"] if unit.matches else []
        kinds += [] if hit is None else [f"{hit.kind} name"]
        row = {
            "unit": unit.key,
            "name": unit.name,
            "found_by": ", ".join(kinds),
            "correlation": unit.correlation,
            "p_value": unit.p_value,
            "q_value": unit.q_value,
            "rank_among_words": unit.rank_among_words,
            "name_similarity": None if hit is None else hit.similarity,
        }
        rows.append(row)
    for hit in by_name.values():
        row = dict.fromkeys(("correlation", "p_value", "q_value", "rank_among_words"))
        rows.append(
            {"unit": hit.key, "name": hit.name, "found_by": f"{hit.kind} name"}
            | row
            | {"name_similarity": hit.similarity}
        )

    def order(row: dict[str, Any]) -> int:
        return 0 if row["found_by"].startswith("images") else 1 if row["found_by"] else 2

    return sorted(rows, key=order)


def _by_image(
    atlas: AtlasResult,
    images: Sequence[Path],
    spec: str | None,
    site: str | None,
    shown: tuple[int, bool],
) -> None:
    from neuronym.errors import MissingError
    from neuronym.search import match_image

    for path in images:
        if not path.is_file():
            raise MissingError(f"image {str(path)!r} does not exist")
    match = match_image(model_of(spec, atlas), atlas, list(images), sites=site)
    top, as_json = shown
    if as_json:
        made = match.to_dict()
        _print_json({**made, "units": made["units"][:top]})
        return
    rows = [
        (
            unit.key,
            unit.name or "–",
            f"{unit.z:+.2f}",
            f"{unit.activation:.4g}",
            f"{unit.agree} of {match.images}",
            "–" if unit.won is None else f"{unit.won} of {match.images}",
        )
        for unit in match.units
    ]
    columns = ("unit", "name", "z", "activation", "z of 2 or more", "won")
    what = "1 image" if match.images == 1 else f"{match.images} images"
    _show(f"units that fire unusually strongly on {what}", columns, rows, top)


def _by_likeness(atlas: AtlasResult, key: str, site: str | None, shown: tuple[int, bool]) -> None:
    from neuronym.search import similar_units

    where, index = _unit(key)
    top, as_json = shown
    found = similar_units(atlas, where, index, sites=site, most=top)
    if as_json:
        rows = [{"unit": e.key, "name": e.name, "similarity": e.similarity} for e in found]
        _print_json({"like": key, "units": rows})
        return
    table = [(each.key, each.name or "–", f"{each.similarity:+.3f}") for each in found]
    name = atlas.unit(where, index).name
    title = f"units like {key}" + (f" ({name!r})" if name else "")
    _show(title, ("unit", "name", "similarity"), table, top)


def _by_class(
    atlas: AtlasResult,
    folder: Path,
    asked: tuple[str | None, str | None, str | None],
    shown: tuple[int, bool],
) -> None:
    from neuronym.cli._classes import class_of
    from neuronym.errors import InputError
    from neuronym.results import ExplanationSet

    class_name, unit, site = asked
    top, as_json = shown
    explained = ExplanationSet.load(folder)
    mine, theirs = (
        each.provenance.get("model", {}).get("fingerprint") for each in (atlas, explained)
    )
    if None not in (mine, theirs) and mine != theirs:
        raise InputError(
            f"explanations {str(folder)!r} are of another model ({theirs}) than the atlas ({mine})"
        )
    if class_name is not None:
        wanted = class_of(class_name, explained.class_names.values())
        found = explained.carriers(wanted, site, most=top)
        title = f"units that carry {found[0].class_name!r} at {found[0].site}"
    else:
        where, number = _unit(str(unit))
        found = explained.drives(where, number, most=top)
        title = f"classes that {unit} drives"
    _show_classes(found, title, as_json, by_unit=class_name is not None)


def _show_classes(found: Sequence[ClassUnit], title: str, as_json: bool, *, by_unit: bool) -> None:
    if as_json:
        from dataclasses import asdict

        _print_json({"title": title, "found": [asdict(each) for each in found]})
        return
    first = ("unit", "name") if by_unit else ("class",)
    columns = (*first, "mean contribution", "spread", "share of evidence", "wins", "images")
    table = []
    for each in found:
        start = (f"{each.site}/{each.unit}", each.name or "–") if by_unit else (each.class_name,)
        row = (
            f"{each.mean:+.3f}",
            _number(each.spread, ".3f"),
            _percent(each.share),
            _percent(each.wins),
            str(each.images),
        )
        table.append((*start, *row))
    _show(title, columns, table, len(table))


def _unit(key: str) -> tuple[str, int]:
    from neuronym.errors import InputError

    site, _, index = key.rpartition("/")
    if not site or not is_index(index):
        raise InputError(f"a unit is SITE/UNIT such as 'head.act/17', not {key!r}")
    return site, int(index)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2g} %"


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], top: int) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE)
    for column in columns:
        text = column in ("unit", "name", "found by", "class")
        table.add_column(column, justify="left" if text else "right", overflow="fold")
    for row in rows[:top]:
        table.add_row(*(escape(cell) for cell in row))
    printer().print(table)
    if len(rows) > top:
        typer.echo(f"{len(rows) - top} more; see them by --top {len(rows)}")
