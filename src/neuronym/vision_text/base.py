"""The one protocol that every vision-text model follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["VisionTextModel", "resize_side_of"]

FloatArray = npt.NDArray[np.float32]


@runtime_checkable
class VisionTextModel(Protocol):
    """Embeds images and texts in one space; the dot product of two embeddings is their fit.

    Attributes:
        name: The SPEC that loads it, e.g. ``"pocket"`` or ``"open_clip:ViT-B-32/openai"``.
        dim: Length of an embedding.
        logit_scale: The factor that turns a dot product into a logit of the softmax over texts
            that the model was made for; similarities use it to choose their ``scale``.
        fingerprint: Identifies weights and preprocessing by content, for caches.
    """

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def logit_scale(self) -> float: ...

    @property
    def fingerprint(self) -> str: ...

    def embed_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Embed RGB images of any size, by the model's own preprocessing.

        Returns:
            ``(images, dim)`` float32.
        """
        ...

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts as they are (prompt templates are the caller's).

        Returns:
            ``(texts, dim)`` float32.
        """
        ...


def resize_side_of(model: VisionTextModel) -> int | None:
    """Return the side to which a model resizes an image's shorter side, before its crop.

    A backend says so in an attribute ``resize_side``; it is optional, and no part of the protocol.

    Returns:
        The side in pixels, or ``None`` where the backend does not say.
    """
    side = getattr(model, "resize_side", None)
    return side if isinstance(side, int) else None
