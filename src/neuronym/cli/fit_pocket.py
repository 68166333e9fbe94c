"""``neuronym fit-pocket``: fit the small arrays of the embedded vision-text model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuronym.cli._console import progress
from neuronym.cli._options import Out, Quiet, Seed

__all__ = ["fit_pocket"]


def fit_pocket(
    photos: Annotated[
        str, typer.Option("--photos", help="Reference photos: any SPEC of --images.")
    ],
    out: Out,
    wordnet: Annotated[
        Path | None, typer.Option("--wordnet", help="WordNet 3.0 dictionary folder.")
    ] = None,
    variant: Annotated[
        str, typer.Option("--variant", help="efficientnet_lite0, _lite1 or _lite2.")
    ] = "efficientnet_lite0",
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Fit the pocket model's arrays on photos, WordNet and rendered scenes; minutes on a CPU."""
    from neuronym import probes
    from neuronym.fit_pocket import fit_pocket as run

    with progress("fitting", quiet=quiet) as update:
        written = run(
            probes.load(photos),
            out,
            wordnet=wordnet,
            variant=variant,
            seed=seed,
            progress=update,
        )
    typer.echo(str(written))
