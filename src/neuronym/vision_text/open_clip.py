"""The backend for models of the open_clip library: any architecture, hub tag or local checkpoint.

Four forms of SPEC: ``open_clip:ARCH/TAG``, ``open_clip:ARCH/CHECKPOINT`` (a file; an absolute path
gives a double slash), ``open_clip:FOLDER`` (with ``open_clip_config.json``) and
``open_clip:hf-hub:OWNER/NAME``. Checkpoints are read as tensors only, no pickled code is run.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import torch
from torch import Tensor

from neuronym.devices import checked_device
from neuronym.errors import NeuronymError, UnavailableError, UnreadableError
from neuronym.files import fingerprint
from neuronym.vision_text.hub import one_line
from neuronym.vision_text.identity import digest_state, tokenizer_identity
from neuronym.vision_text.open_clip_source import Source, resolve, text_config_on_disk
from neuronym.vision_text.towers import (
    Inputs,
    TowerParts,
    TwoTowers,
    crop_extreme,
)

__all__ = ["load_open_clip"]

INSTALL = "pip install 'neuronym[open-clip]'"


def load_open_clip(
    source: str, *, device: str | torch.device = "cpu", batch_size: int = 32
) -> TwoTowers:
    """Load a vision-text model of open_clip, in float32.

    Preprocessing is what the model was published with: of a hub tag its own; of a lone checkpoint
    the one of ``open_clip_config.json`` beside it, else the one that all published weights of
    that architecture share, else open_clip's default. Weights that were trained with the quick
    GELU get it, also where the architecture's name does not say so (open_clip only warns there).

    Args:
        source: What follows ``open_clip:`` in the SPEC.
        device: A torch device.
        batch_size: How many images or texts go through a tower at once.

    Raises:
        InputError: The tag or checkpoint is missing from the SPEC.
        UnknownNameError: open_clip knows no such architecture, or no such tag of it.
        MissingError: The checkpoint file does not exist.
        UnreadableError: It is not a checkpoint, or does not fit the architecture.
        UnavailableError: It needs the network, a device or a package that is not here.
    """
    name = f"open_clip:{source}"
    target = checked_device(device)
    _require_open_clip()
    found = resolve(source, name)
    model, tokenizer = _build(found, name)
    model.to(target)
    parts = TowerParts(
        prepare_image=_image_preparation(model),
        tokenize=functools.partial(_tokenize, tokenizer),
        encode_images=functools.partial(_encode_images, model),
        encode_texts=functools.partial(_encode_texts, model),
        logit_scale=float(model.logit_scale.detach().float().exp()),
        identify=functools.partial(_identify, model, tokenizer, found),
    )
    return TwoTowers(name, parts, device=target, batch_size=batch_size)


def _require_open_clip() -> None:
    try:
        import open_clip  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"the open_clip: backend needs open_clip_torch; install it with: {INSTALL}"
        ) from error


def _build(source: Source, name: str) -> tuple[Any, Any]:
    """Create model and tokenizer from files on disk; foreign errors become ours."""
    import open_clip

    text_config = text_config_on_disk(source, name)
    overrides: dict[str, Any] = {} if text_config is None else {"text_cfg": text_config}
    try:
        with torch.random.fork_rng(devices=[]):
            model = open_clip.create_model(
                source.architecture,
                pretrained=None if source.checkpoint is None else str(source.checkpoint),
                precision="fp32",
                force_quick_gelu=source.quick_gelu,
                force_preprocess_cfg=source.preprocess,
                require_pretrained=True,
                weights_only=True,
                **overrides,
            )
        tokenizer = _tokenizer(source, text_config or source.config["text_cfg"])
    except Exception as error:  # a broken file can make the libraries raise almost anything
        raise _unreadable(source, name, error) from error
    return model.float().eval().requires_grad_(False), tokenizer


def _unreadable(source: Source, name: str, error: Exception) -> NeuronymError:
    text = str(error)
    if isinstance(error, ImportError):
        return UnavailableError(f"{name}: {one_line(error)}; try: {INSTALL}")
    if "Error(s) in loading state_dict" in text or isinstance(error, AssertionError):
        details = one_line(Exception(text.split(":", 1)[-1]), limit=160)
        return UnreadableError(f"{name}: the checkpoint does not fit the architecture: {details}")
    if "weights_only" in text or "Weights only" in text:
        return UnreadableError(
            f"{name}: the file is not a checkpoint that can be read safely; it must be safetensors "
            "or a state dict saved by torch.save (no other pickled object, no TorchScript archive)"
        )
    what = "the folder" if source.checkpoint is None else "the file"
    return UnreadableError(f"{name}: {what} is not a model that open_clip reads: {one_line(error)}")


def _tokenizer(source: Source, text_config: dict[str, Any]) -> Any:
    import open_clip

    if source.checkpoint is None or not text_config.get("hf_tokenizer_name"):
        return open_clip.get_tokenizer(source.architecture)
    return open_clip.tokenizer.HFTokenizer(
        text_config["hf_tokenizer_name"],
        context_length=text_config.get(
            "context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH
        ),
        tokenizer_mode=text_config.get("tokenizer_mode"),
        **text_config.get("tokenizer_kwargs", {}),
    )


def _image_preparation(model: Any) -> Any:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = PreprocessCfg(**model.visual.preprocess_cfg)
    transform = image_transform_v2(config, is_train=False)
    shortest = config.resize_mode == "shortest"

    def prepare(image: Any) -> Inputs:
        return {"image": transform(crop_extreme(image) if shortest else image)[None]}

    return prepare


def _tokenize(tokenizer: Any, texts: list[str]) -> Inputs:
    return {"text": tokenizer(texts)}


def _encode_images(model: Any, inputs: Inputs) -> Tensor:
    features: Tensor = model.encode_image(inputs["image"], normalize=False)
    return features


def _encode_texts(model: Any, inputs: Inputs) -> Tensor:
    features: Tensor = model.encode_text(inputs["text"], normalize=False)
    return features


def _identify(model: Any, tokenizer: Any, source: Source) -> str:
    inner = getattr(tokenizer, "tokenizer", None)
    split = (
        tokenizer_identity(inner)
        if inner is not None
        else json.dumps([tokenizer.encoder, list(tokenizer.bpe_ranks)], sort_keys=True)
    )
    return fingerprint(
        "open_clip",
        digest_state(model.state_dict()),
        _architecture_content(source),
        json.loads(json.dumps(model.visual.preprocess_cfg, default=str)),
        [type(tokenizer).__name__, tokenizer.context_length, tokenizer.clean_fn.__name__],
        split,
    )


def _architecture_content(source: Source) -> Any:
    """Return what of the configuration changes an embedding: no path, no name of a hub file."""
    config = json.loads(json.dumps(source.config, default=str))
    config["quick_gelu"] = bool(config.get("quick_gelu")) or source.quick_gelu
    config["text_cfg"] = {
        key: value
        for key, value in config["text_cfg"].items()
        if key not in ("hf_model_name", "hf_tokenizer_name", "hf_model_pretrained")
    }
    return config
