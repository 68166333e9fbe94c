"""The image side's arrays of one variant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from neuronym.fit_pocket.photo_part import calibrated_scale, features_of, reference, shrunk
from neuronym.fit_pocket.scene_part import fit_ridge
from neuronym.fit_pocket.settings import FitSettings
from neuronym.probes import ProbeSet
from neuronym.probes.scenes import SceneSet
from neuronym.vision_text.pocket.arrays import ImageArrays, TextArrays
from neuronym.vision_text.pocket.space import image_embeddings, text_embeddings
from neuronym.vision_text.pocket.tower import ImageFeatures, ImageTower

__all__ = ["Sources", "fit_image_side"]

FloatArray = npt.NDArray[np.float32]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Sources:
    """What the image side is fitted on.

    Attributes:
        photos: Reference photos, those held out left out.
        scenes: Rendered scenes, combinations that are held out left out.
        label_names: Label index → MiniLM vector of its name, for labels whose name is not held
            out.
    """

    photos: ProbeSet
    scenes: SceneSet
    label_names: Mapping[int, FloatArray]


def fit_image_side(
    variant: str,
    sources: Sources,
    text: TextArrays,
    settings: FitSettings,
    facts: Mapping[str, Any],
    *,
    told: Progress,
) -> ImageArrays:
    """Fit every array of one variant's image side."""
    tower, photos, scenes = ImageTower(variant), sources.photos, sources.scenes

    def share(step: str, total: int) -> Callable[[int], None]:
        return lambda done: told(f"{variant}: {step}", done / total)

    count = len(photos)
    large = features_of(tower, count, photos.image, progress=share("photos", count))
    tiny = features_of(
        tower, count, lambda i: shrunk(photos.image(i)), progress=share("tiny photos", count)
    )
    means = reference(large, tiny, text.labels)
    drawn = features_of(tower, len(scenes), scenes.image, progress=share("scenes", len(scenes)))
    ridge = fit_ridge(drawn.descriptors, scenes.attributes, penalty=settings.penalty)
    arrays = ImageArrays(
        posterior_mean=means.posterior_mean,
        tiny_bias=means.tiny_bias,
        object_mean=means.object_mean,
        descriptor_mean=ridge.mean,
        descriptor_scale=ridge.scale,
        attribute_weights=ridge.weights,
        facts={**facts, "variant": variant, "mixture": asdict(settings.mixture)},
    )
    scale = _logit_scale(large, sources, text, arrays, settings)
    return replace(arrays, facts={**arrays.facts, "logit_scale": scale})


def _logit_scale(
    features: ImageFeatures,
    sources: Sources,
    text: TextArrays,
    arrays: ImageArrays,
    settings: FitSettings,
) -> float:
    """Calibrate on the reference photos and the names of their labels."""
    labels: Sequence[int] = [] if sources.photos.labels is None else sources.photos.labels.tolist()
    column = {label: index for index, label in enumerate(sources.label_names)}
    rows = [row for row, label in enumerate(labels) if label in column]
    vectors = np.stack(list(sources.label_names.values()))
    names = text_embeddings(vectors, text, arrays.posterior_mean, settings.mixture)
    scores = image_embeddings(features, arrays, text.labels, settings.mixture) @ names.T
    truth = np.array([column[labels[row]] for row in rows], dtype=np.int64)
    return round(calibrated_scale((scores - scores.mean(axis=0))[rows], truth), 3)
