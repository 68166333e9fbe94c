"""Named settings: some found by experiment here, and the recipes of the literature.

The recipes train ImageNet-1k, Places365 or another large set from scratch, with the settings that
the dense networks were published with and competition in place of activations. See
``docs/training.md``.
"""

from __future__ import annotations

from dataclasses import replace

from neuronym.errors import unknown
from neuronym.train.settings import TrainSettings

__all__ = [
    "CIFAR10",
    "CIFAR10_DEIT",
    "CIFAR10_INVERTED",
    "PRESETS",
    "RECIPES",
    "SCENES",
    "SCENES_TASK",
    "preset_of",
]

SCENES_TASK = ("colour", "background")
"""The label of a scene: 11 colours × 9 backgrounds = 99 classes such as "red brick"."""

SCENES = TrainSettings(
    model="neuronym.models.small:scene_net",
    competitors=8,
    epochs=16,
    batch_size=64,
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=0.02,
    augment="light",
    kl_weight=1e-5,
    temperature=2.0,
    precision="bfloat16",
)

CIFAR10 = TrainSettings(
    model="neuronym.models.small:cifar_resnet",
    competitors=8,
    epochs=30,
    batch_size=128,
    optimizer="adamw",
    learning_rate=4e-3,
    weight_decay=0.05,
    augment="cifar",
    kl_weight=2e-6,
    temperature=2.0,
    settle=0.1,
    precision="bfloat16",
)

CIFAR10_INVERTED = replace(CIFAR10, model="neuronym.models.small:cifar_inverted")
"""The same for a network whose residual stream is never masked; see ``docs/training.md``."""

CIFAR10_DEIT = replace(
    CIFAR10,
    model="neuronym.models.tokens:cifar_deit",
    competitors=24,
    skip=("stem.*",),
    epochs=8,
    learning_rate=2e-3,
    clip_norm=1.0,
    kl_weight=0.0,
    temperature=3.0,
)
"""A reduced transformer in which the hidden layers of the blocks compete."""

DEIT = TrainSettings(
    model="timm:deit_tiny_patch16_224",
    competitors=24,
    epochs=300,
    batch_size=1024,
    optimizer="adamw",
    learning_rate=5e-4 * 1024 / 512,
    weight_decay=0.05,
    schedule="cosine",
    warmup=5 / 300,
    label_smoothing=0.1,
    augment="deit",
    mixup=0.8,
    cutmix=1.0,
    drop_path=0.1,
    kl_weight=1e-6,
    settle=0.1,
    precision="bfloat16",
    workers=8,
)
"""Touvron et al., "Training data-efficient image transformers" (arXiv 2012.12877), table 9."""

RESNET = TrainSettings(
    model="timm:resnet18",
    competitors=8,
    epochs=90,
    batch_size=256,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="cosine",
    warmup=5 / 90,
    label_smoothing=0.0,
    augment="imagenet",
    kl_weight=1e-7,
    temperature=2.0,
    settle=0.1,
    precision="bfloat16",
    workers=8,
)
"""Goyal et al., "Accurate, large minibatch SGD" (arXiv 1706.02677), the rate along a cosine."""

RECIPES: dict[str, TrainSettings] = {
    **{
        f"deit-{size}-u{competitors}": replace(
            DEIT, model=f"timm:deit_{size}_patch16_224", competitors=competitors
        )
        for size in ("tiny", "small")
        for competitors in (2, 8, 12, 16, 24)
    },
    **{
        f"resnet{depth}-u{competitors}": replace(
            RESNET, model=f"timm:resnet{depth}", competitors=competitors
        )
        for depth in (18, 50)
        for competitors in (2, 4, 8)
    },
}
"""The recipes of the literature; ``.twin()`` (``--dense``) gives the published dense network."""

PRESETS: dict[str, TrainSettings] = {
    "scenes": SCENES,
    "cifar10": CIFAR10,
    "cifar10-inverted": CIFAR10_INVERTED,
    "cifar10-deit": CIFAR10_DEIT,
    **RECIPES,
}


def preset_of(name: str, *, batch_size: int | None = None) -> TrainSettings:
    """Return a preset, with another batch where that is asked.

    The learning rate of a recipe grows in proportion to its batch, as both papers have it; that
    of the other presets stays.

    Args:
        name: A key of :data:`PRESETS`.
        batch_size: Images per step over all processes; ``None`` keeps the preset's.

    Raises:
        UnknownNameError: There is no such preset.
        InputError: The batch is not a whole number of at least 1.
    """
    if name not in PRESETS:
        raise unknown("preset", name, list(PRESETS))
    settings = PRESETS[name]
    if batch_size is None:
        return settings
    changed = replace(settings, batch_size=batch_size)
    if name not in RECIPES:
        return changed
    rate = settings.learning_rate * batch_size / settings.batch_size
    return replace(changed, learning_rate=rate)
