"""Options that several commands share, so that one word means one thing everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from neuronym.calls import is_index

__all__ = [
    "Atlas",
    "BatchSize",
    "ChannelDim",
    "Device",
    "Images",
    "MaybeImages",
    "MaybeModel",
    "MaybeSites",
    "MaybeVisionText",
    "Model",
    "Out",
    "Overwrite",
    "Pooling",
    "Quiet",
    "Seed",
    "Sites",
    "VisionText",
    "channel_dims",
]

_MODEL = typer.Option(
    "--model",
    help="timm:NAME, torchvision:NAME, pocket:efficientnet_lite0, hf:OWNER/NAME, a trained "
    "folder, or module.path:factory.",
)
_IMAGES = typer.Option(
    "--images",
    help="A folder of images, FILE.parquet, scenes:N[:SEED][:TASK], torchvision:CIFAR10/test, "
    "hf:REPO/SPLIT or webdataset:PATTERN; record and dissect also read stream:webdataset:PATTERN "
    "and stream:hf:REPO/SPLIT.",
)
_SITES = typer.Option("--sites", help="Module names with wildcards, e.g. 'blocks.6*'; commas join.")
_VISION_TEXT = typer.Option(
    "--vision-text", help="pocket, open_clip:ARCH/TAG_OR_CHECKPOINT, hf:REPO_OR_FOLDER."
)
Model = Annotated[str, _MODEL]
MaybeModel = Annotated[str | None, _MODEL]
Images = Annotated[str, _IMAGES]
MaybeImages = Annotated[str | None, _IMAGES]
Sites = Annotated[str, _SITES]
MaybeSites = Annotated[str | None, _SITES]
VisionText = Annotated[str, _VISION_TEXT]
MaybeVisionText = Annotated[str | None, _VISION_TEXT]
Pooling = Annotated[
    str | None, typer.Option("--pooling", help="mean, max, token or winner; default: by site.")
]
ChannelDim = Annotated[
    list[str] | None,
    typer.Option("--channel-dim", help="MODULE=DIM where the units' dimension is not known."),
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda …")]
Out = Annotated[Path, typer.Option("--out", help="The folder to write.")]
Atlas = Annotated[Path, typer.Option("--atlas", help="The folder of a finished dissection.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier run of this command in the folder.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images per batch.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def channel_dims(pairs: Sequence[str]) -> dict[str, int]:
    """Read ``MODULE=DIM`` pairs.

    Raises:
        InputError: One is not of that form.
    """
    from neuronym.errors import InputError

    dims = {}
    for pair in pairs:
        name, _, dim = pair.rpartition("=")
        digits = dim.removeprefix("-")
        if not name or not is_index(digits):
            raise InputError(f"--channel-dim takes MODULE=DIM with a whole number, not {pair!r}")
        dims[name] = int(dim)
    return dims
