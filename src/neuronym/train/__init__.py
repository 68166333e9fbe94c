"""Training of competitive classifiers and their dense twins."""

from neuronym.train.data import open_source, split
from neuronym.train.divergence import DivergedError
from neuronym.train.head import HeadOptions, HeadResult, train_head
from neuronym.train.head_settings import HeadSettings
from neuronym.train.loop import Progress
from neuronym.train.measure import Evaluation, calibrate, evaluate
from neuronym.train.presets import PRESETS, RECIPES, SCENES_TASK, preset_of
from neuronym.train.run import BuiltModel, build_model, train
from neuronym.train.session import TrainResult
from neuronym.train.settings import TrainSettings

__all__ = [
    "PRESETS",
    "RECIPES",
    "SCENES_TASK",
    "BuiltModel",
    "DivergedError",
    "Evaluation",
    "HeadOptions",
    "HeadResult",
    "HeadSettings",
    "Progress",
    "TrainResult",
    "TrainSettings",
    "build_model",
    "calibrate",
    "evaluate",
    "open_source",
    "preset_of",
    "split",
    "train",
    "train_head",
]
