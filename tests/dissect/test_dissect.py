"""Dissection recovers the planted meaning of every unit, and writes a whole atlas or none."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dissect.planted import (
    ATTRIBUTES,
    CELL,
    WORDS,
    Detectors,
    PlantedVisionText,
    WithBroken,
    concepts,
    detectors,
    image_of,
    probe_set,
    strengths,
    transform,
)
from neuronym import lwta
from neuronym.concepts import from_words
from neuronym.dissect import DissectOptions, dissect, record_sites
from neuronym.errors import FolderInUseError, InputError, UnknownNameError
from neuronym.files import output_folder
from neuronym.models import LoadedModel
from neuronym.probes import from_images
from neuronym.results import Atlas
from neuronym.similarity import SIMILARITIES

OVERWRITE = DissectOptions(overwrite=True)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NEURONYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NEURONYM_NO_CACHE", raising=False)


def loaded(module: nn.Module | None = None, spec: str = "planted.models:detectors") -> LoadedModel:
    return LoadedModel(module or detectors(), transform, None, spec, (3, 8, 8))


def run(model=None, probes=None, *, sites: str = "act", options=None, **changes) -> Atlas:
    return dissect(
        model or loaded(),
        probes or probe_set(),
        changes.pop("concepts", None) or concepts(),
        changes.pop("vision_text", None) or PlantedVisionText(),
        sites=sites,
        options=options,
        **changes,
    )


@pytest.mark.parametrize("similarity", list(SIMILARITIES))
def test_every_similarity_recovers_the_planted_names(similarity) -> None:
    model = detectors()
    atlas = run(loaded(model), similarity=similarity)
    expected = [WORDS[attribute] for attribute in model.order[:-1]]
    assert [unit.name for unit in atlas][:-1] == expected
    dead = atlas.units[-1]
    assert (dead.name, dead.score, dead.p_value) == (None, None, None)
    assert (dead.runner_up_names, dead.top_images, dead.firing_rate) == ((), (), 0.0)


@pytest.mark.parametrize("similarity", list(SIMILARITIES))
def test_competitive_units_are_named_by_what_they_win_on(similarity) -> None:
    order = np.random.default_rng(2).permutation(ATTRIBUTES).tolist()
    model = Detectors(order)
    model.act = lwta.LWTA(4)
    atlas = run(loaded(model), probe_set(400), similarity=similarity)
    assert atlas.site("act").competitors == 4
    assert [unit.block for unit in atlas] == [index // 4 for index in range(ATTRIBUTES)]
    assert [unit.name for unit in atlas] == [WORDS[attribute] for attribute in order]
    rates = np.array([unit.win_rate for unit in atlas]).reshape(4, 4)
    np.testing.assert_allclose(rates.sum(1), 1)


def test_a_similarity_of_ones_own() -> None:
    def covariance(activations, concept_scores, *, power=1.0):
        return (activations.T**power) @ concept_scores

    model = detectors()
    options = DissectOptions(similarity_keywords={"power": 2.0})
    atlas = run(loaded(model), similarity=covariance, options=options)
    assert [unit.name for unit in atlas][:-1] == [WORDS[a] for a in model.order[:-1]]
    assert atlas.provenance["similarity"]["name"].endswith("covariance")
    assert atlas.provenance["similarity"]["keywords"] == {"power": 2.0}


def test_units_and_site_in_detail() -> None:
    model = detectors()
    atlas = run(loaded(model), options=DissectOptions(top_images=7, runner_ups=3))
    values = strengths(240)
    site = atlas.site("act")
    assert (site.units, site.channel_dim, site.positions, site.pooling) == (19, -1, 1, "mean")
    assert site.competitors is None
    present = values[:, model.order[:-1]] > 0
    assert site.active_fraction == pytest.approx(present.sum() / (240 * 19))
    for unit, attribute in zip(atlas, model.order[:-1], strict=False):
        assert unit.firing_rate == pytest.approx((values[:, attribute] > 0).mean())
        assert (unit.block, unit.win_rate) == (None, None)
        assert len(unit.runner_up_names) == 3
        assert unit.name not in unit.runner_up_names
        assert [unit.score, *unit.runner_up_scores] == sorted(
            [unit.score, *unit.runner_up_scores], reverse=True
        )
        brightness = np.round(values[:, attribute] * 255)
        best = np.argsort(-brightness, kind="stable")[:7]
        np.testing.assert_allclose(unit.top_activations, brightness[best] / 255, rtol=1e-5)
        shown = [int(name.split("-")[1]) for name in unit.top_images]
        np.testing.assert_array_equal(brightness[shown], brightness[best])
    assert set(atlas.images) == {name for unit in atlas for name in unit.top_images}
    assert all(image.thumbnail is None for image in atlas.images.values())


def test_a_rare_unit_shows_only_images_it_fires_on() -> None:
    values = strengths(240)
    values[:, 3] = 0
    values[[17, 90, 200], 3] = [0.7, 0.9, 0.8]

    names = [f"planted-{i}" for i in range(240)]
    probes = from_images([image_of(row) for row in values], ids=names)
    model = detectors()
    atlas = run(loaded(model), probes, similarity="cosine")
    unit = atlas.units[model.order.index(3)]
    assert unit.top_images == ("planted-90", "planted-200", "planted-17")
    assert unit.name == WORDS[3]


class Competitive(nn.Module):
    """Four cells compete in pairs at every position of a 4 × 4 map."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 4, 1)
        self.act = lwta.LWTA(2, channel_dim=1)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        with torch.no_grad():
            self.mix.weight.zero_()
            self.mix.weight[0, 0] = 1.0
            self.mix.bias.copy_(torch.tensor([-0.5, 0.0, -2.0, -1.0]))

    def forward(self, x):
        return self.pool(self.act(self.mix(x)))


