"""The pocket vision-text model: nothing to download but the package index."""

from neuronym.vision_text.pocket.model import (
    DEFAULT_VARIANT,
    PocketModel,
    PocketOptions,
    load_pocket,
)

__all__ = ["DEFAULT_VARIANT", "PocketModel", "PocketOptions", "load_pocket"]
