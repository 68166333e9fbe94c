"""The backend for models of the transformers library with an image and a text tower.

CLIP, SigLIP and SigLIP 2, and others whose ``AutoModel`` offers ``get_image_features`` and
``get_text_features``. Repositories come from the local cache or the hub; code inside a repository
is never run, and pickled weights are read as tensors only.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from neuronym.devices import checked_device
from neuronym.errors import InputError, MissingError, UnavailableError, UnreadableError
from neuronym.files import fingerprint
from neuronym.vision_text.hub import missing_weights, one_line, snapshot
from neuronym.vision_text.identity import TOKENIZER_FILES, digest_state, tokenizer_identity
from neuronym.vision_text.towers import (
    Inputs,
    TowerParts,
    TwoTowers,
    crop_extreme,
)

__all__ = ["load_huggingface"]

INSTALL = "pip install 'neuronym[huggingface]'"
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
WEIGHT_PATTERNS = (
    ("model.safetensors", "model-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model-*.bin"),
)
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
NOT_CONTENT = {"_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"}


@dataclass(frozen=True)
class _Loaded:
    """Model and processor of one folder, and how its texts are padded."""

    model: Any
    image_processor: Any
    tokenizer: Any
    context: int | None
    siglip: bool
    lowercase: bool


def load_huggingface(
    repository: str, *, device: str | torch.device = "cpu", batch_size: int = 32
) -> TwoTowers:
    """Load a vision-text model by hub repository or local folder, in float32.

    Texts are padded to the model's full context where it is a SigLIP or SigLIP 2 (they were
    trained so, without an attention mask and on lower-case text), else to the longest of a batch.
    ``logit_scale`` is ``exp`` of the model's own; a SigLIP's additional bias is not part of the
    protocol, because it changes neither an order nor a cosine.

    Args:
        repository: ``"owner/name"``, or a folder written by ``save_pretrained``.
        device: A torch device.
        batch_size: How many images or texts go through a tower at once.

    Raises:
        InputError: The model has no image and text towers in one space.
        MissingError: The folder does not exist.
        UnreadableError: The folder or repository is not a whole, loadable model.
        UnavailableError: It needs the network, a device or a package that is not here.
    """
    name = f"hf:{repository}"
    target = checked_device(device)
    _require_transformers()
    folder = _folder(repository, name)
    loaded = _load(folder, name)
    loaded.model.to(target)
    parts = TowerParts(
        prepare_image=functools.partial(_prepare_image, loaded.image_processor),
        tokenize=functools.partial(_tokenize, loaded),
        encode_images=functools.partial(_features, loaded.model.get_image_features),
        encode_texts=functools.partial(_features, loaded.model.get_text_features),
        logit_scale=_logit_scale(loaded.model),
        identify=functools.partial(_identify, loaded),
    )
    return TwoTowers(name, parts, device=target, batch_size=batch_size)


def _require_transformers() -> None:
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"the hf: backend needs transformers; install it with: {INSTALL}"
        ) from error


def _folder(repository: str, name: str) -> Path:
    path = Path(repository).expanduser()
    if path.is_dir():
        if lacking := _lacks(path):
            raise UnreadableError(f"{name}: the folder has no {lacking}")
        return path
    if path.is_file():
        raise UnreadableError(f"{name} is a file; give the folder that save_pretrained wrote")
    if not REPOSITORY.fullmatch(repository):
        raise MissingError(f"{name}: there is no such folder, and it is no 'owner/name' of the hub")
    return snapshot(repository, spec=name, lacks=_lacks, weights=WEIGHT_PATTERNS)


def _lacks(folder: Path) -> str | None:
    """Return what a folder needs to be a model and does not have."""
    if not (folder / "config.json").is_file():
        return "config.json"
    for what, names in (("image preprocessor", PREPROCESSORS), ("tokenizer", TOKENIZER_FILES)):
        if not any((folder / name).is_file() for name in names):
            return f"{what} ({' or '.join(names)})"
    return missing_weights(folder, WEIGHTS)


def _load(folder: Path, name: str) -> _Loaded:
    from transformers import AutoModel, AutoProcessor

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _quiet(), torch.random.fork_rng(devices=[]):
            model, report = AutoModel.from_pretrained(
                folder, output_loading_info=True, weights_only=True, **options
            )
            _require_towers(model, name)
            processor = AutoProcessor.from_pretrained(folder, **options)
    except InputError:
        raise
    except ImportError as error:
        raise UnavailableError(f"{name}: {one_line(error)}; try: {INSTALL}") from error
    except Exception as error:  # a broken file can make the libraries raise almost anything
        if "trust_remote_code" in str(error):
            raise UnreadableError(
                f"{name} needs code from its repository, which is never run; "
                "choose a model that transformers itself knows"
            ) from error
        raise UnreadableError(f"{name} cannot be loaded: {one_line(error)}") from error
    absent = [key for key in report["missing_keys"] if not key.endswith("position_ids")]
    if absent:
        raise UnreadableError(
            f"{name}: the weights lack {len(absent)} tensors of the model, "
            f"first {sorted(absent)[0]!r}"
        )
    return _with_text_rules(model, processor, name)


def _require_towers(model: Any, name: str) -> None:
    lacking = [
        method
        for method in ("get_image_features", "get_text_features")
        if not callable(getattr(model, method, None))
    ]
    if lacking:
        raise InputError(
            f"{name} is a {type(model).__name__}: it has no {' and no '.join(lacking)}; "
            "a vision-text model such as CLIP, SigLIP or SigLIP 2 is needed"
        )


def _with_text_rules(model: Any, processor: Any, name: str) -> _Loaded:
    image_processor = getattr(processor, "image_processor", None)
    tokenizer = getattr(processor, "tokenizer", None)
    if image_processor is None or tokenizer is None:
        raise UnreadableError(
            f"{name}: the processor is a {type(processor).__name__} "
            "without both an image processor and a tokenizer"
        )
    text_config = getattr(model.config, "text_config", model.config)
    limits = (tokenizer.model_max_length, getattr(text_config, "max_position_embeddings", None))
    known = [limit for limit in limits if isinstance(limit, int) and 0 < limit < 1 << 20]
    siglip = model.config.model_type in ("siglip", "siglip2")
    gemma = "gemma" in type(tokenizer).__name__.lower()
    return _Loaded(
        model=model.float().eval().requires_grad_(False),
        image_processor=image_processor,
        tokenizer=tokenizer,
        context=min(known, default=None),
        siglip=siglip,
        lowercase=siglip and (gemma or tokenizer.init_kwargs.get("do_lower_case") is True),
    )


def _prepare_image(image_processor: Any, image: Image.Image) -> Inputs:
    size = getattr(image_processor, "size", None) or {}
    if "shortest_edge" in size and getattr(image_processor, "do_center_crop", False):
        image = crop_extreme(image)
    prepared: Inputs = dict(image_processor(images=image, return_tensors="pt"))
    return prepared


def _tokenize(loaded: _Loaded, texts: list[str]) -> Inputs:
    if loaded.lowercase:
        texts = [text.lower() for text in texts]
    tokens = loaded.tokenizer(
        texts,
        padding="max_length" if loaded.siglip and loaded.context else True,
        truncation=loaded.context is not None,
        max_length=loaded.context,
        return_tensors="pt",
    )
    dropped = {"attention_mask"} if loaded.siglip else set()
    return {key: value for key, value in tokens.items() if key not in dropped}


def _features(method: Callable[..., Any], inputs: Inputs) -> Tensor:
    accepted = inspect.signature(method).parameters
    output = method(**{key: value for key, value in inputs.items() if key in accepted})
    if isinstance(output, Tensor):
        return output
    pooled: Tensor = output.pooler_output  # since transformers 5
    return pooled


def _logit_scale(model: Any) -> float:
    scale = getattr(model, "logit_scale", None)
    if isinstance(scale, Tensor):
        return float(scale.detach().float().exp())
    temperature = getattr(model, "temperature", None)  # ALIGN divides by it
    return 1 / float(temperature.detach()) if isinstance(temperature, Tensor) else 1.0


def _identify(loaded: _Loaded) -> str:
    return fingerprint(
        "huggingface",
        digest_state(loaded.model.state_dict()),
        _content(loaded.model.config.to_dict()),
        _content(loaded.image_processor.to_dict()),
        tokenizer_identity(loaded.tokenizer),
        [loaded.context, loaded.siglip, loaded.lowercase],
    )


def _content(value: Any) -> Any:
    """Return a configuration as JSON types, without what does not change an embedding."""
    if isinstance(value, dict):
        return {str(k): _content(v) for k, v in value.items() if k not in NOT_CONTENT}
    if isinstance(value, (list, tuple)):
        return [_content(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's progress bars and load reports off the terminal, then put them back."""
    from transformers.utils import logging

    was_on, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if was_on:
            logging.enable_progress_bar()