def test_a_competitive_unit_that_wins_only_below_zero_has_no_name() -> None:
    model = Detectors(list(range(ATTRIBUTES)))
    model.act = nn.Sequential(_Shifted(), lwta.LWTA(2))
    atlas = run(loaded(model), sites="act.1")
    winners = [unit for unit in atlas if unit.win_rate]
    assert len(winners) >= ATTRIBUTES // 2
    assert all(unit.name is None for unit in atlas)


class _Shifted(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - 10


def test_centring_is_a_choice() -> None:
    plain = run(similarity="cosine", options=DissectOptions(centre=False))
    centred = run(similarity="cosine", options=DissectOptions(centre=True))
    default = run(similarity="cosine")
    assert [u.score for u in default] == [u.score for u in centred] != [u.score for u in plain]
    assert (
        plain.provenance["similarity"]["centred"],
        default.provenance["similarity"]["centred"],
        run(similarity="rank_reorder").provenance["similarity"]["centred"],
    ) == (False, True, False)


def test_competitive_sites_carry_the_mask() -> None:
    # Two units say too little about each other for a name to be significant.
    atlas = run(loaded(Competitive()), sites="act", options=DissectOptions(significance=None))
    site = atlas.site("act")
    assert (site.competitors, site.pooling, site.channel_dim, site.positions) == (
        2,
        "winner",
        1,
        64,
    )
    # Unit 0 wins where a cell is brighter than 0.5; unit 3 always wins, with a value below zero.
    bright = (strengths(240) > 0.5).mean()
    rates = [unit.win_rate for unit in atlas]
    assert rates == pytest.approx([bright, 1 - bright, 0.0, 1.0], abs=0.01)
    assert [unit.block for unit in atlas] == [0, 0, 1, 1]
    assert [unit.firing_rate for unit in atlas][2:] == [0.0, 0.0]
    assert [unit.name for unit in atlas][2:] == [None, None]
    assert atlas.units[0].name is not None
    assert site.active_fraction == 0.5  # by the mask: half the wins of the first block pass 0


def test_saved_atlas_is_whole(tmp_path) -> None:
    atlas = run(probes=probe_set(labels=True), out=tmp_path / "atlas")
    again = Atlas.load(tmp_path / "atlas")
    assert again == atlas
    assert again.folder == tmp_path / "atlas"
    first = again.images[again.units[0].top_images[0]]
    assert first.label in WORDS
    with Image.open(tmp_path / "atlas" / first.thumbnail) as picture:
        assert picture.format == "JPEG"
        assert picture.size == (8, 8)  # never enlarged
    files = sorted(path.name for path in (tmp_path / "atlas" / "thumbnails").iterdir())
    assert len(files) == len(again.images)
    facts = json.loads((tmp_path / "atlas" / "manifest.json").read_text())["provenance"]
    assert facts["model"]["spec"] == "planted.models:detectors"
    assert len(facts["model"]["fingerprint"]) == 16
    assert facts["images"]["seen"] == 240
    assert facts["concepts"]["count"] == ATTRIBUTES
    assert facts["vision_text"] == {
        "spec": "planted",
        "fingerprint": "planted-1",
        "dim": ATTRIBUTES,
        "logit_scale": 100.0,
    }
    assert facts["similarity"]["name"] == "soft_wpmi"
    assert facts["similarity"]["keywords"] == {
        "top_k": 60,
        "scale": 10.0,
        "prior_weight": 1.0,
        "membership": [0.998, 0.97],
    }
    assert {"torch", "timm"} <= set(facts["versions"])
    assert facts["sites"] == "act"
    assert set(facts["seconds"]) == {
        "find_sites",
        "record_and_embed",
        "embed_concepts",
        "name",
        "thumbnails",
    }


def test_large_images_get_thumbnails_of_the_size_asked_for(tmp_path) -> None:
    small = probe_set(40)
    images = [small.image(i).resize((400, 300), Image.Resampling.NEAREST) for i in range(40)]

    class Reduced(PlantedVisionText):
        def embed_images(self, images):
            return super().embed_images([image.resize((8, 8), 0) for image in images])

    module = detectors()
    reduced = LoadedModel(
        module, lambda image: transform(image.resize((8, 8), 0)), None, "toy", (3, 8, 8)
    )
    atlas = run(
        reduced,
        from_images(images),
        vision_text=Reduced("reduced"),
        out=tmp_path / "atlas",
        options=DissectOptions(thumbnail_pixels=160),
    )
    for image in atlas.images.values():
        with Image.open(tmp_path / "atlas" / image.thumbnail) as picture:
            assert picture.size == (160, 120)


def test_broken_images_are_skipped_and_named() -> None:
    model = detectors()
    broken = list(range(0, 240, 2))
    atlas = run(loaded(model), WithBroken(probe_set(), broken))
    facts = atlas.provenance["images"]
    assert (facts["seen"], facts["skipped"], len(facts["skipped_ids"])) == (120, 120, 100)
    assert facts["skipped_ids"][:2] == ["planted-0", "planted-2"]
    assert not {f"planted-{i}" for i in broken} & set(atlas.images)
    expected = [WORDS[attribute] for attribute in model.order[:-1]]
    assert [unit.name for unit in atlas][:-1] == expected


def test_a_failure_never_looks_whole(tmp_path) -> None:
    class Failing(PlantedVisionText):
        def embed_texts(self, texts):
            raise RuntimeError("no words today")

    with pytest.raises(RuntimeError, match="no words"):
        run(vision_text=Failing("failing"), out=tmp_path / "atlas")
    assert not (tmp_path / "atlas" / "manifest.json").exists()
    assert len(run(out=tmp_path / "atlas")) == 19  # the folder is free for another try


def test_output_folders(tmp_path) -> None:
    claimed = output_folder(tmp_path / "claimed", kind="atlas")
    assert len(Atlas.load(run(out=claimed).folder)) == 19
    with pytest.raises(FolderInUseError, match="already holds a run of 'atlas'"):
        run(out=claimed)
    run(out=claimed, concepts=from_words(WORDS[:5], name="few"), options=OVERWRITE)
    assert Atlas.load(claimed).provenance["concepts"]["spec"] == "few"
    bad = DissectOptions(overwrite=True, similarity_keywords={"top_k": 999})
    with pytest.raises(InputError, match="not 999"):
        run(out=claimed, options=bad)
    assert Atlas.load(claimed).provenance["concepts"]["spec"] == "few"  # nothing was lost
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(FolderInUseError, match="not a neuronym run"):
        run(out=tmp_path / "mine", options=OVERWRITE)
    other = output_folder(tmp_path / "model", kind="model")
    with pytest.raises(FolderInUseError, match="a run of 'model'"):
        run(out=other)
    with pytest.raises(InputError, match="matches no module"):
        run(sites="akt", out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("similarity", "draws"),
    [
        ("cosine", {"null_draws": 19}),
        ("soft_wpmi", {"null_draws": 19}),
        ("wpmi", {"null_draws": 19}),
        ("cosine", {"permutations": 19}),
        ("auroc", {"permutations": 19}),
    ],
)
def test_p_values_are_small_for_planted_units_and_seeded(similarity, draws) -> None:
    options = DissectOptions(seed=3, **draws)
    atlas = run(similarity=similarity, options=options)
    again = run(similarity=similarity, options=options)
    assert [unit.p_value for unit in atlas] == [unit.p_value for unit in again]
    assert all(unit.p_value == pytest.approx(1 / 20) for unit in atlas.units[:-1])
    assert all(unit.q_value == pytest.approx(1 / 20) for unit in atlas.units[:-1])
    assert (atlas.units[-1].p_value, atlas.units[-1].unnamed) == (None, "constant")


def test_without_a_level_nothing_is_tested() -> None:
    untested = run(similarity="cosine", options=DissectOptions(significance=None))
    assert all((unit.p_value, unit.q_value) == (None, None) for unit in untested)
    assert all(unit.p_value is None for unit in run(similarity="auroc"))


def test_p_values_of_noise_are_not_small() -> None:
    class Noise(nn.Module):
        """Sixty units that hash the image: they fire at random and mean nothing."""

        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            self.mix = nn.Linear(192, 60)
            with torch.no_grad():
                self.mix.weight.copy_(1e4 * torch.randn(60, 192, generator=generator))

        def forward(self, x):
            return torch.sin(self.mix(x.flatten(1)))

    model = nn.Sequential(Noise())
    options = DissectOptions(permutations=39, seed=1, channel_dims={"0": 1})
    atlas = run(loaded(model), sites="0", similarity="cosine", options=options)
    values = np.array([unit.p_value for unit in atlas])
    assert 0.35 < values.mean() < 0.65
    assert (values <= 0.05).mean() < 0.15


def test_p_values_by_a_plain_count() -> None:
    from neuronym.similarity import cosine

    model = detectors()
    options = DissectOptions(permutations=5, seed=9, channel_dims={}, significance=None)
    atlas = run(loaded(model), probe_set(60), similarity="cosine", options=options)
    values = torch.tensor(np.round(strengths(60) * 255) / 255, dtype=torch.float32)
    activations = values[:, [max(a, 0) for a in model.order]]
    scores = values - values.mean(0)
    best = cosine(activations, scores).amax(1)
    generator = torch.Generator().manual_seed(9)
    reached = torch.zeros(19)
    for _ in range(5):
        order = torch.randperm(60, generator=generator)
        reached += cosine(activations[order], scores).amax(1) >= best
    expected = ((1 + reached) / 6).tolist()
    assert [unit.p_value for unit in atlas][:-1] == pytest.approx(expected[:-1])


def test_labels_of_the_data_set_judge_auroc() -> None:
    probes = probe_set(labels=True)
    model = detectors()
    atlas = run(loaded(model), probes, similarity="auroc")
    assert atlas.provenance["similarity"]["concepts_with_labels"] == ATTRIBUTES
    labels = np.asarray(probes.labels)
    values = torch.tensor(np.round(strengths(240) * 255) / 255)
    present = torch.tensor(labels[:, None] == np.arange(ATTRIBUTES))
    matrix = SIMILARITIES["auroc"](values, torch.zeros(240, ATTRIBUTES), labels=present)
    for unit, attribute in zip(atlas, model.order[:-1], strict=False):
        assert unit.score == pytest.approx(float(matrix[attribute].max()), abs=1e-5)


@pytest.mark.parametrize(
    ("similarity", "unit_norm", "other"),
    [("soft_wpmi", 3.0, 1.5), ("wpmi", 0.6, 0.6), ("jensen_shannon", 4.5, 4.5)],
)
def test_scale_follows_the_logit_scale(similarity, unit_norm, other) -> None:
    class Wide(PlantedVisionText):
        logit_scale = 30.0

    class Long(Wide):
        def embed_texts(self, texts):
            return super().embed_texts(texts) * 1.5

    def keywords(model, **given):
        options = DissectOptions(similarity_keywords=given)
        facts = run(vision_text=model, similarity=similarity, options=options).provenance
        return facts["similarity"]["keywords"]

    assert keywords(Wide("wide"))["scale"] == pytest.approx(unit_norm)
    assert keywords(Long("long"))["scale"] == pytest.approx(other)
    assert keywords(Long("long"), scale=7.0)["scale"] == 7.0


def test_recording_and_embeddings_are_reused_by_content(tmp_path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    probes, vision_text = probe_set(), PlantedVisionText()
    read = []
    image = probes.image
    probes.image = lambda index: (read.append(index), image(index))[1]
    first = run(loaded(spec=str(folder)), probes, vision_text=vision_text)
    assert len(read) == 240 + 2  # a sample of two finds the sites
    again = run(loaded(spec=str(folder)), probes, vision_text=vision_text, similarity="cosine")
    assert (vision_text.images, vision_text.texts) == (240, ATTRIBUTES)
    assert len(read) == 240 + 4
    assert [u.name for u in again] == [u.name for u in first]
    changed = detectors(seed=5)
    other = run(loaded(changed, spec=str(folder)), probes, vision_text=vision_text)
    assert vision_text.images == 240  # the same images, another model: embeddings are read
    assert [u.name for u in other][:-1] == [WORDS[a] for a in changed.order[:-1]]


def test_a_run_from_the_cache_says_where_the_model_is_now(tmp_path) -> None:
    options = DissectOptions(cache=tmp_path / "own")
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        atlas = run(loaded(spec=str(tmp_path / name)), options=options)
        assert atlas.provenance["model"]["spec"] == str(tmp_path / name)
    assert len(list((tmp_path / "own" / "runs").iterdir())) == 1


def test_a_cache_that_another_process_writes_is_no_obstacle(tmp_path) -> None:
    fcntl = pytest.importorskip("fcntl")
    folder, cache = tmp_path / "model", tmp_path / "own"
    folder.mkdir()
    options = DissectOptions(cache=cache)
    first = run(loaded(spec=str(folder)), options=options)
    [kept] = (cache / "runs").iterdir()
    (kept / "manifest.json").unlink()  # as if it were being recorded
    with (kept / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        again = run(loaded(spec=str(folder)), options=options)
    assert [unit.name for unit in again] == [unit.name for unit in first]
    assert not (kept / "manifest.json").exists()


def test_code_without_a_fingerprint_is_recorded_anew() -> None:
    probes = probe_set()
    read = []
    image = probes.image
    probes.image = lambda index: (read.append(index), image(index))[1]
    run(probes=probes)
    run(probes=probes)
    assert len(read) > 480


def test_caches_can_be_off(tmp_path, monkeypatch) -> None:
    run(options=DissectOptions(cache=False))
    monkeypatch.setenv("NEURONYM_NO_CACHE", "1")
    run()
    assert not (tmp_path / "cache").exists()
    run(options=DissectOptions(cache=tmp_path / "own"))
    assert (tmp_path / "own" / "embedded").is_dir()
    assert (tmp_path / "own" / "runs").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write into cache"):
        run(options=DissectOptions(cache=tmp_path / "file"))
    monkeypatch.delenv("NEURONYM_NO_CACHE")
    monkeypatch.setenv("NEURONYM_CACHE", str(tmp_path / "file"))
    assert len(run()) == 19


def test_a_plain_module_needs_a_transform() -> None:
    model = detectors()
    options = DissectOptions(transform=transform)
    atlas = run(model, options=options)
    assert atlas.units[0].name == WORDS[model.order[0]]
    assert atlas.provenance["model"]["spec"] == "Detectors"
    with pytest.raises(InputError, match=r"needs DissectOptions\(transform=\.\.\.\)"):
        run(model)
    with pytest.raises(InputError, match="has its own transform"):
        run(options=options)
    with pytest.raises(InputError, match="not str"):
        run("timm:resnet18")


def test_model_is_as_before() -> None:
    model = detectors()
    model.train()
    run(model, options=DissectOptions(transform=transform, device="cpu"))
    assert model.training
    assert all(not part._forward_hooks for part in model.modules())


def test_record_sites_repeats_the_atlas_on_other_images() -> None:
    model = loaded(Competitive())
    atlas = run(model, sites="act, pool.0", options=DissectOptions(pooling={"pool*": "max"}))
    other = probe_set(30, seed=4)
    found = record_sites(model, other, atlas.sites)
    assert list(found) == ["act", "pool.0"]
    inputs = torch.stack([transform(other.image(i)) for i in range(30)])
    with torch.no_grad():
        expected = model.module.act(model.module.mix(inputs))
    np.testing.assert_allclose(found["act"], expected.mean((2, 3)).numpy(), atol=1e-6)
    with pytest.raises(InputError, match="matches no module"):
        record_sites(loaded(), other, atlas.sites)
    wider = nn.Sequential(nn.Flatten(), nn.Linear(192, 7))
    wider.add_module("act", nn.ReLU())
    with pytest.raises(InputError, match="7 units in this model and 4 in the atlas"):
        record_sites(loaded(wider), other, atlas.sites[:1])


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"similarity": "softwpmi"}, UnknownNameError, "Did you mean 'soft_wpmi'"),
        (
            {"options": DissectOptions(similarity_keywords={"lam": 1})},
            InputError,
            "takes no keyword 'lam'",
        ),
        (
            {"options": DissectOptions(similarity_keywords={"top_k": 999})},
            InputError,
            "whole number from 1 to 240, not 999",
        ),
        ({"sites": "acct"}, InputError, "nearest: act"),
        ({"options": DissectOptions(pooling="avg")}, UnknownNameError, "unknown pooling 'avg'"),
        (
            {"options": DissectOptions(device="gpu9")},
            InputError,
            "unknown device 'gpu9'; use 'cpu'",
        ),
        ({"probes": WithBroken(probe_set(4), [0, 1, 3])}, InputError, "fewer than 2 readable"),
        ({"probes": WithBroken(probe_set(2), [0, 1])}, InputError, "fewer than 2 readable images"),
    ],
)
def test_bad_input(changes, error, text) -> None:
    with pytest.raises(error, match=text):
        run(**changes)


