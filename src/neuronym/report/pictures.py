"""Pictures of a report: checked, made small, and named by their content."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from neuronym.errors import MissingError, UnreadableError
from neuronym.files import existing, fingerprint

__all__ = ["Picture", "PictureFolder"]

FOLDER = "images"
_SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
_TINY = 96  # below this many pixels an enlarged picture shows its pixels instead of a blur


@dataclass(frozen=True)
class Picture:
    """A picture inside the report: its address from ``index.html`` and its size in pixels."""

    source: str
    width: int
    height: int

    @property
    def tiny(self) -> bool:
        """Whether it has so few pixels that they should be seen as such."""
        return max(self.width, self.height) < _TINY


class PictureFolder:
    """Writes pictures into ``out/images`` under names made from their content.

    Names from outside never become file names, and a picture that occurs twice is written once.

    Attributes:
        broken: ``(where, why)`` of each picture that could not be read.
    """

    def __init__(self, out: Path) -> None:
        self.broken: list[tuple[str, str]] = []
        self._out = out
        self._known: dict[str, Picture] = {}

    def __len__(self) -> int:
        return len(self._known)

    def thumbnail(self, folder: Path, name: str, *, size: int) -> Picture | None:
        """Copy a thumbnail of an atlas; ``None``, and a line in ``broken``, if it cannot be read.

        A path that leads out of ``folder`` is not followed.
        """
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            self.broken.append((name, "it lies outside the atlas"))
            return None
        return self._guarded(name, lambda: self._file(path, size=size))

    def explained(self, image: Path | str | Image.Image, *, size: int) -> Picture:
        """Add the picture of an explanation, at most ``size`` pixels on its longer side.

        Raises:
            MissingError: The file does not exist.
            UnreadableError: It is not a picture that Pillow reads.
        """
        if isinstance(image, Image.Image):
            return self._encoded(_upright(image), size=size)
        return self._file(existing(image, what="image"), size=size)

    def named(self, name: str, *, size: int) -> Picture | None:
        """Add the picture that an explanation names, if there is such a file and it is one."""
        try:
            return self._file(Path(name), size=size) if Path(name).is_file() else None
        except (UnreadableError, OSError, ValueError):
            return None

    def _guarded(self, name: str, add: Callable[[], Picture]) -> Picture | None:
        try:
            return add()
        except (MissingError, UnreadableError) as error:
            self.broken.append((name, str(error)))
            return None

    def _file(self, path: Path, *, size: int) -> Picture:
        try:
            data = existing(path, what="image").read_bytes()
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                kind = image.format or ""
                plain = kind in _SUFFIX and max(image.size) <= size and not _is_animated(image)
                if plain and not image.getexif() and image.mode in ("RGB", "L", "P"):
                    return self._store(data, _SUFFIX[kind], image.size)
                return self._encoded(_upright(image), size=size)
        except MissingError:
            raise
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UnreadableError(f"image {str(path)!r} cannot be read: {error}") from error

    def _encoded(self, image: Image.Image, *, size: int) -> Picture:
        image = image.copy()
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        if max(image.size) < _TINY:
            image.save(buffer, "PNG", optimize=True)
            return self._store(buffer.getvalue(), ".png", image.size)
        image.save(buffer, "JPEG", quality=90, optimize=True)
        return self._store(buffer.getvalue(), ".jpg", image.size)

    def _store(self, data: bytes, suffix: str, size: tuple[int, int]) -> Picture:
        key = fingerprint(data)
        if key not in self._known:
            path = self._out / FOLDER / f"{key}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self._known[key] = Picture(f"{FOLDER}/{path.name}", *size)
        return self._known[key]


def _is_animated(image: Image.Image) -> bool:
    return bool(getattr(image, "is_animated", False))


def _upright(image: Image.Image) -> Image.Image:
    """Return a picture as RGB the way it is meant to be seen; transparent parts become white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
