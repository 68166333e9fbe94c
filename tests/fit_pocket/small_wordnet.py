"""A noun database small enough to check by hand, in WordNet's own file format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

LICENCE = "  1 This stands for the licence notice at the head of the real files.  \n"

# wnid → lemmas, definition, parents. A diamond: a dog is a canine and a domestic animal.
NOUNS: Mapping[str, tuple[Sequence[str], str, Sequence[str]]] = {
    "n00001740": (("entity",), "what exists", ()),
    "n00000010": (("animal", "beast"), "a living thing that moves", ("n00001740",)),
    "n00000020": (("canine",), "of the dog family", ("n00000010",)),
    "n00000030": (("domestic_animal",), "kept by people", ("n00000010",)),
    "n00000040": (("dog", "Canis_familiaris"), "it barks", ("n00000020", "n00000030")),
    "n00000050": (("artifact",), "a thing that was made", ("n00001740",)),
    "n00000060": (("bank",), "a slope", ("n00001740",)),
    "n00000070": (("bank", "depository"), "it keeps money", ("n00000050",)),
}


def write(folder: Path, nouns: Mapping[str, tuple[Sequence[str], str, Sequence[str]]]) -> Path:
    """Write ``data.noun`` and ``index.noun``; senses are ranked in the order of ``nouns``."""
    folder.mkdir(parents=True, exist_ok=True)
    senses: dict[str, list[str]] = {}
    lines = [LICENCE]
    for wnid, (lemmas, definition, parents) in nouns.items():
        words = " ".join(f"{lemma} 0" for lemma in lemmas)
        up = " ".join(f"@ {parent[1:]} n 0000" for parent in parents)
        head = f"{wnid[1:]} 03 n {len(lemmas):02x} {words} {len(parents):03d} {up}".rstrip()
        lines.append(f'{head} | {definition}; "an example"  \n')
        for lemma in lemmas:
            senses.setdefault(lemma.lower(), []).append(wnid[1:])
    (folder / "data.noun").write_text("".join(lines), encoding="utf-8")
    index = [
        f"{lemma} n {len(found)} 1 @ {len(found)} 0 {' '.join(found)}  \n"
        for lemma, found in sorted(senses.items())
    ]
    (folder / "index.noun").write_text(LICENCE + "".join(index), encoding="utf-8")
    return folder
