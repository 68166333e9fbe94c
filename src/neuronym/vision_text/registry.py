"""Which SPEC prefix is which backend. A backend's libraries are imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from neuronym.errors import InputError, unknown
from neuronym.vision_text.base import VisionTextModel

__all__ = ["BACKENDS", "load"]

FORMS = "pocket, open_clip:ARCH/TAG_OR_CHECKPOINT, hf:REPO_OR_FOLDER"


def _pocket(rest: str, device: str, batch_size: int) -> VisionTextModel:
    from neuronym.vision_text.pocket import load_pocket

    return load_pocket(rest or "efficientnet_lite0", device=device, batch_size=batch_size)


def _open_clip(rest: str, device: str, batch_size: int) -> VisionTextModel:
    from neuronym.vision_text.open_clip import load_open_clip

    return load_open_clip(rest, device=device, batch_size=batch_size)


def _huggingface(rest: str, device: str, batch_size: int) -> VisionTextModel:
    from neuronym.vision_text.huggingface import load_huggingface

    return load_huggingface(rest, device=device, batch_size=batch_size)


BACKENDS: dict[str, Callable[[str, str, int], VisionTextModel]] = {
    "pocket": _pocket,
    "open_clip": _open_clip,
    "hf": _huggingface,
}


def load(spec: str, *, device: str = "cpu", batch_size: int = 32) -> VisionTextModel:
    """Load a vision-text model by its SPEC.

    Args:
        spec: ``"pocket"`` (nothing to download), ``"open_clip:ARCH/TAG_OR_CHECKPOINT"`` or
            ``"hf:REPO_OR_FOLDER"``.
        device: A torch device, e.g. ``"cuda"``.
        batch_size: How many images or texts go through the model at once, at least 1.

    Raises:
        InputError: The SPEC has no known form.
        UnknownNameError: Its backend, architecture or tag is not known.
        MissingError: It names a file or folder that does not exist.
        UnreadableError: The files are not a whole model.
        UnavailableError: It needs the network, a package or a device that is not here.
    """
    if not isinstance(spec, str):
        raise InputError(f"a vision-text SPEC is a string, not a {type(spec).__name__}: {FORMS}")
    backend, _, rest = spec.partition(":")
    if backend not in BACKENDS:
        raise unknown("vision-text model", spec, FORMS.split(", "))
    if not rest and backend != "pocket":
        raise InputError(f"{spec!r} names no model; forms: {FORMS}")
    return BACKENDS[backend](rest, device, batch_size)
