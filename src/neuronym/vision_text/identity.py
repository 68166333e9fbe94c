"""Fingerprints by content: of weights, and of what a tokenizer does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["TOKENIZER_FILES", "digest_state", "tokenizer_identity"]

TOKENIZER_FILES = (
    "tokenizer.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)


def digest_state(state: Mapping[str, object]) -> str:
    """Return 64 hexadecimal digits that identify a state dict: names, types, shapes, values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name]
        if isinstance(value, Tensor):
            digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_identity(tokenizer: Any) -> str:
    """Return what determines how a transformers tokenizer splits a text, as JSON.

    The padding and truncation that a fast tokenizer keeps as state of its last call are left out.
    """
    settings = {
        key: value
        for key, value in tokenizer.init_kwargs.items()
        if isinstance(value, bool) and not key.endswith("local_files_only") and key != "is_local"
    }
    identity: dict[str, Any] = {
        "class": type(tokenizer).__name__,
        "padding_side": tokenizer.padding_side,
        "special": tokenizer.special_tokens_map,
        "settings": settings,
    }
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        described = json.loads(backend.to_str())
        described.pop("padding", None)
        described.pop("truncation", None)
        identity["backend"] = described
    else:
        identity["vocabulary"] = tokenizer.get_vocab()
        model = getattr(tokenizer, "sp_model", None)
        if model is not None:
            identity["sentencepiece"] = model.serialized_model_proto().hex()
    return json.dumps(identity, sort_keys=True, default=str)
