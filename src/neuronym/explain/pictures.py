"""Pictures of an explanation: where each winner was active, and where it was strongest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from neuronym.errors import FolderInUseError, InputError
from neuronym.explain.colours import overlay
from neuronym.explain.one import Examination
from neuronym.explain.sheet import Card, draw_sheet
from neuronym.files import atomic_path
from neuronym.models import Preprocessing
from neuronym.results import Place, Winner
from neuronym.vision_text.efficientnet import EfficientNetTransform

__all__ = ["Seen", "check_folder", "crop", "seen", "write_pictures"]

_LEAST_SIDE = 288  # pixels at which a small picture is shown
_LEAST_CROP = 0.4  # share of the picture's side that a crop shows at least
_BOX = (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network saw of an image.

    Attributes:
        picture: RGB, in the network's size.
        why_not: Why these are not the image's own colours, else ``None``.
    """

    picture: Image.Image
    why_not: str | None = None


def seen(transform: Callable[[Image.Image], Tensor], image: Image.Image) -> Seen:
    """Return the picture that a transform makes of an image, before normalisation.

    Where the transform is not one whose steps are known, the picture is its tensor, with each
    channel stretched to the whole range.

    Raises:
        InputError: The transform gives no ``(C, H, W)`` tensor of 1 or 3 channels.
    """
    if isinstance(transform, EfficientNetTransform):
        return Seen(transform.pixels(image))
    if isinstance(transform, Preprocessing):
        return Seen(_picture(transform.pixels(image)))
    values = transform(image)
    if not isinstance(values, Tensor) or values.dim() != 3 or len(values) not in (1, 3):
        raise InputError("no picture: the model's transform gives no (1 or 3, H, W) tensor")
    low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    stretched = (values - low) / (high - low).clamp(min=1e-12) * 255
    name = getattr(transform, "__name__", type(transform).__name__)
    return Seen(
        _picture(stretched.round().byte()),
        f"what the transform {name!r} does to colours is not known (it is no Preprocessing)",
    )


def crop(picture: Image.Image, place: Place, *, least: float = _LEAST_CROP) -> Image.Image:
    """Cut out a place with its surroundings.

    Args:
        picture: What the network saw.
        place: Its box is grown around its centre to ``least`` of the picture's sides, and moved
            inside the picture.
        least: Share of the sides, above 0 to 1.
    """
    left, top, right, bottom = place.box
    width, height = max(right - left, least), max(bottom - top, least)
    x = min(max(place.centre[0] - width / 2, 0), 1 - width)
    y = min(max(place.centre[1] - height / 2, 0), 1 - height)
    box = (
        round(x * picture.width),
        round(y * picture.height),
        max(round((x + width) * picture.width), round(x * picture.width) + 1),
        max(round((y + height) * picture.height), round(y * picture.height) + 1),
    )
    return picture.crop(box)


def write_pictures(
    transform: Callable[[Image.Image], Tensor],
    examination: Examination,
    folder: str | Path,
    *,
    most: int = 10,
) -> tuple[Path, ...]:
    """Write where the largest winners were active, as PNG files.

    For each one ``01-unit-17-activation.png`` and ``01-unit-17-contribution.png``: maps laid over
    what the network saw, interpolated from the site's positions; and ``01-unit-17-crop.png``, the
    place where it is strongest with its surroundings. ``sheet.png`` holds all of them with names
    and contributions; it is written last. Activations are shown from 0 to each unit's own largest;
    contributions on one scale for all. Without known colours (see :func:`seen`) there are no crops,
    and the sheet says why.

    Args:
        transform: The model's.
        examination: From :func:`neuronym.explain.examine`.
        folder: Made if it is not there; it must be empty.
        most: Winners to show.

    Returns:
        The files, the sheet last.

    Raises:
        InputError: The site's positions do not lie over the image, no winner has a place, or the
            transform gives no picture.
        FolderInUseError: As :func:`check_folder`.
    """
    if most < 1:
        raise InputError(f"most must be at least 1, not {most}")
    explanation, folder = examination.explanation, Path(folder)
    if explanation.grid is None:
        raise InputError(f"no pictures of site {explanation.site!r}: {explanation.no_map}")
    shown = [winner for winner in explanation.winners if winner.place is not None][:most]
    if not shown:
        raise InputError(f"no pictures of site {explanation.site!r}: no winner has a place")
    check_folder(folder)
    view = seen(transform, examination.picture)
    folder.mkdir(parents=True, exist_ok=True)
    big = _enlarge(view.picture)
    maps = {winner.unit: examination.position_map(winner.unit) for winner in shown}
    scale = max(float(np.abs(each.contribution).max()) for each in maps.values())
    written, cards = [], []
    for rank, winner in enumerate(shown, 1):
        each = maps[winner.unit]
        own = float(np.abs(each.values).max())
        panels = {
            "activation": _marked(overlay(big, np.abs(each.values) / own, signed=False), winner),
            "contribution": overlay(big, each.contribution / (scale or 1.0), signed=True),
        }
        if view.why_not is None and winner.place is not None:
            panels["crop"] = _enlarge(crop(view.picture, winner.place))
        for name, panel in panels.items():
            written.append(_save(panel, folder / f"{rank:02d}-unit-{winner.unit}-{name}.png"))
        cards.append(Card(winner, panels))
    sheet = draw_sheet(explanation, big, cards, scale=scale, no_crops=view.why_not)
    return (*written, _save(sheet, folder / "sheet.png"))


def check_folder(folder: Path) -> None:
    """Refuse a folder that pictures cannot be written into.

    Raises:
        FolderInUseError: It is not empty, or it or one that it would lie in is a file.
    """
    there = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    if there != folder and not there.is_dir():
        raise FolderInUseError(f"{str(folder)!r} cannot be made: {str(there)!r} is a file")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderInUseError(f"{str(folder)!r} exists and is not an empty folder")


def _picture(pixels: Tensor) -> Image.Image:
    planes = pixels.expand(3, *pixels.shape[1:]) if len(pixels) == 1 else pixels
    return Image.fromarray(planes.permute(1, 2, 0).contiguous().cpu().numpy(), "RGB")


def _enlarge(picture: Image.Image) -> Image.Image:
    """Show a small picture at a size at which it can be seen."""
    factor = _LEAST_SIDE / min(picture.size)
    if factor <= 1:
        return picture
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _marked(picture: Image.Image, winner: Winner) -> Image.Image:
    """Outline the strongest place."""
    if winner.place is None:
        return picture
    left, top, right, bottom = winner.place.box
    corners = (
        round(left * picture.width),
        round(top * picture.height),
        round(right * picture.width) - 1,
        round(bottom * picture.height) - 1,
    )
    draw = ImageDraw.Draw(picture)
    draw.rectangle(corners, outline=(0, 0, 0), width=3)
    draw.rectangle(corners, outline=_BOX, width=1)
    return picture


def _save(picture: Image.Image, path: Path) -> Path:
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
    return path
