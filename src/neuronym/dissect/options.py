"""How a dissection is done: one frozen dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from neuronym.dissect.calibrate import FDR_METHODS
from neuronym.errors import InputError, unknown
from neuronym.record import PoolingChoice

__all__ = ["DissectOptions"]

MIN_THUMBNAIL = 32
LONGEST_FORMULA = 3


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
        significance: False-discovery rate at which a name is significant, above 0 and below 1; a
            unit whose ``q_value`` is above it has no name. ``None`` tests nothing.
        null_draws: Draws of the null distribution behind ``p_value`` where the similarity has one
            of its own (:data:`neuronym.dissect.calibrate.HAVE_NULLS`), at least 1.
        fdr: How units are tested together: ``"bh"`` or ``"by"``, see
            :func:`neuronym.dissect.calibrate.q_values`.
        permutations: Permutations of the images behind ``p_value`` for every other similarity; 0
            computes none. Each costs as much as the naming.
        linear: Most concepts of a linear explanation
            (:func:`neuronym.dissect.linear.linear_explanations`); 0 finds none.
        compose: Most concepts of a formula (:func:`neuronym.dissect.compose.formulas`), 1 to 3; 1
            finds none.
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
    significance: float | None = 0.05
    null_draws: int = 1000
    fdr: str = "bh"
    permutations: int = 0
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
            "null_draws": 1,
            "permutations": 0,
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
        if self.compose > LONGEST_FORMULA:
            raise InputError(f"compose must be at most {LONGEST_FORMULA}, not {self.compose}")
        if self.fdr not in FDR_METHODS:
            raise unknown("method of false-discovery control", str(self.fdr), FDR_METHODS)
        level = self.significance
        if level is not None and (
            isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1
        ):
            raise InputError(f"significance must be above 0 and below 1, or None, not {level!r}")
