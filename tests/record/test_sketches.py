"""Sketches against literal twins, and against themselves over any partition and order."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from neuronym.errors import DivisibilityError, InputError, UnreadableError
from neuronym.record.sketches import ImageMoments, Sample, SiteShape, SiteSketch, Won
from neuronym.record.sketches.histogram import BUCKETS, bucket_of, centres
from reference import sketches as literal

IMAGES, UNITS, DIM, U = 333, 39, 5, 3
SHAPE = SiteShape("site", UNITS, DIM, competitors=U, top=20)
FLOATS = {"products", "sums", "squares"}
Array = npt.NDArray[Any]


@functools.cache
def planted() -> tuple[Array, Array, Array, Array]:
    """Activations, embeddings, keys and candidates; the kinds of units differ."""
    rng = np.random.default_rng(5)
    q = rng.standard_normal((IMAGES, UNITS)).astype(np.float32)
    q[:, 6:12] = np.maximum(q[:, 6:12] - 1, 0)  # about 50 of 333 above zero
    q[:, 12:15] = np.maximum(q[:, 12:15] - 2.2, 0)  # fewer than the top
    q[:, 15] = 0
    q[:, 16] = 2.5
    q[:, 17] = -2.5
    q[:, 18:21] = np.round(q[:, 18:21] * 2) / 2  # ties everywhere, of floats
    q[:, 21] = np.minimum(q[:, 21], 0.5)  # saturated: ties at the cut
    q[:, 22] = -np.abs(q[:, 22])
    q[:, 23] = np.where(rng.random(IMAGES) < 0.5, -0.0, 0.0)
    q[:, 24:27] *= np.float32(2.0) ** rng.integers(-30, 30, (IMAGES, 3)).astype(np.float32)
    q[:, 27] = np.where(rng.random(IMAGES) < 0.1, -1, 3)
    embeddings = rng.standard_normal((IMAGES, DIM)).astype(np.float32)
    keys = rng.permutation(IMAGES).astype(np.int64)
    keys[::7] += 3 * 2**32
    return q, embeddings, keys, rng.random((IMAGES, UNITS)) < 0.4


def sketch_of(images: Array, *, shape: SiteShape = SHAPE, batch: int = 64) -> SiteSketch:
    """The sketch of some of the planted images, in the order of ``images``."""
    q, embeddings, keys, candidates = planted()
    sketch = SiteSketch(shape)
    for start in range(0, len(images), batch):
        at = images[start : start + batch]
        won = None
        if shape.competitors:
            won = Won(candidates[at].sum(0, dtype=np.int64) * 2, candidates[at])
        active, values = int((q[at] > 0).sum()), q[at].size
        sketch.add(q[at], embeddings[at], keys[at], won=won, active=active, values=values)
    return sketch


def sample_of(images: Array, size: int) -> Sample:
    q, embeddings, keys, _ = planted()
    sample = Sample(size, DIM, units={"a": UNITS, "b": 2})
    for start in range(0, len(images), 16):
        at = images[start : start + 16]
        sample.add({"a": q[at], "b": q[at, :2]}, embeddings[at], keys[at])
    return sample


def assert_same(left: dict[str, Array], right: dict[str, Array]) -> None:
    """Bit-equal but for the float64 sums, which agree to 1e-9 of the sum of magnitudes."""
    q, embeddings, _, _ = planted()
    size = np.abs(q.astype(np.float64))
    scale = {
        "products": size.T @ np.abs(embeddings.astype(np.float64)),
        "sums": size.sum(0),
        "squares": (size**2).sum(0),
    }
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype, name
        if name in FLOATS:
            assert (np.abs(value - right[name]) <= 1e-9 * scale[name]).all(), name
        else:
            assert value.tobytes() == right[name].tobytes(), name


@functools.cache
def whole() -> dict[str, Array]:
    return sketch_of(np.arange(IMAGES)).arrays()


# Against the literal twins


def test_moments_are_the_literal_ones() -> None:
    q, embeddings, _, _ = planted()
    assert_same({**whole(), **literal.moments(q, embeddings)}, whole())


def test_counts_are_the_literal_ones() -> None:
    q, _, _, candidates = planted()
    found = whole()
    assert (found["images"][0], found["values"][0]) == (IMAGES, IMAGES * UNITS)
    assert found["active"][0] == (q > 0).sum()
    assert found["minimum"].tolist() == q.min(0).tolist()
    assert found["maximum"].tolist() == q.max(0).tolist()
    assert found["at_minimum"].tolist() == (q == q.min(0)).sum(0).tolist()
    assert found["fired"].tolist() == (q > 0).sum(0).tolist()
    assert found["won"].tolist() == (2 * candidates.sum(0)).tolist()
    assert found["together"].tolist() == literal.together(q, U).tolist()
    assert found["image_winners"].tolist() == literal.image_winners(q, candidates, U).tolist()
    diagonal = np.diagonal(found["together"], axis1=1, axis2=2).reshape(-1)
    assert diagonal.tolist() == found["fired"].tolist()


def test_an_image_winner_may_be_below_zero_and_the_first_of_equals_wins() -> None:
    shape = SiteShape("site", 6, 1, competitors=3)
    q = np.array([[0, -1, -2, 4, 4, 0], [0, 0, 0, 9, 1, 1]], np.float32)
    candidates = np.array([[0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]], bool)
    sketch = SiteSketch(shape)
    won = Won(np.ones(6, np.int64), candidates)
    sketch.add(q, np.ones((2, 1), np.float32), np.arange(2), won=won)
    assert sketch.image_winners is not None
    assert sketch.image_winners.tolist() == [0, 1, 0, 1, 1, 0]


def test_histograms_are_the_literal_ones() -> None:
    q, _, _, _ = planted()
    for unit in range(UNITS):
        assert whole()["histogram"][unit].tolist() == literal.histogram(q[:, unit]).tolist()


def test_buckets_at_their_edges() -> None:
    edges = np.float32(2.0) ** np.arange(-22, 23, dtype=np.float32)
    around = np.concatenate(
        [edges, np.nextafter(edges, 0), np.nextafter(edges, np.inf), edges * 1.125]
    )
    tiny = np.array([0.0, -0.0, 1e-45, 3e38], np.float32)
    values = np.sort(np.concatenate([around, -around, tiny, -tiny]))
    found = bucket_of(values)
    assert found.tolist() == [literal.bucket(value) for value in values.tolist()]
    assert (np.diff(found) >= 0).all()
    assert (found[0], found[-1]) == (0, BUCKETS - 1)
    assert (np.diff(centres()) > 0).all()
    assert bucket_of(centres().astype(np.float32)).tolist() == list(range(BUCKETS))


@pytest.mark.parametrize("p", [0, 0.001, 0.05, 0.5, 0.77, 0.999, 1])
def test_quantiles_are_within_their_error(p: float) -> None:
    q, _, _, _ = planted()
    exact = np.quantile(q.astype(np.float64), p, axis=0, method="inverted_cdf")
    found = sketch_of(np.arange(IMAGES)).quantile(p)
    size, off = np.abs(exact), np.abs(found - exact)
    inside = (size >= 2**-20) & (size < 2**20)
    assert (off <= size / 16)[inside].all()
    assert (off <= 2**-19)[size < 2**-20].all()
    assert inside.any()
    if p in (0, 1):
        assert found.tolist() == exact.tolist()


@pytest.mark.parametrize("top", [1, 20, 332, 333, 500])
def test_top_images_are_the_literal_ones(top: int) -> None:
    q, _, keys, _ = planted()
    found, values = sketch_of(np.arange(IMAGES), shape=replace(SHAPE, top=top)).top()
    for unit in range(UNITS):
        expected = literal.top(q[:, unit], keys)[: top + 1]
        kept = len(expected)
        assert (
            list(zip(values[unit, :kept].tolist(), found[unit].tolist(), strict=False)) == expected
        )
        assert (found[unit, kept:] == -1).all()
        assert (values[unit, kept:] == -np.inf).all()


@pytest.mark.parametrize(("top", "top_k"), [(20, 20), (20, 7), (332, 332), (400, 333), (1, 1)])
def test_the_images_that_count_are_the_literal_ones(top: int, top_k: int) -> None:
    q, _, keys, _ = planted()
    found = sketch_of(np.arange(IMAGES), shape=replace(SHAPE, top=top)).counted(top_k)
    assert found.keys.shape == found.values.shape == (UNITS, top_k)
    for unit in range(UNITS):
        used = found.keys[unit, : found.counts[unit]].tolist()
        assert used == literal.counted(q[:, unit], keys, top_k), unit
    value_of = {int(key): row for key, row in zip(keys, q, strict=True)}
    assert found.values[4].tolist() == [value_of[key][4] for key in found.keys[4].tolist()]


def test_images_that_tie_count_as_the_rule_says() -> None:
    counts = sketch_of(np.arange(IMAGES)).counted(20).counts
    q, _, _, _ = planted()
    assert counts[[15, 16, 17, 23]].tolist() == [0, 0, 0, 0]  # constant
    assert counts[12:15].tolist() == (q[:, 12:15] > 0).sum(0).tolist()  # sparse: below 20
    assert counts[[21, 27]].tolist() == [20, 20]  # saturated


def test_moments_of_images_are_the_literal_ones() -> None:
    _, embeddings, keys, _ = planted()
    expected = literal.image_moments(embeddings)
    parts = [ImageMoments(DIM) for _ in range(3)]
    for number, part in enumerate(parts):
        part.add(embeddings[number::3], keys[number::3])
    parts[0].add(embeddings[:0], keys[:0])
    merged = parts[2].merge(parts[0]).merge(parts[1])
    again = ImageMoments.from_arrays(DIM, merged.arrays())
    for found in (merged, again):
        assert found.images == IMAGES
        np.testing.assert_allclose(found.sums, expected["sums"], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.products, expected["products"], rtol=1e-9, atol=1e-9)


def test_every_exact_cosine_follows_from_the_moments() -> None:
    q, embeddings, keys, _ = planted()
    texts = np.random.default_rng(1).standard_normal((DIM, 7))
    images = ImageMoments(DIM)
    images.add(embeddings, keys)
    site = sketch_of(np.arange(IMAGES))
    live = site.squares > 0
    norms = np.sqrt(((images.products @ texts) * texts).sum(0))
    found = (site.products @ texts)[live] / np.sqrt(site.squares[live])[:, None] / norms
    wide, scores = q.astype(np.float64)[:, live], embeddings.astype(np.float64) @ texts
    expected = (wide.T @ scores) / np.linalg.norm(wide, axis=0)[:, None]
    np.testing.assert_allclose(found, expected / np.linalg.norm(scores, axis=0), atol=1e-12)


# Any partition, any order


def splits(parts: int) -> list[Array]:
    """The images in another order, cut in unequal parts."""
    rng = np.random.default_rng(parts)
    cuts = np.sort(rng.choice(np.arange(1, IMAGES), parts - 1, replace=False))
    return np.split(rng.permutation(IMAGES), cuts)


def chain(parts: list[Any]) -> Any:
    return functools.reduce(lambda left, right: left.merge(right), parts)


def backwards(parts: list[Any]) -> Any:
    return functools.reduce(lambda left, right: right.merge(left), parts[::-1])


def tree(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return tree(parts[middle:]).merge(tree(parts[:middle]))


@pytest.mark.parametrize("fold", [chain, backwards, tree])
@pytest.mark.parametrize("parts", [1, 2, 4, 7])
def test_any_partition_and_order_gives_the_same(
    parts: int, fold: Callable[[list[Any]], Any]
) -> None:
    pieces = splits(parts)
    sketches = [sketch_of(piece, batch=40 * (n + 1)) for n, piece in enumerate(pieces)]
    before = [sketch.arrays() for sketch in sketches]
    merged = fold(sketches)
    assert_same(merged.arrays(), whole())
    if parts > 1:  # merging left its parts as they were
        for old, sketch in zip(before, sketches, strict=True):
            assert all((old[name] == new).all() for name, new in sketch.arrays().items())
    for size in (1, 50, IMAGES, 1000):
        found = fold([sample_of(piece, size) for piece in pieces]).arrays()
        expected = sample_of(np.arange(IMAGES), size).arrays()
        assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)


def test_a_read_sketch_goes_on_where_it_was() -> None:
    middle = sketch_of(np.arange(150))
    again = SiteSketch.from_arrays(SHAPE, middle.arrays())
    assert again.arrays()["top_keys"].tolist() == middle.arrays()["top_keys"].tolist()
    assert_same(again.merge(sketch_of(np.arange(150, IMAGES))).arrays(), whole())


def test_batches_of_any_size_give_the_same() -> None:
    for batch in (1, 7, IMAGES):
        assert_same(sketch_of(np.arange(IMAGES), batch=batch).arrays(), whole())


def test_threads_give_the_same() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = sketch_of(np.arange(IMAGES)).arrays()
    finally:
        torch.set_num_threads(threads)
    assert_same(found, whole())


def test_a_batch_without_images_changes_nothing() -> None:
    sketch = sketch_of(np.arange(50))
    before = sketch.arrays()
    none = np.empty(0, np.int64)
    won = Won(np.full(UNITS, 9), np.empty((0, UNITS), bool))
    empty = np.empty((0, UNITS), np.float32), np.empty((0, DIM), np.float32)
    sketch.add(*empty, none, won=won, active=3, values=4)
    assert all((before[name] == new).all() for name, new in sketch.arrays().items())
    fresh = SiteSketch(SHAPE)
    assert_same(fresh.merge(sketch_of(np.arange(IMAGES))).arrays(), whole())


def test_one_image() -> None:
    sketch = sketch_of(np.array([9]))
    q, _, keys, _ = planted()
    assert sketch.counted(1).keys.tolist() == [[int(keys[9])]] * UNITS
    assert sketch.counted(1).counts.tolist() == [1] * UNITS
    assert sketch.quantile(0.3).tolist() == q[9].tolist()


def test_wider_and_narrower_numbers_count_as_float32() -> None:
    q, embeddings, keys, _ = planted()
    shape = replace(SHAPE, competitors=None)
    expected, found = SiteSketch(shape), SiteSketch(shape)
    expected.add(q, embeddings, keys)
    found.add(q.astype(np.float64)[:, ::-1][:, ::-1], embeddings.astype(np.float64), keys)
    assert all((found.arrays()[name] == new).all() for name, new in expected.arrays().items())
    half = SiteSketch(replace(shape, units=3))
    half.add(q[:, :3].astype(np.float16), embeddings, keys)
    assert half.maximum.tolist() == q[:, :3].astype(np.float16).max(0).tolist()


# The sample


def test_the_sample_is_that_of_the_lowest_priorities() -> None:
    q, embeddings, keys, _ = planted()
    order = [i for _, i in sorted((int(p), i) for i, p in enumerate(literal.priority(keys)))][:50]
    sample = sample_of(np.arange(IMAGES), 50)
    assert len(sample) == 50
    found = Sample.from_arrays(50, DIM, units={"a": UNITS, "b": 2}, arrays=sample.arrays()).arrays()
    assert found["keys"].tolist() == keys[order].tolist()
    assert (found["embeddings"] == embeddings[order]).all()
    assert (found["activations/a"] == q[order]).all()
    assert (found["activations/b"] == q[order, :2]).all()
    assert len(sample_of(np.arange(30), 50)) == 30


# Bad input


def good(images: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "activations": rng.standard_normal((images, UNITS)).astype(np.float32),
        "embeddings": rng.standard_normal((images, DIM)).astype(np.float32),
        "keys": np.arange(10, 10 + images),
        "won": Won(np.ones(UNITS, np.int64), np.ones((images, UNITS), bool)),
    }


def with_value(name: str, at: tuple[int, int], value: float) -> dict[str, Any]:
    batch = good()
    batch[name][at] = value
    return batch


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            with_value("activations", (2, 3), np.nan),
            "site 'site': 1 of 39 units have NaN or infinite activations, first on image 12",
        ),
        (with_value("activations", (1, 3), -np.inf), "first on image 11; leave that image out"),
        (
            {**good(), "activations": good()["activations"].astype(np.float64) * 1e200},
            "39 of 39 units have NaN or infinite activations, first on image 10",
        ),
        (
            with_value("embeddings", (3, 0), np.inf),
            "embeddings of 1 images are NaN or infinite, the first of image 13",
        ),
        (
            {**good(), "activations": good()["activations"][:, :5]},
            r"activations of site 'site' must be floating numbers of shape \(images, 39 units\)",
        ),
        ({**good(), "embeddings": good()["embeddings"].astype(int)}, "not int64 of shape"),
        ({**good(), "keys": np.arange(3)}, r"keys must be int64 of shape \(4,\)"),
        ({**good(), "keys": np.zeros(4, np.int32)}, "not int32 of shape"),
        ({**good(), "keys": np.arange(4) - 2}, "keys must not be negative, as -2 is"),
        ({**good(), "embeddings": good()["embeddings"][:3]}, "4 images have activations and 3"),
        ({**good(), "won": None}, "site 'site' needs who won"),
        (
            {**good(), "won": Won(np.ones(UNITS), np.ones((4, UNITS), bool))},
            r"positions won must be int64 of shape \(39,\), not float64",
        ),
        ({**good(), "won": good(3)["won"]}, r"candidates won must be bool of shape \(4, 39\)"),
    ],
)
def test_a_bad_batch_is_refused_and_changes_nothing(batch: dict[str, Any], message: str) -> None:
    sketch = sketch_of(np.arange(20))
    before = sketch.arrays()
    with pytest.raises(InputError, match=message):
        sketch.add(**batch)
    assert all((before[name] == new).all() for name, new in sketch.arrays().items())


def test_a_dense_site_has_no_winners() -> None:
    sketch = SiteSketch(replace(SHAPE, competitors=None))
    with pytest.raises(InputError, match="site 'site' is dense"):
        sketch.add(**good())
    assert not {"won", "image_winners", "together"} & set(sketch.arrays())


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="units of site 's' must be at least 1, not 0"):
        SiteShape("s", 0, 3)
    with pytest.raises(DivisibilityError, match="4 competitors do not divide the 10 units"):
        SiteShape("s", 10, 3, competitors=4)
    with pytest.raises(InputError, match="embeddings need at least 1 dimension, not 0"):
        ImageMoments(0)
    with pytest.raises(InputError, match="'size' of a sample must be at least 1, not 0"):
        Sample(0, 3, units={"a": 1})
    with pytest.raises(InputError, match="at least one site"):
        Sample(3, 3, units={})


@pytest.mark.parametrize("top_k", [0, 21, 2.0, True])
def test_top_k_has_its_range(top_k: Any) -> None:
    with pytest.raises(InputError, match=r"whole number from 1 to 20.* top 20 of 333 images"):
        sketch_of(np.arange(IMAGES)).counted(top_k)
    with pytest.raises(InputError, match="whole number from 1 to 5"):
        sketch_of(np.arange(5)).counted(6)


def test_quantiles_have_their_range() -> None:
    with pytest.raises(InputError, match=r"from 0 to 1, not 1.5"):
        sketch_of(np.arange(5)).quantile(1.5)
    with pytest.raises(InputError, match="at least one image"):
        SiteSketch(SHAPE).quantile(0.5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "other"}, "sketches differ in name: 'site' and 'other'"),
        ({"units": 42}, "sketches differ in units: 39 and 42"),
        ({"dim": 6}, "sketches differ in dim: 5 and 6"),
        ({"competitors": None}, "sketches differ in competitors: 3 and None"),
        ({"top": 7}, "sketches differ in top: 20 and 7"),
    ],
)
def test_sketches_of_other_shapes_do_not_merge(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SiteSketch(SHAPE).merge(SiteSketch(replace(SHAPE, **changed)))


def test_moments_and_samples_of_others_do_not_merge() -> None:
    with pytest.raises(InputError, match="moments differ in dim: 3 and 4"):
        ImageMoments(3).merge(ImageMoments(4))
    with pytest.raises(InputError, match="samples differ in size: 3 and 4"):
        Sample(3, 2, units={"a": 1}).merge(Sample(4, 2, units={"a": 1}))
    with pytest.raises(InputError, match=r"samples differ in units: {'a': 1} and {'b': 1}"):
        Sample(3, 2, units={"a": 1}).merge(Sample(3, 2, units={"b": 1}))


def test_a_sample_wants_its_sites_and_finite_numbers() -> None:
    sample = Sample(3, 2, units={"a": 1, "b": 1})
    embeddings, keys = np.ones((2, 2), np.float32), np.arange(2)
    rows = np.ones((2, 1), np.float32)
    with pytest.raises(InputError, match=r"\['b'\] do not agree"):
        sample.add({"a": rows}, embeddings, keys)
    with pytest.raises(InputError, match=r"2 images have keys, and activations: {'a': 2, 'b': 1}"):
        sample.add({"a": rows, "b": rows[:1]}, embeddings, keys)
    with pytest.raises(InputError, match="site 'b': 1 of 1 units have NaN"):
        sample.add({"a": rows, "b": rows * np.float32(np.nan)}, embeddings, keys)
    assert len(sample) == 0


def test_damaged_arrays_are_refused() -> None:
    arrays = whole()
    for name in arrays:
        rest = {key: value for key, value in arrays.items() if key != name}
        with pytest.raises(UnreadableError, match=f"site 'site' has no array '{name}'"):
            SiteSketch.from_arrays(SHAPE, rest)
        short = {**arrays, name: arrays[name][:0]}
        with pytest.raises(UnreadableError, match=f"array '{name}' .* expected"):
            SiteSketch.from_arrays(SHAPE, short)
        other = {**arrays, name: np.zeros(arrays[name].shape, np.float16)}
        with pytest.raises(UnreadableError, match=f"array '{name}' .* is float16"):
            SiteSketch.from_arrays(SHAPE, other)
    wrong = {**arrays, "images": arrays["images"] + 1}
    with pytest.raises(UnreadableError, match=r"'histogram' .* is not of 334 images"):
        SiteSketch.from_arrays(SHAPE, wrong)
    wrong = {**arrays, "top_keys": np.full_like(arrays["top_keys"], -1)}
    with pytest.raises(UnreadableError, match=r"'top_keys' .* has not 21 images per unit"):
        SiteSketch.from_arrays(SHAPE, wrong)


def test_damaged_moments_and_samples_are_refused() -> None:
    moments = ImageMoments(3).arrays()
    with pytest.raises(UnreadableError, match="'products' of the moments of the images is"):
        ImageMoments.from_arrays(4, {**moments, "sums": np.zeros(4)})
    with pytest.raises(UnreadableError, match="the moments count -1 images"):
        ImageMoments.from_arrays(3, {**moments, "images": np.array([-1])})
    arrays, units = sample_of(np.arange(20), 10).arrays(), {"a": UNITS, "b": 2}
    with pytest.raises(UnreadableError, match="at most 9 images has arrays of"):
        Sample.from_arrays(9, DIM, units=units, arrays=arrays)
    short = {**arrays, "keys": arrays["keys"][:3]}
    with pytest.raises(UnreadableError, match="at most 10 images has arrays of"):
        Sample.from_arrays(10, DIM, units=units, arrays=short)
    with pytest.raises(UnreadableError, match="the sample is damaged: keys must not be negative"):
        Sample.from_arrays(10, DIM, units=units, arrays={**arrays, "keys": arrays["keys"] * -1})


def test_the_smallest_are_within_a_sixteenth() -> None:
    q = planted()[0]
    sketch = sketch_of(np.arange(IMAGES))
    found = sketch.smallest(30)
    expected = np.sort(q, axis=0)[:30].T
    np.testing.assert_array_equal(found[:, 0], expected[:, 0])
    usual = (np.abs(expected) < 2.0**20) | (np.arange(30) == 0)
    off = np.abs(found - expected) <= np.abs(expected) / 16 + 2.0**-19
    assert off[usual].all()
    assert (np.diff(found, axis=1) >= 0).all()
    assert sketch.smallest(0).shape == (UNITS, 0)
    with pytest.raises(InputError, match="no 334 smallest"):
        sketch.smallest(334)
