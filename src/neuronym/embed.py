"""Embeddings of probe images and concepts by a vision-text model, in batches, kept by content."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuronym.concepts import ConceptSet
from neuronym.errors import InputError, UnreadableError
from neuronym.files import fingerprint
from neuronym.probes import Batch
from neuronym.store import Store, create, try_open
from neuronym.vision_text import VisionTextModel

__all__ = [
    "EmbedOptions",
    "embed_batch",
    "embed_concepts",
]

FloatArray = npt.NDArray[np.float32]
Progress = Callable[[int, int, str], None]

SCHEMA = 1
VECTORS, INDICES = "vectors", "indices"
_PROMPTS_AT_ONCE = 4096
_UNIT_NORM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class EmbedOptions:
    """How embeddings are made.

    Attributes:
        batch_size: Images that are decoded together.
        workers: Threads that decode; ``None`` takes one per processor, at most 4.
        folder: Holds embeddings, each under its own key; ``None`` keeps none.
        progress: Called with ``(done, total, note)``.
    """

    batch_size: int = 64
    workers: int | None = None
    folder: str | Path | None = None
    progress: Progress | None = None


def embed_batch(model: VisionTextModel, batch: Batch) -> FloatArray:
    """Embed the images of a batch: ``(images, dim)`` float32.

    Raises:
        InputError: The model gives something else than finite ``(images, dim)``.
    """
    return _checked(model, model.embed_images(batch.images), len(batch), "images", batch.ids)


def embed_concepts(
    model: VisionTextModel, concepts: ConceptSet, *, options: EmbedOptions | None = None
) -> FloatArray:
    """Embed a concept set: the mean of each word's prompts.

    Where the model's own embeddings have unit norm, so has the mean.

    Args:
        model: The vision-text model.
        concepts: Words and templates.
        options: Where embeddings are kept, and progress.

    Returns:
        ``(concepts, dim)`` float32.

    Raises:
        InputError: The model gives something else than finite ``(texts, dim)``.
    """
    options = options or EmbedOptions()
    identity = _identity("concept embeddings", model, concepts.fingerprint)
    if (store := _kept(options.folder, identity)) is not None:
        with contextlib.suppress(UnreadableError):
            return store.read(VECTORS)
    vectors = _mean_of_prompts(model, concepts, options.progress)
    if options.folder is not None:
        with create(_place(options.folder, identity), identity) as writer:
            writer.append(VECTORS, vectors)
    return vectors


def _mean_of_prompts(
    model: VisionTextModel, concepts: ConceptSet, progress: Progress | None
) -> FloatArray:
    result = np.empty((len(concepts), model.dim), np.float32)
    step = max(1, _PROMPTS_AT_ONCE // len(concepts.templates))
    for start in range(0, len(concepts), step):
        words = concepts.words[start : start + step]
        prompts = [prompt for word in words for prompt in concepts.prompts(word)]
        vectors = _checked(model, model.embed_texts(prompts), len(prompts), "texts", prompts)
        means = vectors.reshape(len(words), -1, model.dim).mean(1)
        if _unit_norm(vectors):
            norms = np.linalg.norm(means, axis=1, keepdims=True)
            means = means / np.where(norms > 0, norms, 1)
        result[start : start + len(words)] = means
        if progress is not None:
            progress(min(start + step, len(concepts)), len(concepts), "")
    return result


def _unit_norm(vectors: FloatArray) -> bool:
    norms = np.linalg.norm(vectors, axis=1)
    return bool(np.abs(norms - 1).max() < _UNIT_NORM_TOLERANCE)


def _checked(
    model: VisionTextModel, given: Any, count: int, what: str, inputs: Sequence[str]
) -> FloatArray:
    vectors: FloatArray = np.asarray(given, dtype=np.float32)
    if vectors.shape != (count, model.dim):
        raise InputError(
            f"vision-text model {model.name!r} gave {vectors.shape} for {count} {what}; "
            f"expected {(count, model.dim)}"
        )
    bad = ~np.isfinite(vectors).all(1)
    if bad.any():
        raise InputError(
            f"vision-text model {model.name!r} gave NaN or infinity for {int(bad.sum())} of "
            f"{count} {what}, the first: {inputs[int(bad.argmax())]!r}"
        )
    return vectors


def _identity(kind: str, model: VisionTextModel, of: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "schema": SCHEMA,
        "model": model.fingerprint,
        "of": of,
        "dim": model.dim,
    }


def _place(folder: str | Path, identity: Mapping[str, Any]) -> Path:
    return Path(folder) / fingerprint(dict(identity))


def _kept(folder: str | Path | None, identity: Mapping[str, Any]) -> Store | None:
    return None if folder is None else try_open(_place(folder, identity), identity)
