"""Options that several commands share, so that one word means one thing everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Atlas", "BatchSize", "Images", "Model", "Out", "Overwrite", "Quiet", "Seed"]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        help="timm:NAME, torchvision:NAME, pocket:efficientnet_lite0, hf:OWNER/NAME, a trained "
        "folder, or module.path:factory.",
    ),
]
Images = Annotated[
    str,
    typer.Option(
        "--images",
        help="A folder of images, FILE.parquet, scenes:N[:SEED][:TASK], "
        "torchvision:CIFAR10/test, hf:REPO/SPLIT or webdataset:PATTERN.",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="The folder to write.")]
Atlas = Annotated[Path, typer.Option("--atlas", help="The folder of a finished dissection.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier run of this command in the folder.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images per batch.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
