"""The pocket vision-text model: parts from the package index and small fitted arrays."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from neuronym.devices import checked_device
from neuronym.errors import InputError, MissingError, UnavailableError, UnreadableError
from neuronym.files import fingerprint
from neuronym.vision_text.cache import ArrayCache
from neuronym.vision_text.efficientnet import efficientnet_input_size
from neuronym.vision_text.pocket.arrays import SHIPPED, ImageArrays, TextArrays, read_arrays
from neuronym.vision_text.pocket.minilm import MINILM_DIM, MiniLM
from neuronym.vision_text.pocket.space import Mixture, image_embeddings, text_embeddings
from neuronym.vision_text.pocket.tower import TINY_PIXELS, ImageTower

__all__ = ["DEFAULT_VARIANT", "PocketModel", "PocketOptions", "load_pocket"]

FloatArray = npt.NDArray[np.float32]

DEFAULT_VARIANT = "efficientnet_lite0"
NOTICE = (
    "the pocket model knows ImageNet's objects, their kinds, and simple attributes; where a hub "
    "or a checkpoint can be reached, open_clip:ARCH/TAG or hf:REPO (CLIP, SigLIP) name better"
)
_CACHE_FROM = 64  # fewer texts are embedded faster than read

_log = logging.getLogger(__name__)
_notice_given = threading.Event()


@dataclass(frozen=True)
class PocketOptions:
    """How the pocket model is loaded.

    Attributes:
        image_size: Side in pixels of what the network sees; by default the variant's own, and
            160 for tiny images (shorter side at most 96 pixels).
        arrays: Folder of fitted arrays, as ``neuronym fit-pocket`` writes it; by default those
            that come with the package.
        cache: Whether MiniLM vectors of 64 texts or more are kept on disk, by content.
        cache_folder: Where; by default the user's cache folder.
    """

    image_size: int | None = None
    arrays: Path | None = None
    cache: bool = True
    cache_folder: Path | None = None


class PocketModel:
    """A :class:`neuronym.vision_text.VisionTextModel` from what the package index carries.

    The dot product of two embeddings is their fit; embeddings do not have unit length. Memory is
    bounded by ``batch_size`` images. Several threads may use one instance at the same time.
    """

    def __init__(
        self,
        variant: str,
        *,
        device: torch.device,
        batch_size: int,
        options: PocketOptions,
    ) -> None:
        """Use :func:`load_pocket`."""
        folder = SHIPPED if options.arrays is None else options.arrays
        self._variant = variant
        self._batch_size = batch_size
        self._text, text_identity = read_arrays(folder / "text.safetensors", TextArrays)
        self._image, image_identity = read_arrays(folder / f"{variant}.safetensors", ImageArrays)
        self._tower = ImageTower(variant, device=device, image_size=options.image_size)
        self._minilm = MiniLM(device=device)
        self._cache = ArrayCache(options.cache_folder, enabled=options.cache)
        self._mixture = Mixture.of(self._image.facts)
        _check(self._tower, self._image, self._text)
        sizes = (self._tower.transform.image_size, self._tower.tiny_transform.image_size)
        self._fingerprint = fingerprint(
            "pocket",
            text_identity,
            image_identity,
            self._tower.digest,
            self._minilm.fingerprint,
            [*sizes, TINY_PIXELS],
        )

    def __repr__(self) -> str:
        return f"PocketModel({self._variant!r}, dim={self.dim})"

    @property
    def name(self) -> str:
        """The SPEC that loads it."""
        return "pocket" if self._variant == DEFAULT_VARIANT else f"pocket:{self._variant}"

    @property
    def dim(self) -> int:
        """Length of an embedding: objects, classes and attributes."""
        return MINILM_DIM + 1000 + int(self._image.attribute_weights.shape[1])

    @property
    def logit_scale(self) -> float:
        """Factor that makes a softmax over texts calibrated (fitted on the reference photos)."""
        return float(self._image.facts["logit_scale"])

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits from both towers' weights, the arrays and the preprocessing."""
        return self._fingerprint

    @property
    def resize_side(self) -> int:
        """Side in pixels that an image's shorter side must keep, or the embedding changes."""
        transform = self._tower.transform
        return max(math.ceil(transform.image_size / transform.crop), TINY_PIXELS + 1)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that it knows, e.g. ``"colour:red"``, in the order of its last part."""
        return tuple(
            f"{group}:{value}" for group, values in self._text.groups.items() for value in values
        )

    def embed_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Embed images of any size; modes other than RGB are converted.

        Returns:
            ``(images, dim)`` float32.

        Raises:
            InputError: An item is not a PIL image, or has no pixel.
        """
        rows = np.empty((len(images), self.dim), dtype=np.float32)
        for start in range(0, len(images), self._batch_size):
            batch = images[start : start + self._batch_size]
            features = self._tower.features(batch)
            rows[start : start + len(batch)] = image_embeddings(
                features, self._image, self._text.labels, self._mixture
            )
        return rows

    def embed_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts as they are; bare words suit this model as well as templates.

        Returns:
            ``(texts, dim)`` float32.

        Raises:
            InputError: ``texts`` is one string, or an item is not a string.
        """
        if isinstance(texts, str):
            raise InputError(f"texts must be a list of strings, not the string {texts!r}")
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"a text must be a string, not a {type(text).__name__}")
        _give_notice()
        vectors = self._vectors(list(texts))
        return text_embeddings(vectors, self._text, self._image.posterior_mean, self._mixture)

    def _vectors(self, texts: list[str]) -> FloatArray:
        """MiniLM vectors, from the cache where it has them."""
        if len(texts) < _CACHE_FROM:
            return self._minilm.embed(texts)
        key = fingerprint("minilm texts", self._minilm.fingerprint, texts)
        return self._cache.get(key, (len(texts), MINILM_DIM), lambda: self._minilm.embed(texts))


def load_pocket(
    variant: str = DEFAULT_VARIANT,
    *,
    device: str = "cpu",
    batch_size: int = 32,
    options: PocketOptions | None = None,
) -> PocketModel:
    """Load the pocket model; nothing is downloaded.

    Args:
        variant: The image tower: ``"efficientnet_lite0"``, ``"efficientnet_lite1"`` or
            ``"efficientnet_lite2"``.
        device: A torch device, e.g. ``"cuda"``.
        batch_size: How many images go through the network at once, at least 1.
        options: What else can be chosen.

    Raises:
        UnknownNameError: There is no such variant.
        UnavailableError: A package that it is made of is not installed, a variant has no fitted
            arrays, or the device is not here.
        InputError: A number is out of range.
        UnreadableError: Arrays or weights are not what they should be.
    """
    chosen = options or PocketOptions()
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    efficientnet_input_size(variant)
    where = checked_device(device)
    try:
        model = PocketModel(variant, device=where, batch_size=batch_size, options=chosen)
    except MissingError as error:
        raise UnavailableError(
            f"the pocket model has no fitted arrays for {variant!r}: {error}; "
            "make them with `neuronym fit-pocket`"
        ) from error
    return model


def _give_notice() -> None:
    """Say once what this model is not: where it is first used, not where it is loaded."""
    if not _notice_given.is_set():
        _notice_given.set()
        _log.warning(NOTICE)


def _check(tower: ImageTower, image: ImageArrays, text: TextArrays) -> None:
    numbers, attributes = image.attribute_weights.shape
    if numbers != tower.numbers:
        raise UnreadableError(
            f"the arrays of {tower.variant!r} are for {numbers} descriptors, not {tower.numbers}"
        )
    known = sum(len(values) for values in text.groups.values())
    if attributes != known:
        raise UnreadableError(
            f"the arrays of {tower.variant!r} know {attributes} attributes, the text's {known}"
        )
