"""A model on disk: ``config.json`` says what it is, ``model.safetensors`` holds the weights.

``train`` writes such a folder; :func:`save_folder` writes one for any model that a SPEC makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from neuronym.errors import DivisibilityError, InputError, UnreadableError
from neuronym.files import atomic_path, existing, read_json, write_json
from neuronym.lwta import ConversionReport, convert, lwta_modules
from neuronym.models.base import LoadedModel
from neuronym.models.head import HeadConfig, HeadedModel, make_head
from neuronym.models.preprocessing import Preprocessing

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "ModelConfig",
    "build",
    "config_from_dict",
    "load_folder",
    "read_config",
    "read_weights",
    "save_folder",
    "write_weights",
]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
KIND = "neuronym-model"
SCHEMA = 1
_FIELDS = (
    "model",
    "num_classes",
    "class_names",
    "competitors",
    "temperature",
    "converted",
    "skip",
    "preprocessing",
)


@dataclass(frozen=True)
class ModelConfig:
    """What a model folder holds besides the weights.

    Attributes:
        model: SPEC of the architecture.
        num_classes: Outputs.
        class_names: Name of each output, or ``None``.
        competitors: U, or ``None`` for a dense model.
        temperature: τ of its LWTA modules when training ended; not used in evaluation.
        converted: Names of its LWTA modules.
        skip: Patterns of activations that were left alone.
        preprocessing: What an image goes through.
        details: Anything else: training settings, versions, fingerprints of the data.
    """

    model: str
    num_classes: int
    class_names: tuple[str, ...] | None
    competitors: int | None
    temperature: float | None
    converted: tuple[str, ...]
    preprocessing: Preprocessing
    skip: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    head: HeadConfig | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "model": self.model,
            "num_classes": self.num_classes,
            "class_names": None if self.class_names is None else list(self.class_names),
            "competitors": self.competitors,
            "temperature": self.temperature,
            "converted": list(self.converted),
            "skip": list(self.skip),
            "preprocessing": self.preprocessing.to_dict(),
            **({} if self.head is None else {"head": self.head.to_dict()}),
            **self.details,
        }

    @property
    def tag(self) -> dict[str, str]:
        """What the weight file repeats, so that a mix-up is seen."""
        tag = {
            "model": self.model,
            "num_classes": str(self.num_classes),
            "competitors": str(self.competitors),
        }
        return tag if self.head is None else tag | {"head": self.head.activation}


def read_config(folder: str | Path) -> ModelConfig:
    """Read ``config.json`` of a model folder.

    Raises:
        MissingError: The folder does not exist.
        UnreadableError: It has no configuration, or one that lacks a field or is newer.
    """
    folder = existing(folder, what="model folder")
    path = folder / CONFIG
    if not path.is_file():
        unfinished = (folder / "checkpoints").is_dir()
        reason = "its training has not finished; resume it" if unfinished else f"it has no {CONFIG}"
        raise UnreadableError(f"{str(folder)!r} is not a model folder made by train: {reason}")
    return config_from_dict(read_json(path, what="model configuration"), where=str(path))


def config_from_dict(raw: Any, *, where: str) -> ModelConfig:
    """Build from what :meth:`ModelConfig.to_dict` gave; ``where`` names it in messages.

    Raises:
        UnreadableError: It is no such configuration, lacks a field, or is newer.
    """
    if not isinstance(raw, dict) or raw.get("kind") != KIND:
        raise UnreadableError(f"{where!r} is not the configuration of a neuronym model")
    if raw.get("schema", 0) > SCHEMA:
        raise UnreadableError(
            f"{where!r} has schema {raw['schema']}; this version reads up to {SCHEMA}: "
            "update neuronym"
        )
    for name in _FIELDS:
        if name not in raw:
            raise UnreadableError(f"{where!r} lacks the field {name!r}")
    names, head = raw["class_names"], raw.get("head")
    known = (*_FIELDS, "kind", "schema", "head")
    try:
        return ModelConfig(
            model=str(raw["model"]),
            num_classes=int(raw["num_classes"]),
            class_names=None if names is None else tuple(str(name) for name in names),
            competitors=None if raw["competitors"] is None else int(raw["competitors"]),
            temperature=None if raw["temperature"] is None else float(raw["temperature"]),
            converted=tuple(str(name) for name in raw["converted"]),
            preprocessing=Preprocessing.from_dict(raw["preprocessing"]),
            skip=tuple(str(name) for name in raw["skip"]),
            details={key: value for key, value in raw.items() if key not in known},
            head=None if head is None else HeadConfig.from_dict(head),
        )
    except (TypeError, ValueError) as error:
        raise UnreadableError(f"{where!r}: {error}") from error


def write_weights(path: Path, state: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Write a state dict as safetensors, tagged with the configuration it belongs to."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata={"format": "pt", **config.tag})


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the tag of a safetensors file.

    Raises:
        MissingError: There is no such file.
        UnreadableError: It is not a safetensors file, or is cut off.
    """
    existing(path, what="weight file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        size = path.stat().st_size
        raise UnreadableError(
            f"{str(path)!r} is not a whole safetensors file ({size} bytes): {error}"
        ) from error


def build(config: ModelConfig) -> nn.Module:
    """Make the network of a configuration, with competition where it says, untrained.

    Raises:
        UnreadableError: The architecture gives other LWTA sites than the configuration names.
    """
    module = _plain(config) if config.head is None else _headed(config, config.head)
    found = tuple(lwta_modules(module))
    if sorted(found) != sorted(config.converted):
        differ = sorted(set(found) ^ set(config.converted))
        raise UnreadableError(
            f"{CONFIG} and the architecture {config.model!r} differ in the field 'converted': "
            f"{', '.join(differ[:3])}"
        )
    return module.eval()


def _plain(config: ModelConfig) -> nn.Module:
    from neuronym.models.load import load  # the table of loaders names this module too

    size = config.preprocessing.input_size
    module = load(
        config.model, num_classes=config.num_classes, pretrained=False, input_size=size
    ).module
    if config.competitors is not None and not lwta_modules(module):
        module, _ = compete(module, config.competitors, size, skip=config.skip)
    return module


def _headed(config: ModelConfig, head: HeadConfig) -> nn.Module:
    """Make the backbone (its classifier is cut off, or stays as it was), and put the head on."""
    from neuronym.models.load import load

    if head.backbone is not None:
        backbone = build(config_from_dict(head.backbone, where=f"{CONFIG}, head.backbone"))
    else:
        size = config.preprocessing.input_size
        backbone = load(config.model, pretrained=False, input_size=size).module
    fresh = make_head(head, config.num_classes, config.competitors)
    return HeadedModel(backbone, fresh, head)


def compete(
    module: nn.Module,
    competitors: int,
    input_size: tuple[int, int, int],
    *,
    skip: Sequence[str] = (),
) -> tuple[nn.Module, ConversionReport]:
    """Replace activations by competition, as :func:`neuronym.lwta.convert` does, for images."""
    return convert(module, competitors, example=input_size, skip=skip)


def save_folder(folder: str | Path, state: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Write a model folder: the weights first, the configuration last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / WEIGHTS, state, config)
    write_json(folder / CONFIG, config.to_dict())


def load_folder(folder: str | Path) -> LoadedModel:
    """Load a model folder.

    Raises:
        MissingError: The folder or its weight file does not exist.
        UnreadableError: It is not a model folder, the weight file is cut off or of another
            format, or weights and configuration do not belong together; the text says which
            field or tensor differs.
    """
    config = read_config(folder)
    path = Path(folder) / WEIGHTS
    tensors, tag = read_weights(path)
    for name, value in config.tag.items():
        if name in tag and tag[name] != value:
            raise UnreadableError(
                f"{str(folder)!r}: {CONFIG} and {WEIGHTS} differ in the field {name!r}: "
                f"{value} and {tag[name]}"
            )
    try:
        module = build(config)
    except (DivisibilityError, InputError) as error:
        raise UnreadableError(f"{str(path.parent / CONFIG)!r}: {error}") from error
    fit_weights(module, tensors, where=str(path))
    if tensors:
        module = module.to(memory_format=torch.channels_last)
    return LoadedModel(
        module=module,
        transform=config.preprocessing,
        class_names=config.class_names,
        spec=str(folder),
        input_size=config.preprocessing.input_size,
    )


def fit_weights(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Load ``tensors`` into ``module``; names and shapes must be equal.

    Raises:
        UnreadableError: A tensor is missing, left over, or has another shape.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in tensors]
    extra = [name for name in tensors if name not in own]
    if missing or extra:
        name = (missing or extra)[0]
        text = "is missing" if missing else "is not part of the architecture"
        raise UnreadableError(
            f"{where}: tensor {name!r} {text} ({len(missing)} missing, {len(extra)} left over)"
        )
    for name, value in own.items():
        if value.shape != tensors[name].shape:
            raise UnreadableError(
                f"{where}: tensor {name!r} has shape {tuple(tensors[name].shape)}, the "
                f"architecture needs {tuple(value.shape)}"
            )
    module.load_state_dict(dict(tensors))
