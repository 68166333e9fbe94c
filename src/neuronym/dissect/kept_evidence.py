"""The evidence that an atlas keeps of a run, so that it can be searched for any text later."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuronym.concepts import ConceptSet
from neuronym.priority import priority
from neuronym.record.runs import Run
from neuronym.record.sketches import SiteSketch
from neuronym.results import Evidence, SiteEvidence

__all__ = ["atlas_evidence"]

SAMPLE = 2000
"""Most images of the sample, and most words of the background."""
LARGEST, SMALLEST = 64, 32
"""Most activations of a unit that are kept one by one; at most a quarter of the images each."""


def atlas_evidence(
    run: Run, concepts: ConceptSet, words: npt.NDArray[np.float32], *, seed: int = 0
) -> Evidence:
    """Return what an atlas keeps of a run's sketches.

    Args:
        run: The recorded run.
        concepts: The concept set.
        words: ``(concepts, dim)`` its embeddings.
        seed: Of the sample of words.

    Returns:
        Centred cross moments, sums and extreme activations of all units, the moments of the
        images' embeddings, and samples of at most 2,000 images and 2,000 words.
    """
    images = run.sketches.images
    mean = images.sums / images.images
    sample = run.sample
    drawn = np.sort(np.argsort(priority(sample.keys))[:SAMPLE])
    chosen = np.arange(len(concepts))
    if len(chosen) > SAMPLE:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, SAMPLE, replace=False))
    return Evidence(
        count=images.images,
        sums=images.sums.copy(),
        products=images.products.copy(),
        sample=np.asarray(sample.embeddings[drawn], np.float32),
        words=tuple(concepts.words[index] for index in chosen),
        background=np.asarray(words[chosen], np.float32),
        sites={site.name: _of_site(run.sketch(site.name), mean) for site in run.sites},
    )


def _of_site(sketch: SiteSketch, mean: npt.NDArray[np.float64]) -> SiteEvidence:
    quarter = sketch.images // 4
    _, values = sketch.top()
    return SiteEvidence(
        cross=(sketch.products - np.outer(sketch.sums, mean)).astype(np.float32),
        sums=sketch.sums.copy(),
        squares=sketch.squares.copy(),
        largest=values[:, : min(LARGEST, quarter, sketch.shape.top)].copy(),
        smallest=sketch.smallest(min(SMALLEST, quarter)),
    )
