"""ImageNet models whose weights come from the package index: ``pocket:efficientnet_lite0/1/2``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor

from neuronym.errors import InputError, unknown
from neuronym.models.base import LoadedModel, LoadOptions
from neuronym.models.hub import imagenet_names
from neuronym.models.preprocessing import Preprocessing
from neuronym.vision_text.efficientnet import (
    EFFICIENTNET_LITE,
    efficientnet_transform,
    load_efficientnet_lite,
)

__all__ = ["load_pocket"]


def load_pocket(name: str, options: LoadOptions) -> LoadedModel:
    """Load ``pocket:NAME``, with its own preprocessing where nothing else is asked.

    With a new head or another size the preprocessing is the same resize, crop and normalisation
    as data (:class:`Preprocessing`), so that a model trained from it can be saved.

    Raises:
        UnknownNameError: There is no pocket model of this name.
        UnavailableError: The package that carries its weights is not installed.
    """
    if name not in EFFICIENTNET_LITE:
        raise unknown("pocket model", name, list(EFFICIENTNET_LITE))
    import timm

    module: Any
    if options.pretrained:
        module = load_efficientnet_lite(name)
    else:
        module = timm.create_model(f"tf_{name}", pretrained=False)
    if options.num_classes is not None:
        module.reset_classifier(options.num_classes)
    own = efficientnet_transform(name)
    size = options.input_size or own.input_size
    if size[0] != 3:
        raise InputError(f"model 'pocket:{name}' takes 3 channels, not {size[0]}")
    transform: Callable[[Image.Image], Tensor] = own
    if options.num_classes is not None or options.input_size is not None:
        transform = Preprocessing(
            input_size=size,
            mean=own.mean,
            std=own.std,
            resize=round(max(size[1:]) / own.crop),
            interpolation="bicubic",
        )
    names = imagenet_names() if options.num_classes is None else None
    return LoadedModel(module, transform, names, f"pocket:{name}", size)
