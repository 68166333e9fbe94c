"""The class names and definitions of ImageNet, as timm carries them."""

from __future__ import annotations

from neuronym.concepts.base import ConceptSet

__all__ = ["imagenet"]


def imagenet(name: str) -> ConceptSet:
    """Return ``imagenet-1k`` (1,000 classes) or ``imagenet-21k`` (21,843) as concepts.

    A class is a WordNet synset with one or more lemmas ("tench, Tinca tinca"). Its concept is its
    first lemma. Where an earlier class has that word already, it is the first of its lemmas that
    is still free; where none is, the class shares the word (ImageNet-1k's two cranes are one
    concept). The definition is that of the first class with the word.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo(name)
    words: dict[str, str] = {}
    definitions: dict[str, str] = {}
    shared = 0
    for index in range(info.num_classes()):
        detailed = info.index_to_description(index, detailed=True)
        lemmas, _, definition = detailed.partition(": ")
        names = [" ".join(lemma.split()) for lemma in lemmas.split(",") if lemma.strip()]
        free = next((lemma for lemma in names if lemma.casefold() not in words), None)
        if free is None:
            shared += 1
            continue
        words[free.casefold()] = free
        if definition:
            definitions[free] = definition.strip()
    return ConceptSet(name, tuple(words.values()), definitions=definitions, duplicates=shared)
