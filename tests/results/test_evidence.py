"""Evidence gives the literal correlations, comes back as it was, and says what is damaged."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from neuronym.errors import InputError, MissingError, UnreadableError
from neuronym.results import Atlas, Evidence, SiteEvidence
from reference import search as literal

IMAGES, UNITS, DIM = 211, 7, 5


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Activations and embeddings; unit 5 is constant, unit 6 fires once."""
    rng = np.random.default_rng(seed)
    embeddings = (rng.standard_normal((IMAGES, DIM)) + 3).astype(np.float32)
    activations = rng.standard_normal((IMAGES, UNITS)).astype(np.float32)
    activations[:, 0] += 2 * embeddings[:, 1]
    activations[:, 1:3] = np.maximum(activations[:, 1:3], 0)
    activations[:, 5] = 0.1
    activations[:, 6] = np.arange(IMAGES) == 17
    return activations, embeddings


def of(activations: np.ndarray, embeddings: np.ndarray, words: int = 9, **kept: int) -> Evidence:
    """Evidence straight from its definition."""
    q, images = activations.astype(np.float64), embeddings.astype(np.float64)
    ordered = np.sort(activations, axis=0).T
    largest, smallest = kept.get("largest", 20), kept.get("smallest", 10)
    background = np.random.default_rng(3).standard_normal((words, embeddings.shape[1]))
    site = SiteEvidence(
        cross=((q - q.mean(0)).T @ (images - images.mean(0))).astype(np.float32),
        sums=q.sum(0),
        squares=(q**2).sum(0),
        largest=np.ascontiguousarray(ordered[:, ::-1][:, :largest]),
        smallest=np.ascontiguousarray(ordered[:, :smallest]),
    )
    return Evidence(
        count=len(q),
        sums=images.sum(0),
        products=images.T @ images,
        sample=embeddings[:100],
        words=tuple(f"word {index}" for index in range(words)),
        background=background.astype(np.float32),
        sites={"act": site},
    )


def test_correlations_are_the_literal_ones() -> None:
    activations, embeddings = planted()
    texts = np.concatenate([np.eye(DIM), np.zeros((1, DIM))])
    found = of(activations, embeddings).correlations("act", texts)
    expected = literal.correlations(activations, embeddings, texts)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert found[0, 1] > 0.8
    assert (found[5] == 0).all()
    assert (found[:, -1] == 0).all()


def test_mean_and_deviation_are_those_of_the_activations() -> None:
    activations, embeddings = planted()
    evidence = of(activations, embeddings)
    np.testing.assert_allclose(evidence.mean("act"), activations.mean(0, dtype=float), rtol=1e-12)
    expected = activations.astype(float).std(0)
    expected[5] = 0
    np.testing.assert_allclose(evidence.deviation("act"), expected, rtol=1e-9)
    assert evidence.deviation("act")[5] == 0


def test_it_comes_back_as_it_was(tmp_path) -> None:
    evidence = of(*planted())
    atlas = Atlas((), (), {}, {"seed": 1}, held=evidence).save(tmp_path / "atlas")
    assert atlas.evidence is evidence
    loaded = Atlas.load(tmp_path / "atlas").evidence
    assert loaded is not None
    assert (loaded.count, loaded.words, list(loaded.sites)) == (IMAGES, evidence.words, ["act"])
    for name in ("sums", "products"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(evidence, name))
    for name in ("sample", "background"):
        np.testing.assert_allclose(getattr(loaded, name), getattr(evidence, name), rtol=5e-4)
        assert getattr(loaded, name).dtype == np.float32
    for name in ("cross", "sums", "squares", "largest", "smallest"):
        array = getattr(evidence.sites["act"], name)
        np.testing.assert_array_equal(getattr(loaded.sites["act"], name), array)
        assert getattr(loaded.sites["act"], name).dtype == array.dtype
    assert loaded.nbytes == evidence.nbytes > 0
    again = Atlas.load(tmp_path / "atlas")
    again.save(tmp_path / "atlas")  # in place
    assert Atlas.load(tmp_path / "atlas").evidence is not None


def test_an_atlas_without_evidence_has_none(tmp_path) -> None:
    Atlas((), (), {}, {}).save(tmp_path / "atlas")
    assert Atlas.load(tmp_path / "atlas").evidence is None
    manifest = json.loads((tmp_path / "atlas" / "manifest.json").read_text())
    del manifest["evidence"]  # as written before evidence was kept
    (tmp_path / "atlas" / "manifest.json").write_text(json.dumps(manifest))
    assert Atlas.load(tmp_path / "atlas").evidence is None


@pytest.mark.parametrize("name", ["images.safetensors", "site-0000.safetensors", "words.json"])
def test_damage_is_named(tmp_path, name: str) -> None:
    Atlas((), (), {}, {}, held=of(*planted())).save(tmp_path / "atlas")
    path = tmp_path / "atlas" / "evidence" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UnreadableError, match=rf"{name}.*damaged"):
        _ = Atlas.load(tmp_path / "atlas").evidence
    path.unlink()
    with pytest.raises(MissingError, match=name):
        _ = Atlas.load(tmp_path / "atlas").evidence


def test_a_list_that_is_not_whole_is_refused(tmp_path) -> None:
    listed = of(*planted()).save(tmp_path)
    with pytest.raises(UnreadableError, match="schema 2"):
        Evidence.load(tmp_path, {**listed, "schema": 2})
    with pytest.raises(UnreadableError, match=r"words.json' cannot be read"):
        Evidence.load(tmp_path, {**listed, "sites": {"act": "words.json"}})
    with pytest.raises(UnreadableError, match=r"images.safetensors' lacks cross"):
        Evidence.load(tmp_path, {**listed, "sites": {"act": "images.safetensors"}})
    with pytest.raises(UnreadableError, match=r"not whole evidence: .* not None"):
        Evidence.load(tmp_path, {**listed, "images": None})
    del listed["files"]
    with pytest.raises(UnreadableError, match=r"not whole evidence.*files"):
        Evidence.load(tmp_path, listed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 1}, "at least 2 images, not 1"),
        ({"sums": np.full(DIM, np.nan)}, "sums of the evidence hold NaN"),
        ({"sample": np.zeros((3, 2), np.float32)}, r"sample .* \(3, 5\), not .* \(3, 2\)"),
        ({"products": np.zeros((DIM, DIM), np.float32)}, "products .* float64"),
        ({"words": ("one",)}, r"background .* \(1, 5\)"),
    ],
)
def test_arrays_that_do_not_fit(changes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(of(*planted()), **changes)


def test_sites_that_do_not_fit() -> None:
    evidence = of(*planted())
    site = evidence.sites["act"]
    with pytest.raises(InputError, match="cross of the evidence must be float32"):
        replace(site, cross=site.cross.astype(np.float64))
    with pytest.raises(InputError, match="largest of the evidence hold NaN or infinity"):
        replace(site, largest=np.full((UNITS, 2), np.inf, np.float32))
    narrow = replace(site, cross=np.zeros((UNITS, 2), np.float32))
    with pytest.raises(InputError, match="site 'act' is of embeddings of length 2"):
        replace(evidence, sites={"act": narrow})
    with pytest.raises(InputError, match="no site 'atc'; nearest: act"):
        evidence.site("atc")
    with pytest.raises(InputError, match=r"shape \(texts, 5\), not \(1, 4\)"):
        evidence.correlations("act", np.zeros((1, 4)))
