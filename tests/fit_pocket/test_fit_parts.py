"""The parts of fitting, each against what is known by hand, and the rule of what is held out."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fit_pocket import small_wordnet
from neuronym.concepts import attribute_words
from neuronym.fit_pocket import held_out, held_out_photo
from neuronym.fit_pocket.class_head import HeadSettings, HeadTexts, fit_class_head
from neuronym.fit_pocket.photo_part import calibrated_scale, reference, shrunk
from neuronym.fit_pocket.phrases import Phrase, fitted_words, phrases, unfitted_words
from neuronym.fit_pocket.scene_part import UNFITTED_PAIRS, fit_ridge, unfitted_pairs
from neuronym.fit_pocket.vocabulary import Vocabulary, Whitening, label_texts, label_vectors
from neuronym.fit_pocket.word_reader import READER, fit_word_reader
from neuronym.fit_pocket.wordnet import WordNet
from neuronym.probes.scenes import GROUPS, AttributeTable, SceneSet
from neuronym.vision_text.pocket.arrays import TextArrays
from neuronym.vision_text.pocket.space import read_words, softmax
from neuronym.vision_text.pocket.tower import ImageFeatures

NONE = np.zeros((0, 0), dtype=np.float32)


def clusters(kinds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors ``(kinds, 384)`` near one direction per kind."""
    centres = rng.standard_normal((kinds.max() + 1, 384))
    rows = centres[kinds] + 0.4 * rng.standard_normal((len(kinds), 384))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    wordnet = WordNet(small_wordnet.write(tmp_path, small_wordnet.NOUNS))
    return Vocabulary(wordnet, labels=("n00000040", "n00000070"), wide=("n00000060",))


def test_the_rule_is_the_crc_of_the_lower_case_text() -> None:
    for text in ("dog", "bird", "Fire_engine", "tabby cat"):
        plain = text.lower().replace("_", " ")
        assert held_out(text) == (zlib.crc32(plain.encode()) % 5 == 0)
    assert held_out("dog")
    assert held_out("bird")
    assert not held_out("frog")
    assert held_out_photo("A_b.jpg") == (zlib.crc32(b"A_b.jpg") % 5 == 0)


def test_no_held_out_lemma_is_used(vocabulary: Vocabulary) -> None:
    lemmas = {lemma.lower() for noun in small_wordnet.NOUNS.values() for lemma in noun[0]}
    kept = {lemma.replace("_", " ") for lemma in lemmas if not held_out(lemma)}
    assert kept < {lemma.replace("_", " ") for lemma in lemmas}, "the example has to lose one"
    assert set(vocabulary.lemmas) == kept
    assert vocabulary.first_lemma("n00000040") == "canis familiaris"  # "dog" is held out
    seen: set[str] = set()

    def white(names: list[str]) -> np.ndarray:
        seen.update(names)
        return np.eye(8, dtype=np.float32)[: len(names)]

    vectors = label_vectors(vocabulary, white)
    assert seen <= kept | {"it barks", "it keeps money"}  # definitions stand in
    assert vocabulary.definition("n00000040") == "it barks"
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_a_definition_that_says_a_held_out_lemma_is_left_out(tmp_path: Path) -> None:
    nouns = dict(small_wordnet.NOUNS)
    nouns["n00000040"] = (("dog",), "a Dog, that barks", ("n00000010",))
    vocabulary = Vocabulary(
        WordNet(small_wordnet.write(tmp_path, nouns)), labels=("n00000040",), wide=()
    )
    assert vocabulary.definition("n00000040") is None
    assert label_texts(vocabulary, "n00000040") == []


def test_label_vectors_by_hand(vocabulary: Vocabulary) -> None:
    """The dog: its next lemma and, as "dog" is held out, its definition; then its ancestors."""
    basis: dict[str, int] = {}

    def white(names: list[str]) -> np.ndarray:
        basis.update({name: index for index, name in enumerate(names)})
        return np.eye(len(names), dtype=np.float32)

    vector = label_vectors(vocabulary, white)[0]
    expected = np.zeros(len(basis))
    steps = {"n00000020": 1, "n00000030": 1, "n00000010": 2, "n00001740": 3}
    names = {vocabulary.first_lemma(wnid): 0.85**depth for wnid, depth in steps.items()}
    names |= {"canis familiaris": 1.5, "it barks": 1.5}
    for name, weight in names.items():
        if name is not None:
            expected[basis[name]] = weight
    assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-4)


