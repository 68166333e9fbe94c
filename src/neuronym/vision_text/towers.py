"""The part that all backends with an image tower and a text tower share.

A backend hands over plain functions (prepare an image, tokenize, encode); this file batches,
moves to the device, normalises to unit length, and keeps the tokenizer to one thread at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from neuronym.errors import InputError, UnreadableError

__all__ = ["TowerParts", "TwoTowers", "crop_extreme"]

FloatArray = npt.NDArray[np.float32]
Inputs = Mapping[str, Tensor]

# An image longer than this many times its width is cut to this ratio, about its centre, before a
# resize of the short side: the centre crop that follows would drop the rest anyway.
EXTREME_RATIO = 16


@dataclass(frozen=True)
class TowerParts:
    """What a backend provides.

    Attributes:
        prepare_image: RGB image → named tensors, each with a leading dimension of 1.
        tokenize: Texts → named tensors, each with the texts along the first dimension.
        encode_images, encode_texts: Named tensors on the device → ``(batch, dim)`` features,
            before normalisation.
        logit_scale: See :class:`neuronym.vision_text.VisionTextModel`.
        identify: Computes the fingerprint; called once, when it is first asked for.
    """

    prepare_image: Callable[[Image.Image], Inputs]
    tokenize: Callable[[list[str]], Inputs]
    encode_images: Callable[[Inputs], Tensor]
    encode_texts: Callable[[Inputs], Tensor]
    logit_scale: float
    identify: Callable[[], str]


class TwoTowers:
    """A :class:`neuronym.vision_text.VisionTextModel` made of :class:`TowerParts`.

    Memory stays bounded: images are prepared one by one and at most ``batch_size`` of them are
    held as tensors. Several threads may use one instance at the same time.

    Args:
        name: The SPEC that loads it.
        parts: The backend's functions.
        device: Where the towers are.
        batch_size: How many images or texts go through a tower at once, at least 1.

    Raises:
        InputError: ``batch_size`` is below 1, or the towers do not share one space.
        UnreadableError: The towers give numbers that are not finite.
    """

    def __init__(
        self, name: str, parts: TowerParts, *, device: torch.device, batch_size: int = 32
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        self._name = name
        self._parts = parts
        self._device = device
        self._batch_size = batch_size
        self._tokenizer_lock = threading.Lock()
        self._fingerprint_lock = threading.Lock()
        self._fingerprint: str | None = None
        self._dim = self._try_out()

    def __repr__(self) -> str:
        return f"TwoTowers({self._name!r}, dim={self._dim}, device={str(self._device)!r})"

    @property
    def name(self) -> str:
        """The SPEC that loads it."""
        return self._name

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._dim

    @property
    def logit_scale(self) -> float:
        """Factor from a dot product to a logit."""
        return self._parts.logit_scale

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits from the weights, the configuration and the tokenizer."""
        with self._fingerprint_lock:
            if self._fingerprint is None:
                self._fingerprint = self._parts.identify()
            return self._fingerprint

    def embed_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Embed images of any size by the model's own preprocessing.

        Args:
            images: Pillow images; modes other than RGB are converted.

        Returns:
            ``(images, dim)`` float32, rows of unit length.

        Raises:
            InputError: An item is not a Pillow image.
            UnreadableError: The model's own preprocessing cannot handle an image.
        """
        for index, image in enumerate(images):
            if not isinstance(image, Image.Image):
                raise InputError(
                    f"image {index} is a {type(image).__name__}; embed_images takes Pillow images"
                )
        result = np.empty((len(images), self._dim), np.float32)
        for start in range(0, len(images), self._batch_size):
            batch = images[start : start + self._batch_size]
            result[start : start + len(batch)] = self._image_batch(batch, start)
        return result

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts as they are; what is longer than the model's context is cut off.

        Returns:
            ``(texts, dim)`` float32, rows of unit length.

        Raises:
            InputError: ``texts`` is one string instead of a sequence, or an item is no string.
        """
        if isinstance(texts, str):
            raise InputError(f"embed_texts takes a list of texts, not one string: [{texts!r}]")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"text {index} is a {type(text).__name__}, not a string")
        result = np.empty((len(texts), self._dim), np.float32)
        for start in range(0, len(texts), self._batch_size):
            batch = list(texts[start : start + self._batch_size])
            result[start : start + len(batch)] = self._text_batch(batch)
        return result

    def _image_batch(self, images: Sequence[Image.Image], first: int) -> FloatArray:
        prepared = [self._prepare(image, first + offset) for offset, image in enumerate(images)]
        inputs = {name: torch.cat([item[name] for item in prepared]) for name in prepared[0]}
        return self._encode(self._parts.encode_images, inputs)

    def _prepare(self, image: Image.Image, index: int) -> Inputs:
        try:
            return self._parts.prepare_image(image if image.mode == "RGB" else image.convert("RGB"))
        except (OSError, ValueError, RuntimeError, ZeroDivisionError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UnreadableError(
                f"image {index} of size {image.width}×{image.height} cannot be prepared "
                f"for {self._name}: {reason}"
            ) from error

    def _text_batch(self, texts: list[str]) -> FloatArray:
        with self._tokenizer_lock:  # fast tokenizers hold padding and truncation as their state
            inputs = self._parts.tokenize(texts)
        return self._encode(self._parts.encode_texts, inputs)

    def _encode(self, encode: Callable[[Inputs], Tensor], inputs: Inputs) -> FloatArray:
        with torch.inference_mode():
            moved = {name: value.to(self._device) for name, value in inputs.items()}
            features = encode(moved).float()
            unit = torch.nn.functional.normalize(features, dim=-1)
        return np.asarray(unit.cpu().numpy(), np.float32)

    def _try_out(self) -> int:
        """Send one image and one text through, and return the length of their embeddings."""
        image = self._image_batch([Image.new("RGB", (64, 64), (90, 120, 150))], 0)
        text = self._text_batch(["a photo"])
        if image.ndim != 2 or text.ndim != 2 or image.shape[1] != text.shape[1]:
            raise InputError(
                f"{self._name} gives images of shape {image.shape} and texts of shape "
                f"{text.shape}: they are not vectors of one space"
            )
        if not (np.isfinite(image).all() and np.isfinite(text).all()):
            raise UnreadableError(f"{self._name} gives numbers that are not finite")
        return int(image.shape[1])


def crop_extreme(image: Image.Image) -> Image.Image:
    """Cut an image of extreme aspect ratio about its centre, so that a resize stays small.

    For models that resize the short side and then crop the centre. The result of the crop does
    not change but for rounding; without it, a 1 × 10000 image would grow to 224 × 2240000.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    margin = (long - EXTREME_RATIO * short) // 2
    if margin <= 0:
        return image
    if width > height:
        return image.crop((margin, 0, width - margin, height))
    return image.crop((0, margin, width, height - margin))
