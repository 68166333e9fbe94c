"""The models that an atlas was made with, or others that a person names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from neuronym.models import LoadedModel
    from neuronym.results import Atlas
    from neuronym.vision_text import VisionTextModel

__all__ = ["model_of", "vision_text_of"]

Loaded = TypeVar("Loaded")


def model_of(spec: str | None, atlas: Atlas | None) -> LoadedModel:
    """Load the model that was given, or the one that the atlas was made from.

    Raises:
        InputError: Neither is given, the atlas's model cannot be loaded, or the model is not the
            one that the atlas was made from.
    """
    from neuronym.errors import InputError
    from neuronym.models import check_made_from, load

    if spec is not None:
        loaded = load(spec)
    elif atlas is not None:
        loaded = _as_made(load, atlas.model_spec, "model", "--model")
    else:
        raise InputError("give --model, or --atlas for the model that it was made from")
    if atlas is not None:
        check_made_from(loaded, atlas.provenance, what="the atlas")
    return loaded


def vision_text_of(spec: str | None, atlas: Atlas) -> VisionTextModel:
    """Load the vision-text model that was given, or the one that the atlas was made with.

    Raises:
        InputError: The atlas does not say, or what it says cannot be loaded.
    """
    from neuronym.errors import InputError
    from neuronym.vision_text import load

    if spec is not None:
        return load(spec)
    made_with = (atlas.provenance.get("vision_text") or {}).get("spec")
    if not made_with:
        raise InputError("the atlas does not say its vision-text model; name it by --vision-text")
    return _as_made(load, made_with, "vision-text model", "--vision-text")


def _as_made(load: Callable[[str], Loaded], spec: str, what: str, option: str) -> Loaded:
    from neuronym.errors import InputError, NeuronymError

    try:
        return load(spec)
    except NeuronymError as error:
        raise InputError(
            f"the atlas's {what} {spec!r} cannot be loaded: {error}; say where it is by {option}"
        ) from error