@pytest.mark.parametrize(
    ("field", "value"),
    [("permutations", -1), ("top_images", 0), ("thumbnail_pixels", 8), ("batch_size", 2.5)],
)
def test_options_outside_their_range(field, value) -> None:
    with pytest.raises(InputError, match=f"{field} must be a whole number of at least"):
        DissectOptions(**{field: value})


def test_progress_names_its_stages(tmp_path) -> None:
    seen: dict[str, tuple[int, int]] = {}
    options = DissectOptions(
        permutations=2,
        significance=None,
        progress=lambda done, total, note: seen.update({note: (done, total)}),
    )
    run(similarity="cosine", options=options, out=tmp_path / "atlas")
    assert seen["recording"] == (240, 240)
    assert seen["concepts"] == (16, 16)
    assert seen["naming"] == (1, 1)
    assert seen["permutations"] == (2, 2)
    assert seen["thumbnails"][0] == seen["thumbnails"][1] > 0


def test_cell_size_is_what_the_detectors_pool() -> None:
    assert probe_set(2).image(0).size == (4 * CELL, 4 * CELL)


def noisy(seed: int = 0) -> Detectors:
    """Detectors of every attribute, and 14 units that read the parity of the pixels' bits."""
    model = detectors(seed)
    model.act = nn.Sequential(nn.ReLU(), _Parity())
    return model


