"""``neuronym ablate``: what if units were silent, handed over, forced or scaled?"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronym.cli._changes import action_of, changes
from neuronym.cli._console import printer, progress
from neuronym.cli._made_with import model_of, vision_text_of
from neuronym.cli._options import (
    BatchSize,
    MaybeImages,
    MaybeModel,
    MaybeVisionText,
    Overwrite,
    Quiet,
)

if TYPE_CHECKING:
    from neuronym.intervene import EffectOptions
    from neuronym.models import Change, Edit, LoadedModel
    from neuronym.results import AccuracyChange, EffectReport, ImageEffect
    from neuronym.results import Atlas as AtlasResult

__all__ = ["ablate"]

KIND = "ablation"
_Texts = list[str] | None


def ablate(
    model: MaybeModel = None,
    atlas: Annotated[
        Path | None,
        typer.Option("--atlas", help="A finished dissection: its model, and its units' names."),
    ] = None,
    silence: Annotated[
        _Texts,
        typer.Option("--silence", help="SITE/UNIT passes nothing. Commas and ranges: act/3,5-7."),
    ] = None,
    hand_over: Annotated[
        _Texts,
        typer.Option(
            "--hand-over", help="SITE/UNIT[=RIVAL] cannot win: the runner-up (RIVAL) passes."
        ),
    ] = None,
    force: Annotated[
        _Texts,
        typer.Option(
            "--force",
            help="SITE/UNIT wins its block everywhere; where none compete: SITE/UNIT=VALUE.",
        ),
    ] = None,
    scale: Annotated[
        _Texts, typer.Option("--scale", help="SITE/UNIT=FACTOR: its output times FACTOR.")
    ] = None,
    name: Annotated[
        _Texts,
        typer.Option("--name", help="All units of the atlas with such a name: '*water*'."),
    ] = None,
    match: Annotated[
        _Texts,
        typer.Option("--match", help="All units of the atlas that fit this text significantly."),
    ] = None,
    do: Annotated[
        str, typer.Option("--do", help="With --name, --match: silence, hand_over or scale=FACTOR.")
    ] = "silence",
    edit: Annotated[
        Path | None, typer.Option("--edit", help="An edit that was saved before (edit.json).")
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="Show the effect on this image file.")
    ] = None,
    images: MaybeImages = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder for edit.json and the effects.")
    ] = None,
    apply: Annotated[
        Path | None, typer.Option("--apply", help="The folder for the edited model, for good.")
    ] = None,
    vision_text: MaybeVisionText = None,
    batch_size: BatchSize = 64,
    largest: Annotated[
        int, typer.Option("--largest", min=0, help="Images shown, those that change most.")
    ] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Say what changes if units are silenced, hand over, are forced or scaled; keep the edit."""
    from neuronym.errors import InputError, MissingError
    from neuronym.files import claim_folder
    from neuronym.intervene import EffectOptions, make_edit, save_edited
    from neuronym.results import Atlas as AtlasResult

    found = AtlasResult.load(atlas) if atlas is not None else None
    wanted = changes(silence or (), hand_over or (), force or (), scale or ())
    wanted += _found(found, name or (), match or (), do, vision_text)
    if not wanted and edit is None:
        raise InputError("nothing to change: give --silence, --hand-over, --force, --scale, ...")
    if not (image or images or out or apply):
        raise InputError(
            "nothing to do with the edit: give --image or --images to see its effect, --out to "
            "keep it, --apply for the edited model"
        )
    _check_apart(out, apply)
    for path in image or ():
        if not path.is_file():
            raise MissingError(f"image {str(path)!r} does not exist")
    loaded = model_of(model, found)
    made = make_edit(loaded, [*_earlier(edit, loaded), *wanted])
    claims = {
        place: claim_folder(place, kind=kind, overwrite=overwrite)
        for place, kind in ((out, KIND), (apply, "edited-model"))
        if place is not None
    }
    options = EffectOptions(batch_size=batch_size, largest=largest)
    with contextlib.ExitStack() as stack:
        for claim in claims.values():
            stack.enter_context(claim.returned_on_failure())
        effects = _effects(loaded, made, image or (), images, options, quiet)
        if apply is not None:
            save_edited(loaded, made, apply, overwrite=overwrite)
        if out is not None:
            with claims[out].staged() as staged:
                _write(staged, made, effects)
    if as_json:
        import json

        shown = {key: effect.to_dict() for key, effect in effects.items()}
        typer.echo(json.dumps({"edit": made.to_dict(), **shown}, indent=2, ensure_ascii=False))
        return
    _show(made, found, effects)
    for place in (out, apply):
        if place is not None:
            typer.echo(str(place))


def _check_apart(out: Path | None, apply: Path | None) -> None:
    """Refuse two outputs of which one would overwrite the other."""
    from neuronym.errors import InputError

    if out is None or apply is None:
        return
    first, second = out.resolve(), apply.resolve()
    if first == second or first in second.parents or second in first.parents:
        where = "the same folder" if first == second else "folders one inside the other"
        raise InputError(
            f"--out {str(out)!r} and --apply {str(apply)!r} are {where}; give two separate ones"
        )


