"""Embeddings of probe images and concepts by a vision-text model, in batches, kept by content."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuronym.concepts import ConceptSet
from neuronym.errors import InputError, UnreadableError
from neuronym.files import fingerprint
from neuronym.probes import Batch, ProbeSet, Skipped, batches
from neuronym.record import Plan, Recording, feed
from neuronym.store import Store, create, try_open
from neuronym.vision_text import VisionTextModel

__all__ = [
    "EmbedOptions",
    "ImageEmbeddings",
    "embed_batch",
    "embed_concepts",
    "embed_images",
    "record_and_embed",
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


@dataclass(frozen=True, eq=False)
class ImageEmbeddings:
    """Embeddings of a probe set.

    Attributes:
        vectors: ``(images, dim)`` float32.
        indices: ``(images,)`` int64, place in the probe set of each image.
        skipped: The broken images.
    """

    vectors: FloatArray
    indices: npt.NDArray[np.int64]
    skipped: tuple[Skipped, ...]


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


def embed_images(
    model: VisionTextModel, probes: ProbeSet, *, options: EmbedOptions | None = None
) -> ImageEmbeddings:
    """Embed a probe set; broken images are skipped and listed.

    Raises:
        InputError: Every image is broken, or the model gives something else than finite
            ``(images, dim)``.
    """
    options = options or EmbedOptions()
    if (found := _find_images(model, probes, options)) is not None:
        return found
    embedder = _Embedder(model)
    stream = batches(probes, batch_size=options.batch_size, workers=options.workers)
    feed(stream, [embedder.add], progress=options.progress)
    return _keep_images(model, probes, options, embedder.finish(stream.skipped))


def record_and_embed(
    plan: Plan, model: VisionTextModel, probes: ProbeSet, *, options: EmbedOptions | None = None
) -> tuple[Recording, ImageEmbeddings]:
    """Record a model's activations and embed the same images in one pass: each is decoded once.

    What exists already is used as it is, and only the rest is computed.

    Args:
        plan: Of the recording.
        model: The vision-text model.
        probes: The images, the same as the plan's.
        options: Batches and progress of the pass, and where embeddings are kept.

    Raises:
        InputError: See :func:`neuronym.record.record` and :func:`embed_images`.
    """
    options = options or EmbedOptions()
    recording, embeddings = plan.find(), _find_images(model, probes, options)
    if recording is not None:
        embeddings = embeddings or embed_images(model, probes, options=options)
        return recording, embeddings
    stream = batches(probes, batch_size=options.batch_size, workers=options.workers)
    embedder = _Embedder(model)
    with plan.write(stream.skipped) as recorder:
        consumers = [recorder.add] if embeddings is not None else [recorder.add, embedder.add]
        feed(stream, consumers, progress=options.progress)
    if embeddings is None:
        embeddings = _keep_images(model, probes, options, embedder.finish(stream.skipped))
    return plan.load(), embeddings


class _Embedder:
    """Embeds batches and gathers the vectors in memory."""

    def __init__(self, model: VisionTextModel) -> None:
        self._model = model
        self._vectors: list[FloatArray] = []
        self._indices: list[npt.NDArray[np.int64]] = []

    def add(self, batch: Batch) -> None:
        self._vectors.append(embed_batch(self._model, batch))
        self._indices.append(batch.indices)

    def finish(self, skipped: Sequence[Skipped]) -> ImageEmbeddings:
        return ImageEmbeddings(
            np.concatenate(self._vectors), np.concatenate(self._indices), tuple(skipped)
        )


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


def _find_images(
    model: VisionTextModel, probes: ProbeSet, options: EmbedOptions
) -> ImageEmbeddings | None:
    store = _kept(options.folder, _identity("image embeddings", model, probes.fingerprint))
    if store is None:
        return None
    skipped = tuple(Skipped(**each) for each in store.facts["skipped"])
    with contextlib.suppress(UnreadableError):
        return ImageEmbeddings(store.read(VECTORS), store.read(INDICES), skipped)
    return None


def _keep_images(
    model: VisionTextModel, probes: ProbeSet, options: EmbedOptions, made: ImageEmbeddings
) -> ImageEmbeddings:
    if options.folder is not None:
        identity = _identity("image embeddings", model, probes.fingerprint)
        with create(_place(options.folder, identity), identity) as writer:
            for rows in _row_blocks(made):
                for name, values in rows.items():
                    writer.append(name, values)
            writer.note(skipped=[asdict(each) for each in made.skipped])
    return made


def _row_blocks(made: ImageEmbeddings, length: int = 1024) -> Iterator[dict[str, Any]]:
    for start in range(0, len(made.vectors), length):
        part = slice(start, start + length)
        yield {VECTORS: made.vectors[part], INDICES: made.indices[part]}
