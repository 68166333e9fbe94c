"""How the arrays are fitted."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuronym.errors import InputError, unknown
from neuronym.fit_pocket.class_head import HeadSettings
from neuronym.fit_pocket.word_reader import READER
from neuronym.vision_text.efficientnet import EFFICIENTNET_LITE
from neuronym.vision_text.pocket.space import Mixture

__all__ = ["FitSettings"]


def _mixture() -> Mixture:
    return Mixture(
        objects=1.0,
        classes=0.1,
        attributes=1.0,
        tiny_objects=0.1,
        tiny_classes=60.0,
        prior_power=0.3,
        scale=0.5,
    )


@dataclass(frozen=True)
class FitSettings:
    """How the arrays are fitted.

    Attributes:
        variants: The image towers.
        scenes: Rendered scenes that the attribute part is fitted on.
        penalty: Of its ridge, per scene.
        definitions: WordNet definitions that the class head sees beside the lemmas.
        phrases: Composed texts that the attribute reader sees.
        mixture: Weights of the parts; the card says on what they were chosen.
        head, reader: Of the two text heads.

    Raises:
        UnknownNameError: A variant is not known.
        InputError: A number is out of range.
    """

    variants: tuple[str, ...] = ("efficientnet_lite0",)
    scenes: int = 4000
    penalty: float = 0.3
    definitions: int = 3000
    phrases: int = 8000
    mixture: Mixture = field(default_factory=_mixture)
    head: HeadSettings = field(default_factory=HeadSettings)
    reader: HeadSettings = READER

    def __post_init__(self) -> None:
        if not self.variants:
            raise InputError("variants must name at least one EfficientNet-Lite, not none")
        for variant in self.variants:
            if variant not in EFFICIENTNET_LITE:
                raise unknown("EfficientNet-Lite variant", variant, list(EFFICIENTNET_LITE))
        for name in ("scenes", "definitions", "phrases"):
            if getattr(self, name) < 100:
                raise InputError(f"{name} must be at least 100, not {getattr(self, name)}")
        if not self.penalty > 0:
            raise InputError(f"penalty must be above 0, not {self.penalty}")
