"""One entry for every kind of model: ``load(SPEC)``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from neuronym.errors import InputError, MissingError, UnknownNameError, UnreadableError, nearest
from neuronym.models.base import LoadedModel, LoadOptions
from neuronym.models.edited_folder import is_edited, load_edited
from neuronym.models.factory import load_factory
from neuronym.models.folder import load_folder
from neuronym.models.hub import load_timm, load_torchvision
from neuronym.models.pocket import load_pocket

__all__ = ["LOADERS", "load"]


def _load_hf(name: str, options: LoadOptions) -> LoadedModel:
    from neuronym.models.sharing import load_hf  # its import takes a moment, and few need it

    return load_hf(name, options)


LOADERS: dict[str, Callable[[str, LoadOptions], LoadedModel]] = {
    "timm": load_timm,
    "torchvision": load_torchvision,
    "pocket": load_pocket,
    "hf": _load_hf,
}
_FORMS = (
    "timm:NAME, torchvision:NAME, pocket:NAME, hf:OWNER/NAME, a folder made by train, "
    "module.path:factory"
)


def load(
    spec: str,
    *,
    num_classes: int | None = None,
    pretrained: bool = True,
    input_size: tuple[int, int, int] | None = None,
    seed: int = 0,
) -> LoadedModel:
    """Load a model by its SPEC.

    Args:
        spec: ``timm:NAME``, ``torchvision:NAME``, ``pocket:NAME``, ``hf:OWNER/NAME`` (a model
            folder on the hub), a folder made by ``train`` or ``ablate``, or
            ``module.path:factory`` (see
            :mod:`neuronym.models.factory`).
        num_classes: Outputs of a fresh head; ``None`` keeps the model's own.
        pretrained: Whether published weights are loaded (timm, torchvision and pocket).
        input_size: (C, H, W) in place of the model's own.
        seed: Of the weights that are not loaded but drawn. The caller's random state is not
            touched.

    Raises:
        UnknownNameError: No loader, architecture, module or factory of that name.
        UnavailableError: Weights need a network that cannot be reached, or a package is missing.
        MissingError: The folder does not exist.
        UnreadableError: The folder is not a whole model folder.
        InputError: An argument does not fit the model.
    """
    options = LoadOptions(num_classes, pretrained, input_size)
    prefix, colon, rest = spec.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if colon and prefix in LOADERS:
            return LOADERS[prefix](rest, options)
        if Path(spec).exists() or _looks_like_path(spec):
            return _from_disk(spec, options)
        if colon:
            return load_factory(spec, options)
    raise _not_known(spec)


def _looks_like_path(spec: str) -> bool:
    return "/" in spec or "\\" in spec or spec in (".", "..")


def _from_disk(spec: str, options: LoadOptions) -> LoadedModel:
    path = Path(spec)
    if not path.exists():
        raise MissingError(f"model folder {spec!r} does not exist")
    if not path.is_dir():
        raise UnreadableError(
            f"model {spec!r} is a file; give the folder that train wrote, or module.path:factory "
            "for a model of your own"
        )
    loaded = load_edited(path) if is_edited(path) else load_folder(path)
    if options.num_classes not in (None, _outputs(loaded)):
        raise InputError(
            f"model {spec!r} has {_outputs(loaded)} classes, not {options.num_classes}"
        )
    if options.input_size not in (None, loaded.input_size):
        raise InputError(f"model {spec!r} takes {loaded.input_size}, not {options.input_size}")
    return loaded


def _outputs(loaded: LoadedModel) -> int:
    with torch.no_grad():
        return int(loaded.module(torch.zeros(1, *loaded.input_size)).shape[1])


def _not_known(spec: str) -> UnknownNameError:
    import timm

    close = nearest(spec, timm.list_models(), count=1)
    hint = f" Did you mean 'timm:{close[0]}'?" if close else ""
    return UnknownNameError(f"unknown model {spec!r}; known forms: {_FORMS}.{hint}")
