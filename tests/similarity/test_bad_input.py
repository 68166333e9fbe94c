"""What the similarities refuse, and what they say."""

from __future__ import annotations

import pytest
import torch

from neuronym.errors import InputError, UnknownNameError
from neuronym.similarity import SIMILARITIES, checked_keywords, keywords_of, resolve

GOOD = torch.rand(30, 3, generator=torch.Generator().manual_seed(0))


def with_nan(value: float) -> torch.Tensor:
    bad = GOOD.clone()
    bad[4, 1] = value
    return bad


@pytest.mark.parametrize("name", list(SIMILARITIES))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_is_refused(name, value) -> None:
    with pytest.raises(InputError, match=r"activations hold 1 values .* image 4 in column 1"):
        SIMILARITIES[name](with_nan(value), GOOD)
    with pytest.raises(InputError, match=r"concept_scores hold 1 values .* NaN or infinite"):
        SIMILARITIES[name](GOOD, with_nan(value))


@pytest.mark.parametrize("name", list(SIMILARITIES))
@pytest.mark.parametrize(
    ("activations", "scores", "text"),
    [
        (GOOD, GOOD[:29], "activations are of 30 images and concept_scores of 29"),
        (GOOD[:, 0], GOOD, r"activations must be \(images, units\), not of shape \(30,\)"),
        (GOOD, GOOD[None], r"concept_scores must be \(images, concepts\)"),
        (GOOD[:, :0], GOOD, "too few"),
        (GOOD[:1], GOOD[:1], "at least 2 images"),
        (GOOD.numpy(), GOOD, "must be a torch tensor, not ndarray"),
        (GOOD.to(torch.complex64), GOOD, "must be real numbers"),
    ],
)
def test_matrices_that_do_not_fit(name, activations, scores, text) -> None:
    with pytest.raises(InputError, match=text):
        SIMILARITIES[name](activations, scores)


@pytest.mark.parametrize(
    ("name", "keywords", "text"),
    [
        (
            "soft_wpmi",
            {"top_k": 31},
            "a whole number from 1 to the 30 images, not 31",
        ),
        ("soft_wpmi", {"top_k": 0}, "not 0"),
        ("soft_wpmi", {"top_k": 2.5}, "not 2.5"),
        ("wpmi", {"top_k": 31}, "from 1 to the 30 images"),
        ("wpmi", {"scale": 0}, "scale must be a finite number above 0, not 0"),
        ("wpmi", {"prior_weight": -1}, "prior_weight must be a finite number of at least 0"),
        ("soft_wpmi", {"scale": float("nan")}, "scale must be"),
        ("soft_wpmi", {"membership": (0.9, 1.2)}, "two probabilities above 0 and at most 1"),
        ("soft_wpmi", {"membership": 0.9}, "two probabilities"),
        ("jensen_shannon", {"scale": -3.0}, "scale must be"),
        ("rank_reorder", {"top_fraction": 1.5}, "top_fraction must be above 0 and at most 1"),
        ("rank_reorder", {"power": 0}, "power must be"),
        ("auroc", {"min_images": 31}, "min_images must be a whole number from 1 to the 30"),
        ("auroc", {"min_images": 30}, "needs images without the concept: 30 of 30"),
        ("auroc", {"top_fraction": 1.0}, "needs images without the concept"),
        ("auroc", {"labels": GOOD}, "labels must be a tensor of bool, not torch.float32"),
        ("auroc", {"labels": GOOD[:, :2] > 0}, r"labels of shape \(30, 2\)"),
    ],
)
def test_keywords_outside_their_range(name, keywords, text) -> None:
    with pytest.raises(InputError, match=text):
        SIMILARITIES[name](GOOD, GOOD, **keywords)


def test_few_images_use_all_of_them_by_default() -> None:
    for name in ("wpmi", "soft_wpmi"):
        found = SIMILARITIES[name](GOOD[:20], GOOD[:20])
        assert torch.equal(found, SIMILARITIES[name](GOOD[:20], GOOD[:20], top_k=20))


def test_unknown_similarity_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown similarity 'softwpmi'.*'soft_wpmi'\?"):
        resolve("softwpmi")


def test_keyword_that_is_not_taken() -> None:
    with pytest.raises(InputError, match=r"'wpmi' takes no keyword 'topk'; it takes top_k, scale"):
        checked_keywords("wpmi", {"topk": 3})
    with pytest.raises(InputError, match="'cosine' takes no keyword 'scale'; it takes none"):
        checked_keywords("cosine", {"scale": 3})
    with pytest.raises(TypeError, match="scale"):
        SIMILARITIES["cosine"](GOOD, GOOD, scale=2.0)
    assert checked_keywords("wpmi", {"top_k": 3}) == {"top_k": 3}
    assert keywords_of("jensen_shannon") == {"scale": 15.0}


def test_integers_and_half_precision_are_taken() -> None:
    for kind in (torch.int64, torch.bool, torch.float16, torch.bfloat16):
        whole = (GOOD * 5).round().to(kind)
        for name, similarity in SIMILARITIES.items():
            assert similarity(whole, GOOD).dtype == torch.float32, name
