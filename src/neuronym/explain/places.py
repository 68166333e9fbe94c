"""Where in the image a unit is active: the grid of a site's positions, and maps over it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from neuronym.results import Place

__all__ = ["Grid", "PositionMap", "grid_of", "places", "prefix_tokens"]

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """How a site's positions lie over the image.

    Attributes:
        rows, columns: Cells, row by row from the upper left.
        first: Positions before the grid, such as a class token.
    """

    rows: int
    columns: int
    first: int = 0

    def box(self, cell: int) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of a cell in fractions of the image."""
        row, column = divmod(cell, self.columns)
        return (
            column / self.columns,
            row / self.rows,
            (column + 1) / self.columns,
            (row + 1) / self.rows,
        )


@dataclass(frozen=True, eq=False)
class PositionMap:
    """What one unit did at each place of one image.

    Attributes:
        site, unit: Which unit.
        values: ``(rows, columns)`` float32, its masked activation.
        contribution: ``(rows, columns)`` float32, in logits. Positions outside the grid (a class
            token) are in neither, so that the sum may be smaller than the unit's contribution.
    """

    site: str
    unit: int
    values: Map
    contribution: Map


def prefix_tokens(module: nn.Module) -> int | None:
    """Return how many tokens before those of the patches a model says that it has.

    That is what timm's transformers hold as ``num_prefix_tokens``; ``None`` where no module says
    it, or two say different things.
    """
    said = {getattr(part, "num_prefix_tokens", None) for part in module.modules()} - {None}
    found = said.pop() if len(said) == 1 else None
    return found if isinstance(found, int) else None


def grid_of(
    shape: tuple[int, ...], *, channel_dim: int, image: tuple[int, int], prefix: int | None = None
) -> Grid | str:
    """Return how a site's positions lie over the image, or why that is not known.

    Two dimensions of positions are rows and columns if they have the image's proportions. One
    dimension is a run of tokens: what remains behind the prefix must fill a grid of the image's
    proportions. Where the prefix is not known it is no token or one, whichever fits.

    Args:
        shape: Of the site's output, images first.
        channel_dim: The dimension of the units.
        image: Height and width in pixels of what the network saw.
        prefix: Tokens before those of the patches, where that is known.
    """
    among = channel_dim % len(shape)
    extents = [size for dim, size in enumerate(shape) if dim not in (0, among)]
    if len(extents) == 2:
        rows, columns = extents
        if rows * columns == 1:
            return "its map has one position, which is the whole image"
        if not _fits(rows, columns, image):
            return (
                f"its {rows} x {columns} positions have not the proportions of the "
                f"{image[0]} x {image[1]} pixels"
            )
        return Grid(rows, columns)
    if len(extents) != 1:
        return "it has one position" if not extents else f"its output {shape} is no plane"
    tokens = extents[0]
    for first in (0, 1) if prefix is None else (prefix,):
        grid = _token_grid(tokens, first, image)
        if grid is not None:
            return grid
    if prefix is None:
        return (
            f"its {tokens} tokens, with or without a class token, fill no grid of the image's "
            "proportions; say how many come before the patches (prefix tokens)"
        )
    return (
        f"its {tokens} tokens without {prefix} prefix tokens fill no grid of the image's "
        "proportions"
    )


def places(activations: Tensor, values: Tensor, units: Tensor, grid: Grid) -> list[Place | None]:
    """Return where each unit's masked activation is largest in size.

    Args:
        activations, values: ``(units, positions)``, masked activations and contributions.
        units: ``(asked,)`` int64, the units that are asked for.
        grid: From :func:`grid_of`.

    Returns:
        A place per unit asked for; ``None`` for one that passed nothing inside the grid.
    """
    sizes, cells = activations[units, grid.first :].abs().max(-1)
    at = cells + grid.first
    parts = (sizes, cells, activations[units, at], values[units, at])
    found: list[Place | None] = []
    boxes: dict[int, tuple[float, float, float, float]] = {}
    for size, cell, activation, value in zip(*(part.tolist() for part in parts), strict=True):
        if size == 0:
            found.append(None)
            continue
        box = boxes.get(cell) or boxes.setdefault(cell, grid.box(cell))
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        found.append(Place(box, centre, activation, value))
    return found


def _token_grid(tokens: int, first: int, image: tuple[int, int]) -> Grid | None:
    """Return the grid that ``tokens`` without the first fill exactly, if there is one."""
    patches = tokens - first
    if patches < 2:
        return None
    rows = round(math.sqrt(patches * image[0] / image[1]))
    if rows < 1 or patches % rows or not _fits(rows, patches // rows, image):
        return None
    return Grid(rows, patches // rows, first)


def _fits(rows: int, columns: int, image: tuple[int, int]) -> bool:
    """Whether a grid has the image's proportions, up to one row or column that was rounded."""
    height, width = image
    return abs(rows - columns * height / width) <= 1 and abs(columns - rows * width / height) <= 1