def test_affinity_is_lins(vocabulary: Vocabulary) -> None:
    """Against a literal twin: the most informative common ancestor, by walking both up."""
    wordnet = vocabulary.wordnet
    for row, noun in enumerate(vocabulary.nouns):
        for column, label in enumerate(vocabulary.labels):
            mine = {noun, *wordnet.ancestors(noun, depth=64)}
            theirs = {label, *wordnet.ancestors(label, depth=64)}
            shared = max(wordnet.information(wnid) for wnid in mine & theirs)
            both = wordnet.information(noun) + wordnet.information(label)
            assert vocabulary.affinity[row, column] == pytest.approx(2 * shared / both, abs=1e-5)


def test_senses_weigh_less_down_the_ranks(vocabulary: Vocabulary) -> None:
    weight = {(sense.lemma, sense.wnid): sense.weight for sense in vocabulary.senses}
    if ("bank", "n00000060") in weight:
        assert weight["bank", "n00000060"] == 4 * weight["bank", "n00000070"]
    else:
        assert held_out("bank")


def test_whitening_gives_unit_covariance() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((4000, 12)) @ rng.standard_normal((12, 12)) + 3
    whitening = Whitening.of(mixed.astype(np.float32))
    white = (mixed - whitening.mean) @ whitening.matrix
    values = np.linalg.eigvalsh(np.cov(white.T))
    assert values.max() < 1.01
    assert np.median(values) > 0.7  # the smallest are damped
    assert np.allclose(np.linalg.norm(whitening(mixed.astype(np.float32)), axis=1), 1, atol=1e-3)


def test_the_class_head_learns_and_repeats() -> None:
    rng = np.random.default_rng(0)
    nouns = np.arange(120) % 3
    vectors = clusters(nouns, rng)
    affinity = np.zeros((3, 1000), dtype=np.float32)
    affinity[np.arange(3), [5, 50, 500]] = 1
    texts = HeadTexts(vectors, nouns, np.ones(120, dtype=np.float32), affinity)
    settings = HeadSettings(hidden=32, epochs=10, batch_size=40, dropout=0.1)
    head, again = (fit_class_head(texts, settings, seed=1) for _ in range(2))
    assert np.array_equal(head.weight_out, again.weight_out)
    import torch

    hidden = torch.nn.functional.gelu(torch.from_numpy(vectors @ head.weight_in + head.bias_in))
    found = (hidden.numpy() @ head.weight_out + head.bias_out).argmax(1)
    assert (found == np.array([5, 50, 500])[nouns]).mean() > 0.95
    other = fit_class_head(texts, settings, seed=2)
    assert not np.array_equal(head.weight_out, other.weight_out)


def test_ridge_against_its_normal_equations() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 7)).astype(np.float32)
    values = np.stack([x[:, 0] > 0, x[:, 0] <= 0], axis=1)
    table = AttributeTable(("a:x", "a:y"), ("a", "a"), values)
    ridge = fit_ridge(x, table, penalty=0.3)
    z = np.clip((x - ridge.mean) / ridge.scale, -6, 6).astype(np.float64)
    y = values - values.mean(0)
    gradient = z.T @ (z @ ridge.weights - y) + 0.3 * 200 * ridge.weights
    assert np.abs(gradient).max() < 1e-3
    assert ((z @ ridge.weights).argmax(1) == values.argmax(1)).mean() > 0.9


def test_held_out_combinations() -> None:
    fitted = SceneSet(300, seed=3, exclude=lambda scene: bool(unfitted_pairs(scene)))
    assert not any(unfitted_pairs(scene) for scene in fitted.scenes)
    for group, values in GROUPS.items():  # every value is still fitted
        assert {scene[group] for scene in fitted.scenes} == set(values)
    fresh = [unfitted_pairs(scene) for scene in SceneSet(300, seed=4).scenes]
    assert {pair for pairs in fresh for pair in pairs} == set(UNFITTED_PAIRS)


