"""Small vision-text models with random weights, saved to disk the way their libraries save them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("cat", "dog", "red", "striped", "photo")
CONTEXT = 12


def photos() -> list[Image.Image]:
    """Seven images of different sizes and shapes, from noise blown up to blobs."""
    rng = np.random.default_rng(7)
    sizes = [(64, 48), (48, 64), (33, 33), (200, 31), (5, 7), (1, 1), (32, 90)]
    images = []
    for size in sizes:
        noise = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        images.append(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC))
    return images


TEXTS = (
    "cat",
    "a red dog",
    "a photo of a striped cat",
    "Dog",
    "",
    "a photo of a cat and a dog and a red cat and a striped dog and a photo and more of it",
)


def unit(features: torch.Tensor) -> np.ndarray:
    """Rows of unit length, written out."""
    array = features.detach().double().numpy()
    return array / np.sqrt((array**2).sum(axis=1, keepdims=True))


def bpe_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Letters and a few whole words, in the form of CLIP's byte-pair encoding."""
    names = [*LETTERS, *(letter + "</w>" for letter in LETTERS)]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            if pair not in merges:
                merges.append(pair)
                names.append("".join(pair))
            parts[:2] = ["".join(pair)]
    names += ["<|startoftext|>", "<|endoftext|>"]
    return {name: index for index, name in enumerate(names)}, merges


def _towers(**text: Any) -> dict[str, dict[str, Any]]:
    common = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    return {
        "text_config": {**common, "max_position_embeddings": CONTEXT, **text},
        "vision_config": {**common, "image_size": 32, "patch_size": 8},
    }


def _spread(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Redraw weights widely enough that different inputs give clearly different embeddings."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            elif name.endswith("logit_scale"):
                parameter.fill_(3.0)
    return model.eval()


def save_clip(folder: Path, *, seed: int = 0) -> Path:
    """A CLIP with a byte-pair tokenizer and CLIP's resize-and-crop."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    vocabulary, merges = bpe_vocabulary()
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)
    end = vocabulary["<|endoftext|>"]
    config = CLIPConfig(
        **_towers(
            vocab_size=len(vocabulary), bos_token_id=end - 1, eos_token_id=end, pad_token_id=end
        ),
        projection_dim=10,
    )
    with torch.random.fork_rng(devices=[]):
        model = _spread(CLIPModel(config), seed)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    model.save_pretrained(folder)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def save_siglip(folder: Path, *, seed: int = 0) -> Path:
    """A SigLIP with a sentencepiece tokenizer trained on a few lines."""
    import sentencepiece
    from transformers import (
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
        SiglipProcessor,
        SiglipTokenizer,
    )

    folder.mkdir(parents=True)
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join([" ".join(WORDS), *TEXTS, *LETTERS] * 4), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / "spiece"),
        vocab_size=44,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
        pad_id=-1,
        bos_id=-1,
        eos_id=1,
        unk_id=2,
        control_symbols=["<pad>"],
    )
    corpus.unlink()
    tokenizer = SiglipTokenizer(
        str(folder / "spiece.model"),
        model_max_length=CONTEXT,
        model_input_names=["input_ids"],  # as in the published repositories
    )
    config = SiglipConfig(**_towers(vocab_size=len(tokenizer), projection_size=16))
    with torch.random.fork_rng(devices=[]):
        model = _spread(SiglipModel(config), seed)
    images = SiglipImageProcessor(size={"height": 32, "width": 32})
    model.save_pretrained(folder)
    SiglipProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def gemma_like_tokenizer() -> Any:
    """The tokenizer of SigLIP 2 on a small vocabulary: Gemma's form, an end token, no mask."""
    from tokenizers import processors
    from transformers import Siglip2Tokenizer

    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS, "ca", "cat", "do", "dog"]
    tokenizer = Siglip2Tokenizer(
        vocab={name: index for index, name in enumerate(names)},
        merges=[("c", "a"), ("ca", "t"), ("d", "o"), ("do", "g")],
        padding_side="right",
        model_input_names=["input_ids"],
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    return tokenizer


def save_siglip2(folder: Path, *, seed: int = 0) -> Path:
    """A SigLIP 2 of flexible resolution: patches of up to 16 in the image's own aspect ratio."""
    from transformers import Siglip2Config, Siglip2ImageProcessor, Siglip2Model, Siglip2Processor

    tokenizer = gemma_like_tokenizer()
    towers = _towers(vocab_size=len(tokenizer), projection_size=16)
    towers["vision_config"].pop("image_size")
    towers["vision_config"]["num_patches"] = 16
    with torch.random.fork_rng(devices=[]):
        model = _spread(Siglip2Model(Siglip2Config(**towers)), seed)
    images = Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    model.save_pretrained(folder)
    Siglip2Processor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


TINY_ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 2,
    },
}


def make_open_clip(name: str, *, seed: int = 0) -> Any:
    """A model of a registered architecture with weights from ``seed``."""
    import open_clip

    with torch.random.fork_rng(devices=[]):
        return _spread(open_clip.create_model(name), seed)


def save_open_clip_folder(
    folder: Path, config: dict[str, Any], *, preprocess: dict[str, Any], seed: int = 0
) -> Path:
    """A folder as open_clip publishes it: ``open_clip_config.json`` and safetensors."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    described = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(described), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        model = _spread(open_clip.create_model(f"local-dir:{folder}", load_weights=False), seed)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def save_siglip2_fixed(folder: Path, *, seed: int = 0) -> Path:
    """A SigLIP 2 of fixed resolution as it is published: a SigLIP with Gemma's own tokenizer."""
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    tokenizer = gemma_like_tokenizer()
    with torch.random.fork_rng(devices=[]):
        config = SiglipConfig(**_towers(vocab_size=len(tokenizer), projection_size=16))
        model = _spread(SiglipModel(config), seed)
    model.save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edit_json(folder / "preprocessor_config.json", processor_class="SiglipProcessor")
    edit_json(
        folder / "tokenizer_config.json",
        tokenizer_class="GemmaTokenizer",
        processor_class="SiglipProcessor",
        do_lower_case=True,
        add_bos_token=False,
        add_eos_token=True,
    )
    lower_free = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    edit_json(folder / "tokenizer.json", normalizer=lower_free)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Set some fields of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")