def _found(
    atlas: AtlasResult | None,
    patterns: Sequence[str],
    texts: Sequence[str],
    do: str,
    vision_text: str | None,
) -> list[Change]:
    """Return what is done to the units that match a name or a text."""
    from neuronym.errors import InputError
    from neuronym.intervene import changes_to, units_named
    from neuronym.search import match_texts

    if not patterns and not texts:
        return []
    if atlas is None:
        option = "--name" if patterns else "--match"
        raise InputError(f"{option} needs --atlas, which says what the units see")
    action, factor = action_of(do)
    units = {unit.key: unit for pattern in patterns for unit in units_named(atlas, pattern)}
    if texts:
        for match in match_texts(atlas, vision_text_of(vision_text, atlas), texts):
            if not match.matching:
                raise InputError(match.nothing())
            units |= {each.key: atlas.unit(each.site, each.unit) for each in match.matching}
    return list(changes_to(atlas, list(units.values()), action, factor=factor))


def _earlier(path: Path | None, model: LoadedModel) -> tuple[Change, ...]:
    from neuronym.models import Edit, check_made_from

    if path is None:
        return ()
    edit = Edit.load(path)
    check_made_from(model, edit.provenance, what=f"the edit {str(path)!r}")
    return edit.changes


def _effects(
    model: LoadedModel,
    edit: Edit,
    image: Sequence[Path],
    images: str | None,
    options: EffectOptions,
    quiet: bool,
) -> dict[str, EffectReport]:
    """Return the effects under the names of their files: on single images, on a data set."""
    from neuronym import probes
    from neuronym.intervene import effect

    found = {}
    if image:
        found["image"] = effect(model, edit, images=list(image), options=options)
    if images is not None:
        source = probes.load(images)
        with progress("images", quiet=quiet) as step:
            found["effect"] = effect(
                model, edit, probes=source, options=replace(options, progress=step)
            )
    return found


def _write(folder: Path, edit: Edit, effects: dict[str, EffectReport]) -> None:
    from neuronym.files import write_manifest

    edit.save(folder / "edit.json")
    for name, effect in effects.items():
        effect.save(folder / f"{name}.json")
    write_manifest(folder, kind=KIND, schema=1, **edit.provenance)


def _show(edit: Edit, atlas: AtlasResult | None, effects: dict[str, EffectReport]) -> None:
    from rich.markup import escape

    console = printer()
    for change in edit.changes:
        console.print(escape(f"{change}{_names(change, atlas)}"), soft_wrap=True)
    if "image" in effects:
        console.print()
        for shown in effects["image"].shown:
            _show_image(console, shown)
    if "effect" in effects:
        _show_set(console, effects["effect"])


def _names(change: Change, atlas: AtlasResult | None) -> str:
    """Return the names of the units of a change, where the atlas has the site."""
    if atlas is None or change.site not in {site.name for site in atlas.sites}:
        return ""
    names = [atlas.unit(change.site, unit).name or "unnamed" for unit in change.units]
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return f" ({', '.join(names[:6])}{more})"


def _show_image(console: Any, shown: ImageEffect) -> None:
    from rich.markup import escape

    what = f"{shown.before} → {shown.after}" if shown.flipped else f"still {shown.before}"
    label = "" if shown.label is None else f" (label {shown.label})"
    console.print(escape(f"{shown.id}{label}: {what}"))
    for each in shown.classes:
        console.print(
            escape(
                f"  {each.name}: {each.probability_before:.1%} → {each.probability_after:.1%}, "
                f"logit {each.logit_before:.3f} → {each.logit_after:.3f}"
            )
        )


def _show_set(console: Any, effect: EffectReport) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    broken = f", {len(effect.skipped)} broken ones left out" if effect.skipped else ""
    console.print(
        f"\n{effect.images} images{broken}: {effect.flipped} predictions changed, "
        f"probabilities moved by {effect.mean_shift:.1%} on average"
    )
    if effect.accuracy is not None:
        table = Table(box=box.SIMPLE_HEAD)
        for heading in ("class", "images", "before", "after", "difference (95 %)", "p"):
            table.add_column(heading, justify="left" if heading == "class" else "right")
        for change in (effect.accuracy, *effect.per_class):
            table.add_row(*_row(change))
        console.print(table)
    for flip in effect.flips[:5]:
        console.print(escape(f"{flip.before} → {flip.after}: {flip.images}"))
    if effect.shown:
        console.print("\nchanged most:")
    for shown in effect.shown:
        _show_image(console, shown)


def _row(change: AccuracyChange) -> list[str]:
    from rich.markup import escape

    low, high = change.interval
    return [
        escape(change.name),
        str(change.images),
        f"{change.before:.1%}",
        f"{change.after:.1%}",
        f"{100 * change.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
        f"{change.p_value:.2g}",
    ]