def test_no_phrase_says_an_unfitted_synonym() -> None:
    unfitted = {w for each in unfitted_words().values() for words in each.values() for w in words}
    fitted = {w for each in fitted_words().values() for words in each.values() for w in words}
    names = {value for values in GROUPS.values() for value in values}
    assert len(unfitted) > 20
    assert all(held_out(word) for word in unfitted)
    assert not any(held_out(word) for word in fitted - names)
    assert names <= fitted
    every = {word for words in attribute_words().values() for word in words}
    never = {word.lower() for word in every - names if held_out(word)}
    said = phrases(["dog house", "red fox", "lamp"], seed=0, composed=400)
    for phrase in said:
        padded = f" {phrase.text} "
        assert not [word for word in never if f" {word} " in padded], phrase.text
    assert not any("fox" in phrase.text for phrase in said), "a noun with a colour in it"
    assert [p.text for p in phrases(["lamp"], seed=0, composed=100)] == [
        p.text for p in phrases(["lamp"], seed=0, composed=100)
    ]


def test_phrases_say_what_they_are_labelled() -> None:
    words = fitted_words()
    for phrase in phrases(["lamp"], seed=1, composed=300):
        for group, value in phrase.values.items():
            assert any(word in phrase.text for word in words[group][value]), phrase
        if phrase.values:
            assert phrase.thing == ("lamp" in phrase.text)


def test_the_reader_learns() -> None:
    """Texts whose vectors tell their value apart are read right, and a noun says no attribute."""
    said = [Phrase(value, {"shape": value}) for value in GROUPS["shape"]] * 12
    said += [Phrase("lamp", thing=True)] * 24
    kinds = np.array(
        [len(GROUPS["shape"]) if p.thing else GROUPS["shape"].index(p.text) for p in said]
    )
    vectors = clusters(kinds, np.random.default_rng(0))
    settings = replace(READER, hidden=64, batch_size=24, epochs=15, learning_rate=2e-2)
    head = fit_word_reader(said, vectors, settings, seed=0)
    text = TextArrays(
        **dict.fromkeys(("mean", "whitening", "labels", "class_in", "class_in_bias"), NONE),
        **dict.fromkeys(("class_out", "class_out_bias"), NONE),
        word_in=head.weight_in,
        word_in_bias=head.bias_in,
        word_out=head.weight_out,
        word_out_bias=head.bias_out,
        facts={"groups": [[group, list(values)] for group, values in GROUPS.items()]},
    )
    values, thing = read_words(vectors, text)
    start = sum(len(GROUPS[group]) for group in list(GROUPS)[: list(GROUPS).index("shape")])
    shapes = values[:, start : start + len(GROUPS["shape"])]
    is_lamp = kinds == len(GROUPS["shape"])
    assert (shapes[~is_lamp].argmax(1) == kinds[~is_lamp]).mean() > 0.95
    assert shapes[is_lamp].sum(1).max() < 0.5
    assert thing[is_lamp].min() > 0.5 > thing[~is_lamp].max()


def test_reference_means_by_hand() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((6, 1000)).astype(np.float32) * 3
    nothing = np.zeros((6, 0), dtype=np.float32)
    photos = ImageFeatures(logits, nothing, np.zeros(6, dtype=np.bool_))
    tiny = ImageFeatures(logits[::-1] / 2, nothing, np.ones(6, dtype=np.bool_))
    labels = rng.standard_normal((1000, 384)).astype(np.float32)
    means = reference(photos, tiny, labels)
    p, q = softmax(logits), softmax(logits / 4)
    assert np.allclose(means.posterior_mean, p.mean(0), atol=1e-7)
    assert np.allclose(means.object_mean, (p @ labels).mean(0), atol=1e-5)
    assert np.allclose(means.tiny_bias, np.log(p.mean(0) / q.mean(0)), atol=1e-4)


def test_the_calibrated_scale_is_the_most_likely() -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((4000, 10)).astype(np.float32)
    chance = softmax(scores * np.float32(7))
    truth = np.array([rng.choice(10, p=row / row.sum()) for row in chance.astype(np.float64)])
    assert calibrated_scale(scores, truth) == pytest.approx(7, rel=0.1)


def test_shrunk_photos_are_the_centre() -> None:
    from PIL import Image

    image = Image.new("RGB", (300, 100), (255, 0, 0))
    image.paste((0, 0, 255), (100, 0, 200, 100))
    small = np.asarray(shrunk(image))
    assert small.shape == (32, 32, 3)
    assert (small[:, 2:-2] == (0, 0, 255)).all()  # the filter reaches over the square's edge
