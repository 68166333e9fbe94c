"""Where an open_clip model comes from: a SPEC becomes files on this disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuronym.errors import (
    InputError,
    MissingError,
    NeuronymError,
    UnavailableError,
    UnknownNameError,
    UnreadableError,
    nearest,
    unknown,
)
from neuronym.files import read_json
from neuronym.vision_text.hub import cached_or_fetched_file, snapshot
from neuronym.vision_text.identity import TOKENIZER_FILES

__all__ = ["Source", "resolve", "text_config_on_disk"]

CONFIG = "open_clip_config.json"
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pth")
WEIGHT_PATTERNS = (
    ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    ("open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"),
)
CHECKPOINT_SUFFIXES = {".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".npz"}
PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode", "fill_color")


@dataclass(frozen=True)
class Source:
    """Where a model comes from, all of it on this disk.

    Attributes:
        architecture: Name for open_clip, or ``"local-dir:FOLDER"``.
        checkpoint: The weights; ``None`` where the folder has them.
        config: The ``model_cfg`` of open_clip.
        preprocess: Settings that replace open_clip's default preprocessing.
        quick_gelu: Whether the weights were trained with the quick GELU, whatever ``config`` says.
    """

    architecture: str
    checkpoint: Path | None
    config: dict[str, Any]
    preprocess: dict[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False


def resolve(source: str, name: str) -> Source:
    import open_clip

    if source.startswith("hf-hub:"):
        repository = source.removeprefix("hf-hub:")
        folder = snapshot(repository, spec=name, lacks=_folder_lacks, weights=WEIGHT_PATTERNS)
        return _folder_source(folder, name)
    folder = Path(source.removeprefix("local-dir:")).expanduser()
    if source.startswith("local-dir:") or (folder / CONFIG).is_file():
        return _folder_source(folder, name)
    architecture, _, rest = source.partition("/")
    known = open_clip.list_models()
    if architecture not in known:
        raise _unknown_architecture(source, architecture, known)
    if not rest:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        listed = f"tags: {', '.join(tags[:12])}" if tags else "it has no hub tags"
        raise InputError(
            f"{name} names no weights; give open_clip:ARCH/TAG or open_clip:ARCH/CHECKPOINT "
            f"({listed})"
        )
    config = open_clip.get_model_config(architecture)
    tag = open_clip.get_pretrained_cfg(architecture, rest)
    if tag:
        return Source(
            architecture,
            _tag_checkpoint(tag, name),
            config,
            preprocess={key: tag[key] for key in PREPROCESS_KEYS if tag.get(key) is not None},
            quick_gelu=bool(tag.get("quick_gelu")),
        )
    checkpoint = _local_checkpoint(architecture, rest, name)
    return Source(architecture, checkpoint, config, _local_preprocess(architecture, checkpoint))


def _unknown_architecture(source: str, architecture: str, known: list[str]) -> NeuronymError:
    path = Path(source).expanduser()
    if path.is_file():
        return InputError(
            f"open_clip:{source} is a checkpoint without its architecture; "
            f"give open_clip:ARCH/{source}, e.g. ARCH = ViT-B-32"
        )
    if path.is_dir():
        return UnreadableError(f"open_clip:{source}: the folder has no {CONFIG}")
    if source.startswith(("/", "./", "../", "~")):
        return MissingError(f"open_clip:{source}: there is no such folder")
    close = nearest(architecture, known)
    hint = f"; nearest: {', '.join(close)}" if close else ""
    return UnknownNameError(f"open_clip has no architecture {architecture!r}{hint}")


def _local_checkpoint(architecture: str, rest: str, name: str) -> Path:
    import open_clip

    path = Path(rest).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"{name}: {rest!r} is a folder; give open_clip:FOLDER or a file")
    if "/" in rest or path.suffix in CHECKPOINT_SUFFIXES:
        absolute = Path("/") / rest
        hint = f"; did you mean open_clip:{architecture}/{absolute}?" if absolute.is_file() else ""
        raise MissingError(f"{name}: checkpoint {rest!r} does not exist{hint}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not tags:
        raise UnknownNameError(
            f"{architecture} has no hub tags, and {rest!r} is no checkpoint file"
        )
    raise unknown(f"tag of {architecture}", rest, tags)


def _tag_checkpoint(tag: dict[str, Any], name: str) -> Path:
    repository, filename = os.path.split(tag.get("hf_hub", ""))
    if not repository:
        raise UnavailableError(
            f"{name} is not on the hub; download {tag.get('url')} and give the file as checkpoint"
        )
    filename = filename or "open_clip_pytorch_model.bin"
    safe = (
        "open_clip_model.safetensors"
        if filename == "open_clip_pytorch_model.bin"
        else str(Path(filename).with_suffix(".safetensors"))
    )
    return cached_or_fetched_file(repository, list(dict.fromkeys((safe, filename))), spec=name)


def _local_preprocess(architecture: str, checkpoint: Path) -> dict[str, Any]:
    import open_clip

    beside = checkpoint.parent / CONFIG
    if beside.is_file():
        settings = read_json(beside).get("preprocess_cfg") or {}
        return {key: settings[key] for key in PREPROCESS_KEYS if settings.get(key) is not None}
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    published = []
    for tag in tags:
        config = open_clip.get_pretrained_cfg(architecture, tag)
        published.append({k: config[k] for k in PREPROCESS_KEYS if config.get(k) is not None})
    agreed = bool(published) and all(settings == published[0] for settings in published)
    return published[0] if agreed else {}


def _folder_lacks(folder: Path) -> str | None:
    if not (folder / CONFIG).is_file():
        return CONFIG
    found = any(True for pattern in WEIGHT_FILES for _ in folder.glob(pattern))
    return None if found else f"weights ({' or '.join(WEIGHT_FILES)})"


def _folder_source(folder: Path, name: str) -> Source:
    if not folder.is_dir():
        raise MissingError(f"{name}: there is no such folder")
    if lacking := _folder_lacks(folder):
        raise UnreadableError(f"{name}: the folder has no {lacking}")
    described = read_json(folder / CONFIG)
    config = described.get("model_cfg") if isinstance(described, dict) else None
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
        raise UnreadableError(f"{name}: {CONFIG} has no whole 'model_cfg'")
    return Source(f"local-dir:{folder}", None, config)


def text_config_on_disk(source: Source, name: str) -> dict[str, Any] | None:
    """Return ``text_cfg`` with hub names replaced by local folders; ``None`` where it has none."""
    text: dict[str, Any] = dict(source.config["text_cfg"])
    changed = False
    if model_name := text.get("hf_model_name"):
        text["hf_model_name"] = str(_hub_folder(model_name, name, lacks=_lacks_config))
        text["hf_model_pretrained"] = False
        changed = True
    tokenizer_name = text.get("hf_tokenizer_name")
    if tokenizer_name and source.checkpoint is not None:
        text["hf_tokenizer_name"] = str(_hub_folder(tokenizer_name, name, lacks=_lacks_tokenizer))
        changed = True
    return text if changed else None


def _hub_folder(repository: str, name: str, *, lacks: Callable[[Path], str | None]) -> Path:
    path = Path(repository).expanduser()
    return path if path.is_dir() else snapshot(repository, spec=name, lacks=lacks)


def _lacks_config(folder: Path) -> str | None:
    return None if (folder / "config.json").is_file() else "config.json"


def _lacks_tokenizer(folder: Path) -> str | None:
    found = any((folder / name).is_file() for name in TOKENIZER_FILES)
    return None if found else f"tokenizer ({' or '.join(TOKENIZER_FILES)})"
