"""Settings that are known to work, each found by experiment (see ``docs/training.md``)."""

from __future__ import annotations

from neuronym.train.settings import TrainSettings

__all__ = ["CIFAR10", "PRESETS", "SCENES", "SCENES_TASK"]

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

PRESETS: dict[str, TrainSettings] = {"scenes": SCENES, "cifar10": CIFAR10}
