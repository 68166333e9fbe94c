"""Models of the user's own: ``module.path:factory``.

The factory is called with ``num_classes`` and ``input_size`` where its signature takes them and
the caller gave them. It returns an ``nn.Module``, or a :class:`LoadedModel` that says everything.
For a bare module the preprocessing is read from attributes of the module, else of the factory:
``input_size`` (C, H, W), ``mean``, ``std``, ``resize``, ``interpolation``, ``fit`` (the fields of
:class:`~neuronym.models.Preprocessing`), and ``class_names``. What neither has is ImageNet's:
224 × 224, its mean and deviation, the shorter side at 256, bilinear.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from neuronym.errors import InputError, UnavailableError, UnknownNameError, unknown
from neuronym.models.base import LoadedModel, LoadOptions
from neuronym.models.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    checked_input_size,
)

__all__ = ["find_factory", "load_factory"]

_SIZE = (3, 224, 224)
_RESIZE = 256


def find_factory(spec: str) -> Callable[..., object]:
    """Import ``module.path`` and return its ``factory``.

    Raises:
        UnknownNameError: There is no such module, or it has no such callable.
        UnavailableError: The module itself fails on import.
    """
    path, _, name = spec.partition(":")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and (path == error.name or path.startswith(f"{error.name}.")):
            raise UnknownNameError(
                f"model {spec!r}: there is no module {error.name!r} to import; known forms: "
                "timm:NAME, torchvision:NAME, pocket:NAME, a folder made by train, "
                "module.path:factory"
            ) from error
        raise UnavailableError(f"model {spec!r}: {error}") from error
    except Exception as error:
        text = f"importing {path!r} fails with {type(error).__name__}"
        raise UnavailableError(f"model {spec!r}: {text}: {_one_line(error)}") from error
    found = getattr(module, name, None)
    if not callable(found):
        names = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise unknown(f"factory in {path}", name, names or ["(none)"])
    factory: Callable[..., object] = found
    return factory


def load_factory(spec: str, options: LoadOptions) -> LoadedModel:
    """Call the factory that ``spec`` names.

    Raises:
        UnknownNameError: As in :func:`find_factory`.
        InputError: The factory returns something else, or cannot take what was asked.
    """
    factory = find_factory(spec)
    wanted: dict[str, Any] = {
        "num_classes": options.num_classes,
        "input_size": options.input_size,
    }
    taken = _parameters(factory)
    arguments = {key: value for key, value in wanted.items() if value is not None and key in taken}
    made = factory(**arguments)
    if isinstance(made, LoadedModel):
        return replace(made, spec=spec)
    if not isinstance(made, nn.Module):
        raise InputError(
            f"model {spec!r}: the factory returned {type(made).__name__}, not a torch.nn.Module"
        )
    if options.num_classes is not None and "num_classes" not in taken:
        raise InputError(
            f"model {spec!r}: num_classes={options.num_classes} is asked, and the factory has no "
            "parameter num_classes"
        )
    transform = _preprocessing(made, factory, options.input_size)
    names = _attribute(made, factory, "class_names")
    return LoadedModel(
        module=made,
        transform=transform,
        class_names=None if names is None else tuple(str(name) for name in names),
        spec=spec,
        input_size=transform.input_size,
    )


def _parameters(factory: Callable[..., object]) -> frozenset[str]:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return frozenset()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return frozenset({"num_classes", "input_size"})
    return frozenset(
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    )


def _attribute(module: nn.Module, factory: Callable[..., object], name: str) -> Any:
    return getattr(module, name, getattr(factory, name, None))


def _preprocessing(
    module: nn.Module, factory: Callable[..., object], size: tuple[int, int, int] | None
) -> Preprocessing:
    own = _attribute(module, factory, "input_size")
    resize = _attribute(module, factory, "resize")
    if size is None and own is None:
        resize = _RESIZE if resize is None else resize
    if size is not None:
        resize = None
    chosen = size or (_SIZE if own is None else checked_input_size(own))
    grey = chosen[0] == 1
    mean = _attribute(module, factory, "mean")
    std = _attribute(module, factory, "std")
    return Preprocessing(
        input_size=chosen,
        mean=((0.449,) if grey else IMAGENET_MEAN) if mean is None else tuple(mean),
        std=((0.226,) if grey else IMAGENET_STD) if std is None else tuple(std),
        resize=resize,
        interpolation=_attribute(module, factory, "interpolation") or "bilinear",
        fit=_attribute(module, factory, "fit") or "crop",
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
