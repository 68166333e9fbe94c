"""Fit the pocket model's small arrays: the whole of it, in minutes on two cores."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from neuronym.errors import FolderInUseError, InputError
from neuronym.files import MANIFEST, write_manifest
from neuronym.fit_pocket.card import write_card
from neuronym.fit_pocket.image_part import Sources, fit_image_side
from neuronym.fit_pocket.scene_part import unfitted_pairs
from neuronym.fit_pocket.settings import FitSettings
from neuronym.fit_pocket.text_part import Embedder, fit_text_side
from neuronym.fit_pocket.vocabulary import Vocabulary, held_out_photo
from neuronym.fit_pocket.wordnet import WordNet
from neuronym.probes import ProbeSet, subset
from neuronym.probes.scenes import GROUPS, SceneSet
from neuronym.vision_text.pocket.arrays import write_arrays

__all__ = ["KIND", "Progress", "fit_pocket"]

Progress = Callable[[str, float], None]
"""Called with the name of the step and the share of it that is done, 0 to 1."""

KIND = "pocket-arrays"
SCHEMA = 1
_SCENE_SEED = 770_000


def fit_pocket(
    photos: ProbeSet,
    out: str | Path,
    *,
    wordnet: str | Path | None = None,
    seed: int = 0,
    settings: FitSettings | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fit and write ``text.safetensors``, one file per variant, ``CARD.md`` and the manifest.

    Lemmas and synonyms whose CRC-32 is divisible by 5 stay out of everything, photos whose id's
    CRC-32 is divisible by 5 too, and so do some combinations of the scenes' attributes.

    Args:
        photos: Reference photos with ImageNet labels 0 to 999; the arrays hold means over them.
        out: Folder to write, without a manifest of an earlier run;
            :class:`neuronym.vision_text.pocket.PocketOptions` takes it.
        wordnet: Folder of WordNet 3.0's ``data.noun`` and ``index.noun``; by default Debian's.
        seed: Of everything drawn.
        settings: How; by default as the shipped arrays were made.
        progress: Told of every step.

    Returns:
        ``out``.

    Raises:
        InputError: The photos have no ImageNet labels, or none may be fitted on.
        UnavailableError: WordNet or a package is not installed.
        FolderInUseError: ``out`` holds a finished run.
    """
    chosen = settings or FitSettings()
    told = progress or _silent
    started = time.perf_counter()
    folder = Path(out)
    if (folder / MANIFEST).exists():
        raise FolderInUseError(f"output {str(folder)!r} holds a finished run; give a new folder")
    kept = _reference(photos)
    vocabulary = Vocabulary(WordNet(wordnet))
    folder.mkdir(parents=True, exist_ok=True)
    scenes = SceneSet(
        chosen.scenes,
        seed=_SCENE_SEED + seed,
        exclude=lambda scene: bool(unfitted_pairs(scene)),
    )
    facts: dict[str, Any] = {
        "groups": [[group, list(values)] for group, values in GROUPS.items()],
        "seed": seed,
        "settings": asdict(chosen),
        "photos": {"fitted": len(kept), "of": len(photos), "fingerprint": photos.fingerprint},
        "scenes": {"name": scenes.name, "size": scenes.size, "fingerprint": scenes.fingerprint},
        "wordnet": vocabulary.wordnet.fingerprint,
        "lemmas": {"fitted": len(vocabulary.lemmas), "of": vocabulary.lemma_count},
    }
    embed = Embedder(told)
    text = fit_text_side(vocabulary, embed, chosen, facts, seed=seed, told=told)
    write_arrays(folder / "text.safetensors", text)
    named = {
        index: name
        for index, wnid in enumerate(vocabulary.labels)
        if (name := vocabulary.first_lemma(wnid)) is not None
    }
    vectors = embed("embed label names", list(named.values()))
    sources = Sources(kept, scenes, dict(zip(named, vectors, strict=True)))
    for variant in chosen.variants:
        image = fit_image_side(variant, sources, text, chosen, facts, told=told)
        write_arrays(folder / f"{variant}.safetensors", image)
    write_card(folder / "CARD.md", facts)
    seconds = round(time.perf_counter() - started, 1)
    write_manifest(folder, kind=KIND, schema=SCHEMA, seconds=seconds, **facts)
    return folder


def _silent(step: str, share: float) -> None:
    return None


def _reference(photos: ProbeSet) -> ProbeSet:
    """Return the photos that may be fitted on."""
    labels = photos.labels
    if labels is None:
        raise InputError(f"photos {photos.name!r} have no labels; fitting needs ImageNet's")
    if labels.min() < 0 or labels.max() > 999:
        raise InputError(
            f"labels of {photos.name!r} must be ImageNet's, 0 to 999, not "
            f"{int(labels.min())} to {int(labels.max())}"
        )
    rows = [index for index, name in enumerate(photos.ids) if not held_out_photo(name)]
    if not rows:
        raise InputError(f"every photo of {photos.name!r} is held out; give more photos")
    return subset(photos, np.array(rows))
