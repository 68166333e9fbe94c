"""``neuronym export``: the deterministic network as ONNX or as an exported program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuronym.cli._console import say
from neuronym.cli._options import Model, Quiet

__all__ = ["export"]


def export(
    model: Model,
    out: Annotated[
        Path, typer.Option("--out", help="The file to write: FILE.onnx or FILE.pt2 (torch.export).")
    ],
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not run the file to compare it.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write a model in which the largest unit wins, with a free batch size, for use elsewhere."""
    from neuronym.models import load
    from neuronym.models.export import export as run

    result = run(load(model), out, check=not no_check, overwrite=overwrite)
    if not quiet and result.difference is not None:
        say(
            f"the file's logits differ from the network's by at most {result.difference:.1e} "
            f"(largest logit {result.largest:.3g})"
        )
    typer.echo(str(result.path))
