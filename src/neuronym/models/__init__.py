"""Models by SPEC, with their preprocessing, and small networks of our own."""

from neuronym.models.base import LoadedModel, LoadOptions, model_fingerprint
from neuronym.models.folder import ModelConfig, load_folder, read_config, save_folder
from neuronym.models.head import HeadConfig, HeadedModel
from neuronym.models.load import LOADERS, load
from neuronym.models.preprocessing import Preprocessing, resize_side

__all__ = [
    "LOADERS",
    "HeadConfig",
    "HeadedModel",
    "LoadOptions",
    "LoadedModel",
    "ModelConfig",
    "Preprocessing",
    "load",
    "load_folder",
    "model_fingerprint",
    "read_config",
    "resize_side",
    "save_folder",
]
