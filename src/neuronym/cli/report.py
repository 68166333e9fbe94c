"""``neuronym report``: a page that opens from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    from neuronym.files import output_folder, read_json
    from neuronym.report import write_report
    from neuronym.results import Atlas as AtlasResult
    from neuronym.results import Explanation

    loaded = AtlasResult.load(atlas)
    explained = [Explanation.load(path) for path in explanation or ()]
    figures = read_json(summary, what="summary") if summary else None
    page = write_report(
        loaded,
        output_folder(out, kind="report", overwrite=overwrite),
        explanations=explained,
        summary=figures,
    )
    typer.echo(str(page))
