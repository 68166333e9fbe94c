"""Published architectures: ``timm:NAME`` and ``torchvision:NAME``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from neuronym.errors import InputError, UnavailableError, unknown
from neuronym.models.base import LoadedModel, LoadOptions
from neuronym.models.preprocessing import Preprocessing
from neuronym.vision_text.hub import cached_or_fetched_file

__all__ = ["imagenet_names", "load_timm", "load_torchvision"]

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_SOURCES = ("local-dir:", "hf-hub:", "hf_hub:")


def _offline(spec: str, reason: str) -> UnavailableError:
    return UnavailableError(
        f"model {spec!r}: its pretrained weights need the network once ({reason}); offline, use "
        f"'pocket:efficientnet_lite0', a folder made by train, or train {spec!r} from scratch "
        "(pretrained=False)"
    )


def imagenet_names() -> tuple[str, ...]:
    """Return the 1000 ImageNet-1k class names, each once.

    A class is named by its first WordNet lemma; the two pairs that share it carry their index.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    names = [info.index_to_description(index).split(", ")[0] for index in range(1000)]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({index})" for index, name in enumerate(names)
    )


def load_timm(name: str, options: LoadOptions) -> LoadedModel:
    """Load ``timm:NAME``; ``NAME`` may carry a tag, as in ``resnet18.a1_in1k``.

    Raises:
        UnknownNameError: timm has no such architecture or tag.
        InputError: Weights are wanted and timm has none for it.
        UnavailableError: The weights are not in the cache and the hub cannot be reached.
    """
    import timm

    spec = f"timm:{name}"
    if not name.startswith(_SOURCES):
        _check_timm_name(name, options.pretrained)
    arguments: dict[str, Any] = {"pretrained": options.pretrained}
    if options.num_classes is not None:
        arguments["num_classes"] = options.num_classes
    if options.input_size is not None:
        arguments["in_chans"] = options.input_size[0]
        if _takes_image_size(name):
            arguments["img_size"] = options.input_size[1:]
    if options.pretrained:
        arguments["pretrained_cfg_overlay"] = _timm_weights(name, spec)
    try:
        module = timm.create_model(name, **arguments)
    except OSError as error:
        raise _offline(spec, _one_line(error)) from error
    config = timm.data.resolve_model_data_config(module)
    if options.input_size is not None:
        config["input_size"] = options.input_size
    names = _timm_class_names(module) if options.num_classes is None else None
    transform = _timm_preprocessing(config)
    return LoadedModel(module, transform, names, spec, transform.input_size)


def _check_timm_name(name: str, pretrained: bool) -> None:
    import timm

    architecture, _, tag = name.partition(".")
    known = timm.list_models()
    if architecture not in known:
        raise unknown("timm model", architecture, known)
    with_weights = timm.list_pretrained(f"{architecture}*")
    tags = [full.partition(".")[2] for full in with_weights if full.split(".")[0] == architecture]
    if tag and tag not in tags:
        raise unknown(f"weights of timm model {architecture!r}", tag, tags or ["(none)"])
    if pretrained and not tags:
        raise InputError(
            f"timm has no pretrained weights for {architecture!r}; pass pretrained=False"
        )


def _takes_image_size(name: str) -> bool:
    import timm

    if name.startswith(_SOURCES):
        return False
    config = timm.get_pretrained_cfg(name)
    return bool(config is not None and config.fixed_input_size)


def _timm_weights(name: str, spec: str) -> dict[str, Any]:
    """Return an overlay that points at the weight file in the local cache, fetched if need be.

    The empty overlay leaves the search to timm: for weights that it loads by code of its own, or
    that live outside the hub.
    """
    import timm

    config = None if name.startswith(_SOURCES) else timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id or config.custom_load:
        return {}
    files = (config.hf_hub_filename,) if config.hf_hub_filename else _WEIGHT_FILES
    try:
        path = cached_or_fetched_file(config.hf_hub_id, files, spec=spec)
    except UnavailableError as error:
        raise _offline(spec, "the hub cannot be reached") from error
    return {"file": str(path)}


def _timm_class_names(module: Any) -> tuple[str, ...] | None:
    from timm.data import ImageNetInfo, infer_imagenet_subset

    config = module.pretrained_cfg
    if names := config.get("label_names"):
        return tuple(names) if len(names) == module.num_classes else None
    subset = infer_imagenet_subset(module)
    if subset is None:
        return None
    if subset == "imagenet-1k":
        return imagenet_names()
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))


def _timm_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    channels, height, width = config["input_size"]
    mean, std = tuple(config["mean"]), tuple(config["std"])
    if channels == 1 and len(mean) == 3:
        mean, std = (sum(mean) / 3,), (sum(std) / 3,)
    squash = config.get("crop_mode") == "squash"
    return Preprocessing(
        input_size=(channels, height, width),
        mean=mean,
        std=std,
        resize=None if squash else math.floor(max(height, width) / config["crop_pct"]),
        interpolation=config["interpolation"],
        fit="squash" if squash else "crop",
    )


def load_torchvision(name: str, options: LoadOptions) -> LoadedModel:
    """Load ``torchvision:NAME`` with its default weights and their transforms.

    Raises:
        UnknownNameError: torchvision has no classification model of this name.
        UnavailableError: The weights are not in the cache and cannot be fetched.
    """
    from torchvision import models

    spec = f"torchvision:{name}"
    known = models.list_models(module=models)
    if name not in known:
        raise unknown("torchvision model", name, known)
    weights = models.get_model_weights(name).DEFAULT
    arguments: dict[str, Any] = (
        {}
        if options.num_classes is None or options.pretrained
        else {"num_classes": options.num_classes}
    )
    if name in ("googlenet", "inception_v3") and not options.pretrained:
        arguments |= {"aux_logits": False, "init_weights": True}
    try:
        chosen = weights if options.pretrained else None
        module = models.get_model(name, weights=chosen, progress=False, **arguments)
    except OSError as error:
        raise _offline(spec, _one_line(error)) from error
    names: tuple[str, ...] | None = tuple(weights.meta["categories"])
    if options.num_classes is not None:
        names = None
        if options.pretrained:
            _replace_head(module, options.num_classes, spec)
    preset = weights.transforms()
    transform = Preprocessing(
        input_size=(3, preset.crop_size[0], preset.crop_size[0]),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
    )
    if options.input_size is not None:
        transform = _resized(transform, options.input_size)
    return LoadedModel(module, transform, names, spec, transform.input_size)


def _resized(transform: Preprocessing, size: tuple[int, int, int]) -> Preprocessing:
    if size[0] != 3:
        raise InputError(f"torchvision models take 3 channels, not {size[0]}")
    ratio = (transform.resize or transform.input_size[1]) / transform.input_size[1]
    return Preprocessing(
        input_size=size,
        mean=transform.mean,
        std=transform.std,
        resize=round(ratio * max(size[1:])),
        interpolation=transform.interpolation,
    )


def _replace_head(module: Any, num_classes: int, spec: str) -> None:
    """Put a fresh head of ``num_classes`` in place of the last linear or convolution layer."""
    from torch import nn

    heads = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not heads:
        raise InputError(
            f"{spec!r} ends in a convolution, so its pretrained head cannot be replaced; "
            "pass pretrained=False"
        )
    name, head = heads[-1]
    parent, _, leaf = name.rpartition(".")
    fresh = nn.Linear(head.in_features, num_classes, bias=head.bias is not None)
    setattr(module.get_submodule(parent), leaf, fresh)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
