"""``train_head``: a named, sparse last layer for any pretrained model, in seconds.

The backbone is frozen: its features are computed once and kept; the head on them is trained; the
result is backbone and head in one model folder.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuronym.devices import checked_device
from neuronym.errors import InputError, NeuronymError, UnreadableError
from neuronym.files import claim_folder, fingerprint, write_json, write_manifest
from neuronym.lwta import lwta_modules
from neuronym.models import (
    HeadConfig,
    HeadedModel,
    LoadedModel,
    ModelConfig,
    Preprocessing,
    load,
    read_config,
    save_folder,
)
from neuronym.models.folder import build, load_folder
from neuronym.models.head import classifier_of
from neuronym.probes import ProbeSet
from neuronym.record import find_sites
from neuronym.record.pooling import pooling_for
from neuronym.train.data import class_names_of, parts_of
from neuronym.train.features import FeatureOptions, Features, cached_features, feature_folder
from neuronym.train.head_fit import HeadFit, HeadProgress, fit_head, measure_head
from neuronym.train.head_settings import HeadSettings
from neuronym.train.measure import Evaluation
from neuronym.train.session import METRICS, versions

__all__ = ["Backbone", "HeadOptions", "HeadResult", "open_backbone", "train_head"]

KIND = "head"
SCHEMA = 1
_FIXED_CODE = ("timm", "torchvision", "pocket")


@dataclass(frozen=True)
class HeadOptions:
    """What does not change a head: where features are kept, and who is told.

    Attributes:
        features: Folder of the features; ``None`` is ``features`` in the cache folder.
        keep: Whether features are kept at all.
        batch_size: Images per forward pass of the backbone.
        workers: Threads that decode; ``None`` takes one per processor, at most 4.
        memory_mb: Features of a set above this size lie in a temporary file.
        feature_progress: Called with ``(images done, images, note)``.
        progress: Called after every step of the head.
    """

    features: str | Path | None = None
    keep: bool = True
    batch_size: int = 64
    workers: int | None = None
    memory_mb: int = 4096
    feature_progress: Callable[[int, int, str], None] | None = None
    progress: Callable[[HeadProgress], None] | None = None


@dataclass(frozen=True)
class HeadResult:
    """What :func:`train_head` gives.

    Attributes:
        folder: A model folder: ``model.safetensors``, ``config.json``, ``metrics.json``.
        config: Content of ``config.json``.
        validation: The head of the best epoch, measured with the largest unit winning.
        per_class: Class name → (right answers, images) of the validation set.
        best_epoch: From 1.
        history: One record per epoch.
        seconds: ``"features"`` and ``"head"``.
        skipped: Id and reason of the images that could not be read.
    """

    folder: Path
    config: ModelConfig
    validation: Evaluation
    per_class: dict[str, tuple[int, int]]
    best_epoch: int
    history: tuple[dict[str, Any], ...]
    seconds: dict[str, float]
    skipped: dict[str, str]


@dataclass(frozen=True)
class Backbone:
    """A frozen backbone, ready to give features.

    Attributes:
        model: The backbone with an empty head.
        preprocessing: What an image goes through.
        architecture: SPEC of the architecture.
        fingerprint: Identifies it and its preprocessing by content.
        reusable: Whether the fingerprint says all: code that a person may edit has none.
    """

    model: HeadedModel
    preprocessing: Preprocessing
    architecture: str
    fingerprint: str
    reusable: bool

    def features(
        self, probe: ProbeSet, *, mirrored: bool = False, options: HeadOptions | None = None
    ) -> Features:
        """Return the features of a labelled set; see :func:`cached_features`."""
        options = options or HeadOptions()
        return cached_features(
            self.model,
            probe,
            self.preprocessing,
            backbone=self.fingerprint,
            mirrored=mirrored,
            options=FeatureOptions(
                folder=feature_folder(options.features, keep=options.keep and self.reusable),
                batch_size=options.batch_size,
                workers=options.workers,
                memory_mb=options.memory_mb,
                progress=options.feature_progress,
            ),
        )


def train_head(
    backbone: str | LoadedModel,
    data: ProbeSet,
    *,
    out: str | Path,
    settings: HeadSettings | None = None,
    validation: ProbeSet | None = None,
    overwrite: bool = False,
    options: HeadOptions | None = None,
) -> HeadResult:
    """Train a head on the frozen features of a backbone, and write both as one model folder.

    Args:
        backbone: A SPEC of :func:`neuronym.models.load`, or what that returned.
        data: Labelled images.
        out: A new or empty folder.
        settings: The head and its training.
        validation: Labelled images of the same classes, which choose the epoch; without them
            ``settings.holdout`` of ``data`` is kept apart, by ``settings.seed``.
        overwrite: Replace an earlier head in ``out``.
        options: Cache and progress.

    Raises:
        InputError: The data has no labels or one class, the classes differ, the backbone has no
            such site, or its transform cannot be saved.
        FolderInUseError: ``out`` holds something else.
        DivergedError: The loss is not finite.
        NeuronymError: As in :func:`neuronym.models.load`.
    """
    settings, options = settings or HeadSettings(), options or HeadOptions()
    names = class_names_of(data)
    data, held = parts_of(data, validation, holdout=settings.holdout, seed=settings.seed)
    source = open_backbone(backbone, settings)
    config = _config(settings, source, names, {"training": data, "validation": held})
    _check_rebuild(config, source)
    claim = claim_folder(out, kind=KIND, overwrite=overwrite)
    began = time.perf_counter()
    training = source.features(data, mirrored=settings.mirror, options=options)
    checking = source.features(held, options=options)
    ready = time.perf_counter()
    fit = fit_head(settings, training, checking, classes=len(names), progress=options.progress)
    seconds = {"features": ready - began, "head": time.perf_counter() - ready}
    folder = claim.clear()
    _write(folder, config, source, fit)
    _check_written(folder, held, checking, fit)
    return _finish(folder, config, fit, (training, checking), (data, held), seconds)


def open_backbone(backbone: str | LoadedModel, settings: HeadSettings) -> Backbone:
    """Load a backbone and find where its features are; the given model is left as it is.

    Raises:
        InputError: There is no such site, or it gives no features; the transform cannot be saved.
        NeuronymError: As in :func:`neuronym.models.load`.
    """
    loaded = backbone
    if isinstance(loaded, str):
        loaded = load(loaded, input_size=settings.input_size)
        if settings.input_size is None and not isinstance(loaded.transform, Preprocessing):
            loaded = load(loaded.spec, input_size=loaded.input_size)  # the same, as data
    elif settings.input_size not in (None, loaded.input_size):
        raise InputError(
            f"the backbone takes {loaded.input_size}; input_size={settings.input_size} is for a "
            "SPEC"
        )
    preprocessing = loaded.preprocessing
    folder = Path(loaded.spec) if Path(loaded.spec).is_dir() else None
    own = None if folder is None else read_config(folder)
    generator = torch.Generator().manual_seed(0)
    device = checked_device(settings.device)
    module = copy.deepcopy(loaded.module).to(device).to(memory_format=torch.channels_last)
    sample = torch.randn(2, *loaded.input_size, generator=generator).to(device)
    config = _head_config(module, sample, settings, None if own is None else own.to_dict())
    return Backbone(
        model=HeadedModel(module, nn.Identity(), config),
        preprocessing=preprocessing,
        architecture=loaded.spec if own is None else own.model,
        fingerprint=loaded.fingerprint,
        reusable=folder is not None or loaded.spec.partition(":")[0] in _FIXED_CODE,
    )


def _head_config(
    module: nn.Module, sample: Tensor, settings: HeadSettings, backbone: dict[str, Any] | None
) -> HeadConfig:
    if settings.site is None:
        if settings.pooling is not None:
            raise InputError(
                f"pooling={settings.pooling!r} needs a site; the input of the last linear layer "
                "has no positions"
            )
        name, count = classifier_of(module, sample)
        return HeadConfig(name, count, settings.hidden, settings.activation, backbone=backbone)
    sites = find_sites(module, [settings.site], sample)
    if len(sites) != 1 or sites[0].call:
        found = ", ".join(site.name for site in sites)
        raise InputError(
            f"site {settings.site!r} stands for {found}; a head needs one module that is called "
            "once"
        )
    site = sites[0]
    pooling = pooling_for(settings.pooling, site, competes=False).name
    return HeadConfig(
        site.module,
        site.units,
        settings.hidden,
        settings.activation,
        cut=False,
        pooling=pooling,
        channel_dim=site.channel_dim,
        backbone=backbone,
    )


def _config(
    settings: HeadSettings,
    source: Backbone,
    names: tuple[str, ...],
    parts: dict[str, ProbeSet],
) -> ModelConfig:
    inside = [f"backbone.{name}" for name in lwta_modules(source.model.backbone)]
    competes = settings.activation == "lwta"
    return ModelConfig(
        model=source.architecture,
        num_classes=len(names),
        class_names=names,
        competitors=settings.competitors,
        temperature=settings.temperature if competes else None,
        converted=(*inside, *(["head.act"] if competes else [])),
        preprocessing=source.preprocessing,
        head=source.model.config,
        details={
            "train": settings.to_dict(),
            "data": {f"{name} data": part.fingerprint for name, part in parts.items()},
            "backbone fingerprint": source.fingerprint,
            "versions": versions(),
        },
    )


def _check_rebuild(config: ModelConfig, source: Backbone) -> None:
    """Refuse, before any work, a backbone that its SPEC does not make again."""
    try:
        again = build(config).get_submodule("backbone").state_dict()
    except NeuronymError as error:
        raise InputError(f"the backbone cannot be made again from its SPEC: {error}") from error
    own = source.model.backbone.state_dict()
    for name in [*own, *again]:
        if name not in own or name not in again or own[name].shape != again[name].shape:
            raise InputError(
                f"the backbone is not what its SPEC {source.architecture!r} makes: tensor {name!r} "
                "differs; save it as a model folder first"
            )


def _write(folder: Path, config: ModelConfig, source: Backbone, fit: HeadFit) -> None:
    state = {f"backbone.{k}": v for k, v in source.model.backbone.state_dict().items()}
    state |= {f"head.{k}": v for k, v in fit.head.state_dict().items()}
    save_folder(folder, state, config)


@torch.no_grad()
def _check_written(folder: Path, held: ProbeSet, features: Features, fit: HeadFit) -> None:
    """Load the folder and compare its logits on images with those on the features.

    Raises:
        UnreadableError: They differ: the SPEC makes another network each time.
    """
    loaded = load_folder(folder)
    few = features.indices[:4].tolist()
    images = torch.stack([loaded.transform(held.image(index)) for index in few])
    wanted = fit.head(torch.from_numpy(np.array(features.values[: len(few)])))
    found = loaded.module(images)
    limit = 1e-2 * max(1.0, float(wanted.abs().max()))
    error = float((found - wanted).abs().max())
    if not error <= limit:
        raise UnreadableError(
            f"the model in {str(folder)!r} does not give the logits of its features (off by "
            f"{error:.3g}): its SPEC makes another network than the one that gave the features"
        )


def _finish(
    folder: Path,
    config: ModelConfig,
    fit: HeadFit,
    features: tuple[Features, Features],
    probes: tuple[ProbeSet, ProbeSet],
    seconds: dict[str, float],
) -> HeadResult:
    measured, counts = measure_head(fit.head, features[1])
    names = config.class_names or ()
    per_class = {
        name: (right, count) for name, (right, count) in zip(names, counts.tolist(), strict=True)
    }
    skipped = {each.id: each.reason for part in features for each in part.skipped}
    rounded = {name: round(value, 3) for name, value in seconds.items()}
    metrics = {
        "best_epoch": fit.best_epoch,
        "validation": measured.to_dict(),
        "per_class": {
            name: {"right": right, "images": count} for name, (right, count) in per_class.items()
        },
        "images": {"training": len(features[0]), "validation": len(features[1])},
        "history": list(fit.history),
        "seconds": rounded,
        "skipped": skipped,
    }
    write_json(folder / METRICS, metrics)
    run = {
        "settings": config.details["train"],
        "backbone": config.details["backbone fingerprint"],
        "data": fingerprint(*(probe.fingerprint for probe in probes)),
    }
    write_manifest(folder, kind=KIND, schema=SCHEMA, run=run)
    return HeadResult(
        folder=folder,
        config=config,
        validation=measured,
        per_class=per_class,
        best_epoch=fit.best_epoch,
        history=fit.history,
        seconds=rounded,
        skipped=skipped,
    )
