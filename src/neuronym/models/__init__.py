"""Models by SPEC, with their preprocessing, and small networks of our own."""

from neuronym.models.base import LoadedModel, LoadOptions, check_made_from, model_fingerprint
from neuronym.models.edited_folder import load_edited, save_edited
from neuronym.models.editing import applied, apply, make_edit, variants
from neuronym.models.edits import ACTIONS, Change, Edit
from neuronym.models.folder import ModelConfig, load_folder, read_config, save_folder
from neuronym.models.head import HeadConfig, HeadedModel
from neuronym.models.load import LOADERS, load
from neuronym.models.preprocessing import Preprocessing, resize_side

__all__ = [
    "ACTIONS",
    "LOADERS",
    "Change",
    "Edit",
    "HeadConfig",
    "HeadedModel",
    "LoadOptions",
    "LoadedModel",
    "ModelConfig",
    "Preprocessing",
    "applied",
    "apply",
    "check_made_from",
    "load",
    "load_edited",
    "load_folder",
    "make_edit",
    "model_fingerprint",
    "read_config",
    "resize_side",
    "save_edited",
    "save_folder",
    "variants",
]