class _Parity(nn.Module):
    """Appends units whose values are a hash of the image: they mean nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        key = (x * 255).round() @ torch.arange(1.0, x.shape[1] + 1) ** 2
        waves = torch.sin(key[:, None] * torch.arange(11.0, 25.0) * 0.7)
        return torch.cat([x, 1 + waves], 1)


@pytest.mark.parametrize("similarity", ["cosine", "soft_wpmi"])
def test_units_that_mean_nothing_stay_unnamed(similarity) -> None:
    model = noisy()
    model.head = nn.Identity()
    atlas = run(loaded(model), sites="act.1", similarity=similarity)
    planted, noise = atlas.units[:18], atlas.units[19:]
    assert [unit.name for unit in planted] == [WORDS[a] for a in model.order[:-1]]
    assert all(unit.q_value <= 0.05 and unit.unnamed is None for unit in planted)
    assert (atlas.units[18].unnamed, atlas.units[18].q_value) == ("constant", None)
    assert len(noise) == 14
    assert sum(unit.name is None for unit in noise) >= 13
    unnamed = next(unit for unit in noise if unit.name is None)
    assert (unnamed.unnamed, unnamed.score) == ("not significant", None)
    assert unnamed.q_value > 0.05
    everyone = run(
        loaded(model),
        sites="act.1",
        similarity=similarity,
        options=DissectOptions(significance=None),
    )
    before = everyone.units[unnamed.unit]
    assert (before.name, *before.runner_up_names) == unnamed.runner_up_names
    assert before.score == unnamed.runner_up_scores[0]
    assert (before.p_value, before.q_value) == (None, None)


def test_linear_explanations_and_formulas_are_saved(tmp_path) -> None:
    model = detectors()
    with torch.no_grad():  # unit 0: a sum of two attributes; unit 1: either of two
        first, second, third = 2, 5, 9
        model.detect.weight[:2] = 0
        model.detect.weight[0, [first, second]] = torch.tensor([1.0, 0.7])
        model.detect.weight[1, [first, third]] = 1.0
    options = DissectOptions(linear=3, compose=2)
    atlas = run(
        loaded(model), probe_set(900), similarity="cosine", options=options, out=tmp_path / "atlas"
    )
    assert Atlas.load(tmp_path / "atlas") == atlas
    both, either = atlas.units[:2]
    assert both.linear.concepts == (WORDS[first], WORDS[second])
    assert both.linear.correlation > 0.98 > both.linear.single_correlation
    assert both.linear.single == WORDS[first]
    assert both.linear.weights[0] > both.linear.weights[1] > 0
    assert either.formula.text == f"{WORDS[first]} OR {WORDS[third]}"
    assert either.formula.auroc > either.formula.single_auroc
    assert atlas.units[18].linear is atlas.units[18].formula is None
    assert (atlas.provenance["linear"], atlas.provenance["compose"]) == (3, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"significance": 1.0}, "significance must be above 0 and below 1, or None, not 1.0"),
        ({"significance": True}, "significance must be above 0 and below 1, or None, not True"),
        ({"compose": 4}, "compose must be at most 3, not 4"),
        ({"linear": -1}, "linear must be a whole number of at least 0, not -1"),
        ({"null_draws": 0}, "null_draws must be a whole number of at least 1, not 0"),
        ({"permutations": 10}, "no name could be significant at 0.05; give at least 19"),
        ({"null_draws": 98, "significance": 0.01}, "give at least 99"),
        ({"fdr": "holm"}, "unknown method of false-discovery control 'holm'; known: bh, by"),
    ],
)
def test_bad_choices_of_significance_and_longer_names(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        DissectOptions(**changes)
