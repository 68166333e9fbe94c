"""What a caller may choose about a report, and how a picture joins its explanation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from neuronym.errors import InputError
from neuronym.results import Explanation

__all__ = ["ExplainedImage", "ReportOptions"]


@dataclass(frozen=True)
class ExplainedImage:
    """An explanation with the picture that it explains.

    Attributes:
        explanation: The saved result for the image.
        image: The picture, or the file that holds it; a smaller copy goes into the report.
            By default it is looked for under ``explanation.image``: first as an id of the atlas,
            whose thumbnail is shown, then as a file.
        label: What the image really shows, where that is known.
    """

    explanation: Explanation
    image: Path | str | Image.Image | None = None
    label: str | None = None


@dataclass(frozen=True)
class ReportOptions:
    """How a report is made.

    Attributes:
        title: Heading of the page; by default it names the model of the atlas.
        overwrite: Whether an earlier report in the folder is replaced.
        winners: Rows of a contribution chart; the rest is one row with its sum. At least 4.
        top_images: Images per neuron, at most (an atlas may hold fewer). At least 1.
        image_size: Longest side of an explained image in the report, in pixels, 32 to 4096.
        thumbnail_size: Longest side of a copied thumbnail, in pixels, 32 to 1024.
    """

    title: str | None = None
    overwrite: bool = False
    winners: int = 12
    top_images: int = 12
    image_size: int = 640
    thumbnail_size: int = 256

    def __post_init__(self) -> None:
        limits = {
            "winners": (4, 500),
            "top_images": (1, 100),
            "image_size": (32, 4096),
            "thumbnail_size": (32, 1024),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"{name} must be a whole number of {low} to {high}, not {value!r}")
