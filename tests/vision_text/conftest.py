"""Small models on disk, made once per test run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small models run faster on one thread, above all where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def hf_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder of each small transformers model, by family."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    base = tmp_path_factory.mktemp("hf")
    return {
        "clip": tiny_models.save_clip(base / "clip"),
        "siglip": tiny_models.save_siglip(base / "siglip"),
        "siglip2": tiny_models.save_siglip2(base / "siglip2"),
        "siglip2-fixed": tiny_models.save_siglip2_fixed(base / "siglip2-fixed"),
    }


@pytest.fixture(scope="session")
def tiny_architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a small architecture that open_clip has been told of."""
    import open_clip

    path = tmp_path_factory.mktemp("configs") / "tiny-ViT.json"
    path.write_text(json.dumps(tiny_models.TINY_ARCHITECTURE), encoding="utf-8")
    open_clip.add_model_config(path)
    return "tiny-ViT"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_architecture: str) -> Path:
    """A safetensors checkpoint of the small architecture."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(tiny_models.make_open_clip(tiny_architecture).state_dict(), path)
    return path
