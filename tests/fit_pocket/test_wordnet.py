"""WordNet's nouns: parsing, ancestors, information, and bad files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fit_pocket import small_wordnet
from neuronym.errors import MissingError, UnavailableError, UnknownNameError, UnreadableError
from neuronym.fit_pocket import wordnet as module
from neuronym.fit_pocket.wordnet import WORDNET, WordNet


@pytest.fixture
def wordnet(tmp_path: Path) -> WordNet:
    return WordNet(small_wordnet.write(tmp_path / "wordnet", small_wordnet.NOUNS))


def test_nouns_are_read(wordnet: WordNet) -> None:
    assert set(wordnet.synsets) == set(small_wordnet.NOUNS)
    dog = wordnet["n00000040"]
    assert dog.lemmas == ("dog", "Canis familiaris")
    assert dog.definition == "it barks"
    assert dog.parents == ("n00000020", "n00000030")


def test_senses_are_ranked(wordnet: WordNet) -> None:
    assert wordnet.sense_rank["bank", "n00000060"] == 0
    assert wordnet.sense_rank["bank", "n00000070"] == 1
    assert wordnet.sense_rank["canis familiaris", "n00000040"] == 0


def test_ancestors_by_fewest_steps(wordnet: WordNet) -> None:
    assert wordnet.ancestors("n00000040", depth=64) == {
        "n00000020": 1,
        "n00000030": 1,
        "n00000010": 2,
        "n00001740": 3,
    }
    assert wordnet.ancestors("n00000040", depth=1) == {"n00000020": 1, "n00000030": 1}
    assert wordnet.ancestors("n00001740", depth=64) == {}


def test_information_falls_with_what_is_below(wordnet: WordNet) -> None:
    assert wordnet.descendant_counts["n00000010"] == 3  # the dog counts once
    assert wordnet.information("n00000040") == 1
    assert wordnet.information("n00001740") == 0
    assert wordnet.information("n00000010") == pytest.approx(1 - math.log(4) / math.log(8))


def test_bad_folders_are_named(
    tmp_path: Path, wordnet: WordNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingError, match=r"data\.noun' does not exist"):
        WordNet(tmp_path)
    monkeypatch.setattr(module, "WORDNET", tmp_path / "nowhere")
    with pytest.raises(UnavailableError, match="apt-get install wordnet-base"):
        WordNet()
    with pytest.raises(UnknownNameError, match="unknown WordNet noun 'n99999999'"):
        wordnet["n99999999"]
    path = wordnet.folder / "data.noun"
    path.write_text(path.read_text() + "00000080 03 n zz broken\n")
    with pytest.raises(UnreadableError, match=r"'data\.noun' is not a WordNet file"):
        WordNet(wordnet.folder)


def test_the_fingerprint_is_of_the_content(wordnet: WordNet, tmp_path: Path) -> None:
    same = WordNet(small_wordnet.write(tmp_path / "again", small_wordnet.NOUNS))
    fewer = dict(list(small_wordnet.NOUNS.items())[:-1])
    other = WordNet(small_wordnet.write(tmp_path / "other", fewer))
    assert wordnet.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.skipif(not WORDNET.is_dir(), reason="WordNet (wordnet-base) is not installed")
def test_the_real_database() -> None:
    wordnet = WordNet()
    assert len(wordnet.synsets) == 82_115
    assert wordnet["n02084071"].lemmas[0] == "dog"
    assert "n00015388" in wordnet.ancestors("n02084071", depth=8)  # animal
