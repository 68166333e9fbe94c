"""Concept sets: one parser for every list, templates, and what a word stands for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from neuronym import concepts
from neuronym.concepts.base import article
from neuronym.errors import InputError, MissingError, UnknownNameError, UnreadableError
from neuronym.probes.scenes import ATTRIBUTES


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_text_file(tmp_path: Path) -> None:
    data = (
        "\ufeff# my words\r\n  dog \n\n\t\nred   car\nDog\n # a comment\ncafé\ncafe\u0301\nC#\n"
    ).encode()
    held = concepts.load(write(tmp_path / "w.txt", data))
    assert held.words == ("dog", "red car", "café", "C#")
    assert held.duplicates == 2
    assert held.name == str(tmp_path / "w.txt")
    assert held.templates == ("{}",)
    assert len(held) == 4
    assert concepts.from_words(["dog", " red  car", "DOG", "café", "C#"]).words == held.words


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    for data in (b"", b"\n \n", b"# nothing\n", "\ufeff".encode()):
        with pytest.raises(InputError, match="hold no word; write one word or phrase per line"):
            concepts.load(write(tmp_path / "e.txt", data))
    with pytest.raises(
        UnreadableError, match=r"not UTF-8: byte 0xe9 in line 3 \(byte 11 of the file\)"
    ):
        concepts.load(write(tmp_path / "l.txt", "dog\ncat\ncaf\xe9\n".encode("latin-1")))
    with pytest.raises(UnreadableError, match="not text: zero byte in line 2"):
        concepts.load(write(tmp_path / "z.txt", b"dog\n\x00\x01\n"))
    with pytest.raises(UnreadableError, match="not UTF-8: byte 0xff in line 1"):
        concepts.load(write(tmp_path / "u.txt", "dog\n".encode("utf-16")))
    with pytest.raises(MissingError, match=r"n\.txt' does not exist; built-in sets: common"):
        concepts.load(tmp_path / "n.txt")
    with pytest.raises(InputError, match="is a folder"):
        concepts.load(tmp_path)
    with pytest.raises(UnknownNameError, match="Did you mean 'imagenet-1k'"):
        concepts.load("imagenet1k")
    with pytest.raises(InputError, match="must be a list of words, not the text 'dog'"):
        concepts.from_words("dog")


def test_prompts_and_templates() -> None:
    held = concepts.from_words(["owl", "dog"])
    assert held.prompts("owl") == ("owl",)
    photo = held.with_templates("photo")
    assert photo.prompts("owl") == ("a photo of an owl",)
    assert photo.prompts("dog") == ("a photo of a dog",)
    two = held.with_templates(["{} here", "the {}"])
    assert two.prompts("{odd}") == ("{odd} here", "the {odd}")
    assert len({held.fingerprint, photo.fingerprint, two.fingerprint}) == 3
    assert held.fingerprint == concepts.from_words(["owl", "dog"], name="other").fingerprint
    assert held.fingerprint != concepts.from_words(["dog", "owl"]).fingerprint
    assert concepts.load("attributes", templates="a {} thing").prompts("red") == ("a red thing",)
    for templates in concepts.TEMPLATES.values():
        assert held.with_templates(templates).templates == templates


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ("phtoo", "unknown list of templates 'phtoo'.*Did you mean 'photo'"),
        ([], "at least one template"),
        (["a photo"], "'a photo' must hold {}"),
    ],
)
def test_bad_templates(templates: str | list[str], message: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=message):
        concepts.load("attributes", templates=templates)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dog", "a"),
        ("apple", "an"),
        ("hour glass", "an"),
        ("unicorn", "a"),
        ("uniform", "a"),
        ("umbrella", "an"),
        ("one-way street", "a"),
        ("X-ray", "an"),
        ("European oak", "a"),
        ("ural owl", "a"),
    ],
)
def test_articles(word: str, expected: str) -> None:
    assert article(word) == expected


def test_imagenet_names() -> None:
    small = concepts.load("imagenet-1k")
    assert len(small) == 998
    assert small.duplicates == 2
    assert small.words[0] == "tench"
    assert small.definitions["tench"].startswith("freshwater dace-like game fish")
    assert set(small.definitions) <= set(small.words)
    large = concepts.load("imagenet-21k")
    assert len(large) + large.duplicates == 21_843
    assert len({word.casefold() for word in large.words}) == len(large) > 20_000
    assert {"tench", "golden retriever", "traffic light"} <= set(large.words)


def test_common_words() -> None:
    held = concepts.load("common")
    assert len(held) == 20_000
    assert held.duplicates == 0
    assert len({word.casefold() for word in held.words}) == 20_000
    seen = set(held.words)
    assert {"dog", "red", "striped", "traffic light", "school bus", "sunset", "forest"} <= seen
    for hidden in ("idea", "the", "run", "justice", "algorithm", "insulin", "john"):
        assert hidden not in seen
    rank = {word: index for index, word in enumerate(held.words)}
    assert rank["dog"] < rank["zebra"] < rank["aardwolf"]
    assert all(word == " ".join(word.split()) for word in held.words)


def test_attributes_cover_the_scenes() -> None:
    held = concepts.load("attributes")
    words = concepts.attribute_words()
    for attribute in ATTRIBUTES:
        value = attribute.split(":")[1]
        assert words[attribute][0] == value
        assert len(words[attribute]) >= 2 or attribute == "colour:beige"
        assert concepts.canonical(value) == attribute
        assert value in held.words
    for attribute, synonyms in words.items():
        for word in synonyms:
            assert concepts.canonical(word) == attribute, word
            assert concepts.canonical(f"a {word}") == attribute, word
    assert held.duplicates == 0


@pytest.mark.parametrize(
    ("word", "attribute"),
    [
        ("Crimson", "colour:red"),
        ("grey objects", "colour:gray"),
        ("the polka-dots", "pattern:dotted"),
        ("striped pattern", "pattern:striped"),
        ("Stars", "shape:star"),
        ("crosses", "shape:cross"),
        ("five pointed star shape", "shape:star"),
        ("brick_walls", "background:brick"),
        ("starry sky background", "background:night"),
        ("red star", None),
        ("hedgehog", None),
        ("background", None),
        ("", None),
        ("a", None),
    ],
)
def test_canonical(word: str, attribute: str | None) -> None:
    assert concepts.canonical(word) == attribute


def test_importing_is_light() -> None:
    code = "import neuronym.concepts, sys; assert not {'timm', 'torch', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
