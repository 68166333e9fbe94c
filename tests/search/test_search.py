"""Units are found by text, name, example image and likeness; and nothing where there is nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dissect.planted import (
    ATTRIBUTES,
    WORDS,
    PlantedVisionText,
    concepts,
    detectors,
    image_of,
    probe_set,
    transform,
)
from dissect.record_planted import network
from neuronym.concepts import from_words
from neuronym.dissect import DissectOptions, dissect, record_sites
from neuronym.errors import InputError, MissingError, UnavailableError, UnknownNameError
from neuronym.false_discovery import q_values
from neuronym.models import LoadedModel
from neuronym.results import Atlas
from neuronym.search import match_image, match_name, match_text, match_texts, similar_units
from neuronym.search.background import compare, drawn
from neuronym.search.similar import whitening
from reference import search as literal

IMAGES = 400
SYNONYM = "motor"  # of "engine"; not in the concept set


class Knows(PlantedVisionText):
    """Embeds a synonym beside its word, and a word that no unit carries in a direction apart."""

    dim = ATTRIBUTES + 1

    def embed_images(self, images):
        cells = super().embed_images(images)
        noise = np.random.default_rng(len(images)).random((len(images), 1))
        return np.concatenate([cells, noise], 1).astype(np.float32)

    def embed_texts(self, texts):
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            if text == SYNONYM:
                row[WORDS.index("engine")], row[WORDS.index("drum")] = 0.95, 0.3
            elif text == "qwertz":
                row[-1] = 1
            else:
                row[:-1] = super().embed_texts([text])[0]
        return rows


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NEURONYM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return LoadedModel(detectors(), transform, None, "planted.models:detectors", (3, 8, 8))


@pytest.fixture(scope="module")
def rival() -> LoadedModel:
    return LoadedModel(network(), transform, None, "planted.models:network", (3, 8, 8))


def dissected(model: LoadedModel, sites: str, **changes) -> Atlas:
    options = DissectOptions(cache=False, **changes.pop("options", {}))
    return dissect(
        model, probe_set(IMAGES), concepts(), Knows(), sites=sites, options=options, **changes
    )


@pytest.fixture(scope="module")
def atlas(model: LoadedModel) -> Atlas:
    return dissected(model, "act")


@pytest.fixture(scope="module")
def rivals(rival: LoadedModel) -> Atlas:
    return dissected(rival, "detect,act")


def units_of(word: str) -> list[int]:
    return [k for k, each in enumerate(detectors().order) if each == WORDS.index(word)]


def test_a_unit_is_found_by_its_own_concept(atlas: Atlas) -> None:
    for word in WORDS:
        match = match_text(atlas, Knows(), word)
        assert [unit.unit for unit in match.matching] == units_of(word)
        assert match.best.name == word
        assert match.best.correlation > 0.9
        assert match.best.q_value < 1e-6
        assert match.best.rank_among_words == 0
    assert (match.words, match.images) == (len(WORDS), IMAGES)


def test_a_unit_is_found_by_a_synonym_outside_the_concept_set(atlas: Atlas) -> None:
    match = match_text(atlas, Knows(), SYNONYM, specific=0.1)
    assert match.best.unit in units_of("engine")
    assert match.best.name == "engine"
    assert match.best.rank_among_words == pytest.approx(1 / len(WORDS))  # "engine" itself
    assert {unit.name for unit in match.matching} == {"engine", "drum"}  # what it is made of
    assert match_text(atlas, Knows(), SYNONYM).matching == ()
    everything = match_text(atlas, Knows(), SYNONYM, specific=1, chance=1)
    assert len(everything.matching) >= len(match.matching)


def test_nothing_is_found_for_a_word_that_no_unit_carries(atlas: Atlas) -> None:
    match = match_text(atlas, Knows(), "qwertz", specific=1)
    assert match.matching == ()
    assert len(match.units) == len(atlas)
    line = match.nothing()
    assert "\n" not in line
    assert f"the best is {match.best.key}" in line
    assert "'qwertz' (of 19 units)" in line


def test_numbers_are_the_literal_ones(rivals: Atlas, rival: LoadedModel) -> None:

    images = probe_set(IMAGES)
    rows = record_sites(rival, images, rivals.sites)
    embeddings = np.concatenate(
        [Knows().embed_images([images.image(index)]) for index in range(IMAGES)]
    )
    embeddings[:, -1] = 0  # the noise differs with the batches; no text here reads it
    match = match_text(rivals, Knows(), SYNONYM, sites="*")
    text = Knows().embed_texts([SYNONYM])
    words = Knows().embed_texts(WORDS)
    for site in ("detect", "act"):
        expected = literal.correlations(rows[site], embeddings, text)[:, 0]
        others = literal.correlations(rows[site], embeddings, words)
        for unit in match.units:
            if unit.site == site and unit.p_value < 1:
                assert unit.correlation == pytest.approx(expected[unit.unit], abs=1e-5)
                shares = (others[unit.unit] >= expected[unit.unit] - 1e-9).mean()
                assert unit.rank_among_words == pytest.approx(shares)
    tested = [unit for unit in match.units if unit.p_value < 1]
    p = np.array([unit.p_value for unit in tested])
    np.testing.assert_allclose([unit.q_value for unit in tested], literal.false_discovery(p))
    np.testing.assert_allclose(q_values(p), literal.false_discovery(p))


def test_how_much_a_text_stands_out_is_the_literal_share(atlas: Atlas) -> None:
    evidence = atlas.evidence
    assert evidence is not None
    texts = np.random.default_rng(5).standard_normal((6, evidence.dim)).astype(np.float32)
    texts[0] = Knows().embed_texts(["drum"])
    found = compare(evidence, ["act"], texts, np.ones(19, bool))
    words = evidence.correlations("act", evidence.background)
    best = literal.standing(evidence.correlations("act", texts), words)
    random = literal.standing(evidence.correlations("act", drawn(evidence.background)), words)
    expected = (random[:, None] >= best).mean(0)
    np.testing.assert_allclose(found.by_chance, expected, atol=1 / len(random))
    assert found.by_chance[0] == 0
    assert found.by_chance[1:].max() > 0.1


def test_meaningless_directions_vary_as_the_words_do() -> None:
    words = np.random.default_rng(6).standard_normal((40, 3)).astype(np.float32) * (1, 2, 3) + 5
    directions = drawn(words.astype(np.float32))
    np.testing.assert_allclose(directions.mean(0), words.mean(0), atol=0.5)
    np.testing.assert_allclose(directions.std(0), words.std(0), rtol=0.15)


def test_dead_units_are_not_searched(rivals: Atlas) -> None:
    dead = [unit for unit in rivals if unit.unnamed in ("constant", "never above zero")]
    assert dead
    match = {unit.key: unit for unit in match_text(rivals, Knows(), "apple", specific=1).units}
    for unit in dead:
        assert (match[unit.key].p_value, match[unit.key].matches) == (1.0, False)


def test_several_texts_are_each_on_their_own(atlas: Atlas) -> None:
    texts = ["apple", "qwertz", " apple "]
    together = match_texts(atlas, Knows(), texts)
    assert [match.text for match in together] == texts
    for match in together:
        assert match.units == match_text(atlas, Knows(), match.text).units
    assert together[0].units == together[2].units


def test_sites_and_templates(rivals: Atlas) -> None:
    match = match_text(rivals, Knows(), "apple", sites="det*")
    assert {unit.site for unit in match.units} == {"detect"}
    assert len(match.units) == rivals.site("detect").units
    framed = match_text(rivals, Knows(), "apple", sites="det*", templates="a photo of a {}")
    assert framed.best.correlation == pytest.approx(match.best.correlation)
    assert json.loads(json.dumps(match.to_dict()))["units"][0]["name"] == match.best.name


def test_what_is_saved_finds_the_same(atlas: Atlas, tmp_path) -> None:
    loaded = Atlas.load(atlas.save(tmp_path / "atlas").folder)
    now, before = (match_text(each, Knows(), "drum") for each in (loaded, atlas))
    for after, unit in zip(now.units, before.units, strict=True):
        assert (after.key, after.matches) == (unit.key, unit.matches)
        assert after.correlation == unit.correlation
        assert after.p_value == pytest.approx(unit.p_value, rel=0.05)


def test_an_atlas_without_evidence(atlas: Atlas, model: LoadedModel) -> None:
    older = replace(atlas, held=None)
    for search in (
        lambda: match_text(older, Knows(), "drum"),
        lambda: match_image(model, older, probe_set(2).image(0)),
        lambda: similar_units(older, "act", 0),
    ):
        with pytest.raises(InputError, match=r"made without the evidence .* dissect its model"):
            search()
    assert [hit.unit for hit in match_name(older, "drum")] == units_of("drum")


def test_another_vision_text_model(atlas: Atlas) -> None:
    other = Knows("planted-2")
    with pytest.raises(InputError, match=r"vision-text model 'planted' .* not with 'planted'"):
        match_text(atlas, other, "drum")
    with pytest.raises(InputError, match=r"17 dimensions.*16 dimensions"):
        match_text(atlas, PlantedVisionText(), "drum")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": " "}, "must be a word or phrase, not ' '"),
        ({"level": 0}, "level must be above 0 and below 1, not 0"),
        ({"level": True}, "level must be above 0 and below 1, not True"),
        ({"specific": 1.5}, "specific must be a number from 0 to 1, not 1.5"),
        ({"chance": -0.1}, "chance must be a number from 0 to 1, not -0.1"),
        ({"specific": "few"}, "specific must be a number from 0 to 1, not 'few'"),
        ({"sites": "atc"}, "atlas has no site 'atc'; nearest: act"),
        ({"templates": "photo of it"}, "unknown list of templates"),
    ],
)
def test_bad_input(atlas: Atlas, changes, message: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=message):
        match_text(atlas, Knows(), **{"text": "drum", **changes})


def test_texts_must_be_a_list(atlas: Atlas) -> None:
    with pytest.raises(InputError, match="must be a list of at least one text, not 'drum'"):
        match_texts(atlas, Knows(), "drum")
    with pytest.raises(InputError, match=r"not \[\]"):
        match_texts(atlas, Knows(), [])


def test_names(atlas: Atlas) -> None:
    (hit,) = match_name(atlas, "  ENGINE ")
    assert (hit.unit, hit.kind, hit.similarity) == (units_of("engine")[0], "same", 1.0)
    assert {hit.name for hit in match_name(atlas, "*an*")} == {"island", "orange"}
    assert {hit.kind for hit in match_name(atlas, "*an*")} == {"pattern"}
    assert match_name(atlas, "motor") == ()
    (alike,) = match_name(atlas, "motor", encoder=Knows().embed_texts)
    assert (alike.name, alike.kind) == ("engine", "alike")
    assert alike.similarity == pytest.approx(0.95 / np.hypot(0.95, 0.3))
    assert match_name(atlas, "motor", encoder=Knows().embed_texts, least=0.96) == ()
    for wrong in (-1, 1.1):
        with pytest.raises(InputError, match="least must be above -1 and at most 1"):
            match_name(atlas, "motor", least=wrong)
    with pytest.raises(InputError, match="word or phrase"):
        match_name(atlas, "")


def test_sea_finds_water_surface(atlas: Atlas) -> None:
    from neuronym.search.names import text_encoder

    try:
        encoder = text_encoder()
    except UnavailableError as error:
        pytest.skip(str(error))
    names = ["water surface", "ocean", "wheel", "dog", "grass"]
    units = tuple(
        replace(unit, name=name) for unit, name in zip(atlas.units[:5], names, strict=True)
    )
    found = match_name(replace(atlas, units=units), "sea", encoder=encoder)
    assert {hit.name for hit in found} == {"water surface", "ocean"}


def test_an_example_image_finds_what_is_on_it(atlas: Atlas, model: LoadedModel, tmp_path) -> None:
    values = np.zeros(ATTRIBUTES)
    values[WORDS.index("kettle")] = 1.0
    image = image_of(values)
    match = match_image(model, atlas, image)
    (kettle,) = units_of("kettle")
    best = match.units[0]
    assert (best.unit, best.name, best.agree, best.won) == (kettle, "kettle", 1, None)
    evidence = atlas.evidence
    assert evidence is not None
    z = (1 - evidence.mean("act")[kettle]) / evidence.deviation("act")[kettle]
    assert best.z == pytest.approx(z, rel=1e-5)
    image.save(tmp_path / "kettle.png")
    assert match_image(model, atlas, tmp_path / "kettle.png").units == match.units
    values[WORDS.index("mirror")] = 1.0
    both = match_image(model, atlas, [image, image_of(values)], sites="act")
    assert both.images == 2
    assert (both.units[0].name, both.units[0].agree) == ("kettle", 2)
    assert both.units[0].z == pytest.approx(z, rel=1e-5)
    assert (both.units[1].name, both.units[1].agree) == ("mirror", 1)
    assert len(both.units) == len(atlas) - 1  # the unit that never fires has no z
    assert json.loads(json.dumps(both.to_dict()))["units"][0]["name"] == "kettle"


def test_an_example_image_at_a_competitive_site(rivals: Atlas, rival: LoadedModel) -> None:
    values = np.zeros(ATTRIBUTES)
    values[WORDS.index("kettle")] = 1.0
    match = match_image(rival, rivals, image_of(values), sites="act")
    best = match.units[0]
    assert (best.name, best.won) == ("kettle", 1)
    won = [unit.won for unit in match.units]
    assert won == sorted(won, reverse=True)
    blocks = [unit.unit // 4 for unit in match.units if unit.won]
    assert len(blocks) == len(set(blocks))


def test_more_examples_than_a_batch(atlas: Atlas, model: LoadedModel) -> None:
    images = probe_set(40)
    match = match_image(model, atlas, [images.image(index) for index in range(40)])
    values = np.stack([np.asarray(images.image(i))[::2, ::2, 0].reshape(-1) for i in range(40)])
    for unit in match.units:
        expected = values[:, detectors().order[unit.unit]].mean() / 255
        assert unit.activation == pytest.approx(expected, rel=1e-5)


def test_bad_images(atlas: Atlas, model: LoadedModel, rival: LoadedModel) -> None:
    with pytest.raises(InputError, match="no example image"):
        match_image(model, atlas, [])
    with pytest.raises(MissingError, match=r"none\.png"):
        match_image(model, atlas, "none.png")
    with pytest.raises(InputError, match="the atlas was made from another model"):
        match_image(rival, atlas, Image.new("RGB", (8, 8)))


def test_like_units_are_alike(atlas: Atlas) -> None:
    first, *others = units_of("drum")
    assert len(others) == 2
    found = similar_units(atlas, "act", first)
    assert [unit.unit for unit in found[:2]] == others
    assert found[0].similarity == pytest.approx(1, abs=1e-5)
    assert found[2].similarity < 0.5
    assert first not in [unit.unit for unit in found]
    assert [unit.similarity for unit in found] == sorted(
        (unit.similarity for unit in found), reverse=True
    )
    assert len(similar_units(atlas, "act", first, most=3)) == 3


def test_likeness_estimates_the_correlation_of_activations(rivals: Atlas) -> None:
    """Planted units are linear in the embeddings, so that the estimate is near the truth."""
    evidence = rivals.evidence
    assert evidence is not None
    rows = evidence.sample[:, :ATTRIBUTES]
    true = np.corrcoef(rows.T)
    order = detectors().order
    names = {unit.unit: unit for unit in similar_units(rivals, "detect", 0, sites="detect")}
    for unit in range(1, ATTRIBUTES):
        if unit in names:
            assert names[unit].similarity == pytest.approx(true[order[0], order[unit]], abs=0.12)
    whole = evidence.covariance()
    np.testing.assert_allclose(
        whitening(evidence, 0.0) @ whole @ whitening(evidence, 0.0), np.eye(evidence.dim), atol=1e-6
    )


def test_bad_units(atlas: Atlas) -> None:
    with pytest.raises(InputError, match="units 0 to 18, not 19"):
        similar_units(atlas, "act", 19)
    with pytest.raises(InputError, match="no site 'atc'"):
        similar_units(atlas, "atc", 0)
    with pytest.raises(InputError, match="unit 'act/18' is constant: nothing is like it"):
        similar_units(atlas, "act", 18)
    with pytest.raises(InputError, match="most must be a whole number of at least 1, not 0"):
        similar_units(atlas, "act", 0, most=0)


def test_a_large_concept_set_is_sampled(model: LoadedModel) -> None:
    from neuronym.dissect.kept_evidence import SAMPLE

    class Many(PlantedVisionText):
        def embed_texts(self, texts):
            return np.random.default_rng(len(texts)).standard_normal(
                (len(texts), self.dim)
            ).astype(np.float32)  # fmt: skip

    words = from_words([f"word {index}" for index in range(SAMPLE + 50)])
    made = dissect(
        model,
        probe_set(40),
        words,
        Many(),
        sites="act",
        similarity="cosine",
        options=DissectOptions(cache=False, null_draws=100),
    )
    evidence = made.evidence
    assert evidence is not None
    assert len(evidence.words) == len(set(evidence.words)) == SAMPLE
    assert evidence.sample.shape == (40, ATTRIBUTES)
    assert evidence.count == 40


def test_global_random_state_of_torch_is_untouched(atlas: Atlas, model: LoadedModel) -> None:
    before = torch.get_rng_state()
    match_text(atlas, Knows(), "drum")
    match_image(model, atlas, probe_set(2).image(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.shared_data
def test_real_photos_and_the_pocket_model(shared_data) -> None:
    """Channels of an ImageNet network: dogs are found, a word of no meaning is not."""
    from neuronym import concepts as concept_sets
    from neuronym import models, probes, vision_text

    site = "blocks.6.0.bn1"
    photos = probes.load(str(shared_data / "imagenet-photos.parquet"))
    photos = probes.subset(photos, list(range(0, 800, 8)))
    network = models.load("pocket:efficientnet_lite0")
    pocket = vision_text.load("pocket")
    made = dissect(
        network,
        photos,
        from_words(concept_sets.load("imagenet-1k").words[::8]),
        pocket,
        sites=site,
        similarity="cosine",
        options=DissectOptions(cache=False, null_draws=100),
    )
    match, nonsense = match_texts(made, pocket, ["dog", "qwertz"])
    assert len(match.matching) > 20
    assert match.best.correlation > 0.6
    assert nonsense.matching == ()
    rows = record_sites(network, photos, made.sites)[site]
    found = similar_units(made, site, match.best.unit, most=500)
    true = np.corrcoef(rows[:, [match.best.unit, *(unit.unit for unit in found)]].T)[0, 1:]
    assert np.corrcoef([unit.similarity for unit in found], true)[0, 1] > 0.9
