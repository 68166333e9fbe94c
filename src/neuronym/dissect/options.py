"""How a dissection is done: one frozen dataclass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from neuronym.errors import InputError, unknown
from neuronym.false_discovery import FDR_METHODS
from neuronym.record import PoolingChoice

__all__ = ["DissectOptions"]

MIN_THUMBNAIL = 32
MOST_COMPOSED = 3


@dataclass(frozen=True)
class DissectOptions:
    """How a dissection is done.

    Attributes:
        pooling: Name of a pooling, a function, a mapping from site patterns to either, or
            ``None`` for the default of each site (:func:`neuronym.record.pooling.pooling_for`).
        channel_dims: Site pattern → dimension of the units, where it cannot be known otherwise.
        similarity_keywords: Keywords of the similarity. What is left out gets the similarity's
            default, but ``scale`` follows the vision-text model's logit scale and ``top_k`` is
            at most a quarter of the images (:func:`neuronym.dissect.naming.resolved_keywords`).
        centre: Whether concept scores are centred per concept over the images before they are
            compared: a concept that fits every image a little then names no unit. CLIP-Dissect
            compares scores as they are (``False``). ``None`` centres for every similarity but
            rank-reorder, whose divisor is a power of the mean score.
        permutations: Shuffles of the images behind ``p_value``, for any similarity. Each costs as
            much as the naming, and activations of all images are read. With 0, cosine, WPMI and
            SoftWPMI take draws of a null distribution that needs neither (``null_draws``), and
            other similarities have no p-values.
        significance: False-discovery rate over all units, above 0 and below 1. A unit whose
            ``q_value`` is above it stays unnamed. ``None`` names every unit, and draws no null
            distribution unless there are ``permutations``.
        null_draws: Draws of the null distribution; the smallest p-value is 1 / (1 + draws).
        fdr: ``"bh"`` (Benjamini and Hochberg) or ``"by"`` (Benjamini and Yekutieli, for units of
            any dependence).
        linear: Most concepts of a linear explanation; 0 makes none.
        compose: Most concepts of a compositional name, up to 3; 1 makes none.
        top_images: Images per unit that the atlas lists and shows.
        runner_ups: Names per unit beside the best.
        thumbnail_pixels: Longest side of a thumbnail; smaller images are not enlarged.
        batch_size: Images per forward pass.
        workers: Threads that decode; ``None`` takes one per processor, at most 4.
        device: Where the model runs and similarities are computed, e.g. ``"cuda"``; ``None``
            takes the device of the model's parameters. A model is moved back afterwards.
        cache: A folder for embeddings and recordings that later runs may use; ``True`` takes the
            user's cache folder, ``False`` keeps none.
        overwrite: Replace an earlier atlas in the output folder, once the input has proved good.
        seed: Of the permutations, and of a similarity that draws at random.
        transform: One PIL image → one input tensor, for a model that is a plain module.
        progress: Called with ``(done, total, note)``.
    """

    pooling: PoolingChoice = None
    channel_dims: Mapping[str, int] = dataclasses.field(default_factory=dict)
    similarity_keywords: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    centre: bool | None = None
    permutations: int = 0
    significance: float | None = 0.05
    null_draws: int = 1000
    fdr: str = "bh"
    linear: int = 0
    compose: int = 1
    top_images: int = 20
    runner_ups: int = 5
    thumbnail_pixels: int = 192
    batch_size: int = 32
    workers: int | None = None
    device: str | None = None
    cache: bool | str | Path = True
    overwrite: bool = False
    seed: int = 0
    transform: Callable[[Image.Image], Tensor] | None = None
    progress: Callable[[int, int | None, str], None] | None = None

    def __post_init__(self) -> None:
        least = {
            "permutations": 0,
            "null_draws": 1,
            "linear": 0,
            "compose": 1,
            "top_images": 1,
            "runner_ups": 0,
            "thumbnail_pixels": MIN_THUMBNAIL,
            "batch_size": 1,
        }
        for name, smallest in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
                raise InputError(
                    f"{name} must be a whole number of at least {smallest}, not {value!r}"
                )
        level = self.significance
        if level is not None and (
            isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1
        ):
            raise InputError(f"significance must be above 0 and below 1, or None, not {level!r}")
        for name in ("permutations", "null_draws"):
            draws = getattr(self, name)
            if level is not None and draws and (1 + draws) * level < 1:
                raise InputError(
                    f"with {name}={draws} no p-value is below {1 / (1 + draws):.3g}, so that no "
                    f"name could be significant at {level}; give at least "
                    f"{math.ceil(1 / level - 1e-9) - 1}"
                )
        if self.compose > MOST_COMPOSED:
            raise InputError(f"compose must be at most {MOST_COMPOSED}, not {self.compose}")
        if self.fdr not in FDR_METHODS:
            raise unknown("method of false-discovery control", str(self.fdr), FDR_METHODS)
