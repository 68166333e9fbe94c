"""``neuronym audit``: does the model rely on what it should not?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronym.cli._console import printer
from neuronym.cli._made_with import model_of, vision_text_of
from neuronym.cli._options import (
    Atlas,
    BatchSize,
    Images,
    MaybeModel,
    MaybeVisionText,
    Out,
    Overwrite,
    Quiet,
    Seed,
)

if TYPE_CHECKING:
    from neuronym.audit import Concern
    from neuronym.results import Audit, Removal

__all__ = ["audit"]

KIND = "audit"


def audit(
    atlas: Atlas,
    images: Images,
    out: Out,
    concern: Annotated[
        list[str] | None, typer.Option("--concern", help="A text, e.g. 'watermark'; repeat it.")
    ] = None,
    concerns: Annotated[
        Path | None, typer.Option("--concerns", help="A text file, one concern per line.")
    ] = None,
    examples: Annotated[
        list[str] | None,
        typer.Option("--examples", help="NAME=FOLDER: a concern by images that show it."),
    ] = None,
    known: Annotated[
        bool, typer.Option("--known", help="Also the built-in list of known shortcuts.")
    ] = False,
    site: Annotated[
        list[str] | None,
        typer.Option("--site", help="Sites, with wildcards; default: the last that competes."),
    ] = None,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", help="Judge this class only, by name or index; repeat it."),
    ] = None,
    targets: Annotated[
        str, typer.Option("--targets", help="A class's images: those predicted, or by label.")
    ] = "predicted",
    remove: Annotated[
        str, typer.Option("--remove", help="How units are removed: hold, hand_over or silence.")
    ] = "hold",
    level: Annotated[
        float, typer.Option("--level", help="False-discovery rate over all findings.")
    ] = 0.05,
    model: MaybeModel = None,
    vision_text: MaybeVisionText = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="So many images, drawn by the seed.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Findings to print.")] = 15,
    batch_size: BatchSize = 64,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Say how much of each class's evidence rests on a concern, and what changes without it."""
    from neuronym.audit import AuditOptions
    from neuronym.audit import audit as run
    from neuronym.cli._classes import class_of
    from neuronym.cli._console import progress
    from neuronym.files import claim_folder
    from neuronym.probes import load, sampled
    from neuronym.results import Atlas as AtlasResult

    asked = _asked(concern or (), concerns, examples or (), known)
    loaded = AtlasResult.load(atlas)
    probes = sampled(load(images), limit, seed=seed)
    network, reader = model_of(model, loaded), vision_text_of(vision_text, loaded)
    claim = claim_folder(out, kind=KIND, overwrite=overwrite)
    with claim.returned_on_failure(), progress("auditing", quiet=quiet) as update:
        options = AuditOptions(
            targets=targets,
            classes=tuple(class_of(each, network.class_names) for each in class_ or ()),
            action=remove,
            level=level,
            batch_size=batch_size,
            seed=seed,
            progress=update,
        )
        result = run(
            network,
            loaded,
            probes,
            vision_text=reader,
            concerns=asked,
            sites=site or None,
            options=options,
        )
    with claim.staged() as staged:
        result = _write(staged, result)
    if as_json:
        import json

        typer.echo(json.dumps(result.to_dict(), indent=2, ensure_ascii=False))
        return
    _show(result, top)
    typer.echo(str(out))


def _asked(
    texts: Sequence[str], file: Path | None, examples: Sequence[str], known: bool
) -> list[str | Concern]:
    """Return the concerns; one that is named twice counts once."""
    from neuronym.audit import Concern, concerns_from_file, known_shortcuts
    from neuronym.errors import InputError
    from neuronym.probes import load

    found: dict[str, str | Concern] = {" ".join(text.split()): text for text in texts}
    found |= {each.name: each for each in (concerns_from_file(file) if file is not None else ())}
    for pair in examples:
        name, _, folder = pair.partition("=")
        if not name.strip() or not folder:
            raise InputError(f"--examples takes NAME=FOLDER, not {pair!r}")
        found[name.strip()] = Concern(name.strip(), examples=load(folder))
    if known:
        for each in known_shortcuts():
            found.setdefault(each.name, each)
    if not found:
        raise InputError("no concern: give --concern TEXT, --concerns FILE, --examples or --known")
    return list(found.values())


def _write(folder: Path, result: Audit) -> Audit:
    """Write one file per edit, the audit that names them, and the manifest last."""
    import re
    from dataclasses import replace

    from neuronym.files import write_json, write_manifest

    removals: list[Removal] = []
    for number, each in enumerate(result.removals, 1):
        word = re.sub(r"[^a-z0-9]+", "-", each.concern.lower()).strip("-")
        name = f"edit-{number}-{word}.json" if word else f"edit-{number}.json"
        write_json(folder / name, dict(each.edit))
        removals.append(replace(each, file=name))
    made = replace(result, removals=tuple(removals))
    made.save(folder / "audit.json")
    write_manifest(folder, kind=KIND, schema=1, findings=len(made.findings))
    return made


def _show(result: Audit, top: int) -> None:
    from rich.markup import escape

    console = printer()
    found = result.significant()
    console.print(
        f"{len(found)} of {len(result.findings)} pairs of class and concern are significant at a "
        f"false-discovery rate of {result.level:g}"
    )
    console.print(_findings(result, top))
    if result.removals:
        console.print(_removals(result))
    for note in result.notes:
        console.print(f"[dim]note: {escape(note)}[/dim]")


def _table(*headings: str) -> Any:
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD)
    for place, heading in enumerate(headings):
        made.add_column(heading, justify="left" if place < 2 else "right")
    return made


def _findings(result: Audit, top: int) -> Any:
    from rich.markup import escape

    sites = len({row.site for row in result.findings}) > 1
    table = _table(
        "concern", "class", "share (by chance)", "excess, 95 %", "logits", "q", "best shown by"
    )
    for row in [row for row in result.findings if row.rank is not None][:top]:
        concern = f"{row.concern} ({row.site})" if sites else row.concern
        style = None if (row.q_value or 0.0) <= result.level else "dim"
        table.add_row(
            escape(concern),
            escape(row.class_name),
            f"{row.share.value:.0%} ({row.expected:.0%})",
            f"{row.excess.low:+.0%} to {row.excess.high:+.0%}",
            f"{row.logits.value:+.2f}",
            f"{row.q_value:.2g}",
            escape(row.shown[0].id) if row.shown else "–",
            style=style,
        )
    return table


def _removals(result: Audit) -> Any:
    from rich.markup import escape

    table = _table("without", "images", "accuracy before", "after", "change, 95 %", "edit")
    for each in result.removals:
        for row in each.effects:
            if row.class_name is not None:
                continue
            table.add_row(
                escape(each.concern),
                {"all": "all", "with": "that show it", "without": "that do not"}[row.group],
                "–" if row.before is None else f"{row.before:.1%}",
                "–" if row.after is None else f"{row.after:.1%}",
                "–" if row.change is None else f"{row.change.low:+.1%} to {row.change.high:+.1%}",
                (each.file or "") if row.group == "all" else "",
            )
    return table
