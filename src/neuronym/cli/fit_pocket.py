"""``neuronym fit-pocket``: fit the small arrays of the embedded vision-text model."""

from __future__ import annotations

from dataclasses import replace
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
        list[str] | None,
        typer.Option("--variant", help="efficientnet_lite0, _lite1 or _lite2; repeat for more."),
    ] = None,
    scenes: Annotated[
        int | None, typer.Option("--scenes", help="Rendered scenes the attributes are fitted on.")
    ] = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Fit the pocket model's arrays on photos, WordNet and rendered scenes; minutes on a CPU."""
    from neuronym import probes
    from neuronym.fit_pocket import FitSettings
    from neuronym.fit_pocket import fit_pocket as run

    settings = FitSettings()
    if variant:
        settings = replace(settings, variants=tuple(variant))
    if scenes is not None:
        settings = replace(settings, scenes=scenes)
    with progress("fitting", quiet=quiet) as update:
        written = run(
            probes.load(photos),
            out,
            wordnet=wordnet,
            seed=seed,
            settings=settings,
            progress=lambda step, share: update(round(100 * share), 100, step),
        )
    typer.echo(str(written))
