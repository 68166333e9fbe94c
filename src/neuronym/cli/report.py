"""``neuronym report``: a page that opens from disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from neuronym.cli._options import Atlas, Out, Overwrite

__all__ = ["report"]


def report(
    atlas: Atlas,
    out: Out,
    explanation: Annotated[
        list[Path] | None,
        typer.Option("--explanation", help="An explanation to show (JSON file); repeat for more."),
    ] = None,
    summary: Annotated[
        Path | None, typer.Option("--summary", help="A summary.json whose figures are shown.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a static page about an atlas; it opens from disk and needs no network."""
    from neuronym.report import ReportOptions, write_report
    from neuronym.results import Atlas as AtlasResult
    from neuronym.results import Explanation

    loaded = AtlasResult.load(atlas)
    explained = [Explanation.load(path) for path in explanation or ()]
    figures = _summary(summary) if summary else None
    page = write_report(
        loaded,
        out,
        explanations=explained,
        summary=figures,
        options=ReportOptions(overwrite=overwrite),
    )
    typer.echo(str(page))


def _summary(path: Path) -> Mapping[str, Any]:
    """Read a summary; a JSON file of anything else is refused."""
    from neuronym.errors import UnreadableError
    from neuronym.files import read_json

    figures = read_json(path, what="summary")
    if not isinstance(figures, dict) or not {"accuracy", "units", "active_fraction"} & set(figures):
        raise UnreadableError(
            f"{str(path)!r} is not a summary: it holds none of accuracy, units, active_fraction"
        )
    return figures
