"""The card beside the arrays: what they are, what they were fitted on, what was held out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuronym.errors import UnreadableError
from neuronym.files import atomic_path
from neuronym.fit_pocket.scene_part import UNFITTED_PAIRS

__all__ = ["FIGURES_BEGIN", "FIGURES_END", "write_card", "write_figures"]

FIGURES_BEGIN = "<!-- figures: written by bench/pocket.py -->"
FIGURES_END = "<!-- end of figures -->"

_TEXT = """# The pocket model's arrays

Small arrays that turn EfficientNet-Lite (image tower) and MiniLM (text tower) into one
vision-text model. The towers come from the package index and are not changed. `text.safetensors`
holds the text side, `efficientnet_liteN.safetensors` the image side of a variant; matrices are in
half precision.

## Made by

    neuronym fit-pocket --photos PHOTOS.parquet --out DIR --seed {seed}

with the settings in `manifest.json` and in the files' metadata.

Fitted on:

- photos with ImageNet labels, of which only means are kept: {photos_fitted} of {photos}
  (`{photos_id}`);
- WordNet 3.0 nouns (lemmas, definitions, hypernyms): {lemmas_fitted} of {lemmas} lemmas
  (`{wordnet}`);
- rendered scenes, for a ridge from descriptors to attributes: `{scenes_name}`, {scenes_size}
  pixels (`{scenes_id}`);
- words for attributes, and {phrases} phrases composed of them.

## Held out

- every lemma and synonym whose CRC-32 (lower case, UTF-8) is divisible by 5, from the whitening,
  the label vectors and both text heads. Where a label's or an ancestor's first lemma is held out,
  its next one that is not stands in its place, and a label's definition is added. Definitions
  that say a held-out lemma of their own noun are left out. The names of the scenes' attributes
  themselves ("red", "striped") are always fitted, because nothing else could stand for them;
- every photo whose path's CRC-32 is divisible by 5;
- combinations of attributes such as "red star" (pairs of {pairs}) whose
  CRC-32 is divisible by 8, from the scenes;
- CIFAR-10's test images, which were used for nothing but the figures below.

The weights of the parts were chosen by trials on the reference photos, on groups planted among
them (other draws than those measured) and on rendered scenes; those for tiny images on 2,000 of
CIFAR-10's training images. Figures on photos may therefore flatter a little.

## What it knows, and what it does not

It knows ImageNet's 1000 labels, the nouns around them in WordNet, and the attributes of the
rendered scenes. It does not read, count beyond five, or know people, actions and places that
no label implies. Its attributes were fitted and measured on rendered scenes only; on photos they
are not claimed. OpenCLIP or SigLIP are better wherever a hub or a checkpoint can be reached.

## Figures

{begin}
not measured yet: run `python bench/pocket.py --card CARD.md`
{end}

## Licences

MiniLM (all-MiniLM-L6-v2) and the EfficientNet-Lite weights are Apache-2.0 and are not part of
these files. The label vectors, the whitening and the text heads are derived from WordNet 3.0,
Copyright 2006 by Princeton University; see THIRD_PARTY_NOTICES.md for its licence.
"""


def write_card(path: str | Path, facts: Mapping[str, Any]) -> None:
    """Write the card of arrays that were made as ``facts`` say."""
    text = _TEXT.format(
        seed=facts["seed"],
        photos_fitted=facts["photos"]["fitted"],
        photos=facts["photos"]["of"],
        photos_id=facts["photos"]["fingerprint"],
        lemmas_fitted=facts["lemmas"]["fitted"],
        lemmas=facts["lemmas"]["of"],
        wordnet=facts["wordnet"],
        scenes_name=facts["scenes"]["name"],
        scenes_size=facts["scenes"]["size"],
        scenes_id=facts["scenes"]["fingerprint"],
        phrases=facts["settings"]["phrases"],
        pairs=", ".join(f"{first}–{second}" for first, second in UNFITTED_PAIRS),
        begin=FIGURES_BEGIN,
        end=FIGURES_END,
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_figures(path: str | Path, table: str) -> None:
    """Put a table of measured figures between the card's two marks."""
    text = Path(path).read_text(encoding="utf-8")
    before, begin, rest = text.partition(FIGURES_BEGIN)
    _, end, after = rest.partition(FIGURES_END)
    if not begin or not end:
        raise UnreadableError(f"{str(path)!r} is not a card: it has no place for figures")
    with atomic_path(path) as temporary:
        whole = f"{before}{FIGURES_BEGIN}\n{table.strip()}\n{FIGURES_END}{after}"
        temporary.write_text(whole, encoding="utf-8")
