"""Splits, sources in memory and streamed, and augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from neuronym.errors import InputError
from neuronym.models import Preprocessing
from neuronym.probes.scenes import SceneSet
from neuronym.train import open_source, split
from neuronym.train.augment import AUGMENTATIONS, flip, shift
from neuronym.train.data import class_names_of, epoch_order
from neuronym.train.team import Place
from neuronym.train.views import view_seed
from train.synthetic import Blobs

SIZE = Preprocessing((3, 16, 16))


def test_split_is_stratified_disjoint_and_seeded() -> None:
    probe = Blobs(200)
    first, held = split(probe, 0.2, seed=1)
    assert len(first) == 160
    assert len(held) == 40
    assert not set(first.ids) & set(held.ids)
    assert set(first.ids) | set(held.ids) == set(probe.ids)
    assert probe.labels is not None
    assert held.labels is not None
    share = np.bincount(held.labels) / np.bincount(probe.labels)
    assert np.abs(share - 0.2).max() < 0.03
    again = split(probe, 0.2, seed=1)[1]
    other = split(probe, 0.2, seed=2)[1]
    assert list(again.ids) == list(held.ids)
    assert list(other.ids) != list(held.ids)
    assert again.fingerprint == held.fingerprint
    assert other.fingerprint != held.fingerprint
    index = probe.ids.index(held.ids[3])
    assert np.array_equal(np.asarray(held.image(3)), probe.arrays[index])


def test_split_keeps_its_share_with_many_small_classes() -> None:
    scenes = SceneSet(300, seed=0, task=("colour", "background"))
    first, held = split(scenes, 0.1, seed=0)
    assert len(held) == 30
    assert len(first) == 270


@pytest.mark.parametrize("holdout", [0.0, 1.0, -0.1])
def test_split_refuses_shares_outside(holdout: float) -> None:
    with pytest.raises(InputError, match=r"holdout must be in \(0, 1\)"):
        split(Blobs(20), holdout, seed=0)


def test_split_refuses_empty_parts() -> None:
    with pytest.raises(InputError, match="leaves an empty part"):
        split(Blobs(4), 0.01, seed=0)


def test_labels_are_needed() -> None:
    probe = Blobs(8)
    probe.labels = None
    with pytest.raises(InputError, match="'blobs:8' has no labels"):
        split(probe, 0.5, seed=0)
    with pytest.raises(InputError, match="has no labels"):
        open_source(probe, SIZE)


def test_class_names() -> None:
    probe = Blobs(20)
    assert class_names_of(probe) == ("red", "green", "blue")
    probe.label_names = None
    assert class_names_of(probe) == ("0", "1", "2")
    probe.label_names = ("red", "green")
    with pytest.raises(InputError, match="labels from 0 to 2 for 2 class names"):
        class_names_of(probe)
    single = Blobs(5, classes=1)
    with pytest.raises(InputError, match=r"one class \('red'\)"):
        class_names_of(single)


def gathered(memory_mb: int, probe: Blobs, order: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    source = open_source(probe, SIZE, memory_mb=memory_mb)
    batches = list(source.batches(order, 7))
    return torch.cat([pixels for pixels, _ in batches]), torch.cat([label for _, label in batches])


def test_streamed_and_in_memory_give_the_same() -> None:
    large = Blobs(60, side=160)
    size = Preprocessing((3, 160, 160))
    held = open_source(large, size, memory_mb=64)
    streamed = open_source(large, size, memory_mb=1)
    assert held.in_memory
    assert not streamed.in_memory
    reads = large.reads
    order = np.random.default_rng(0).permutation(60)
    for (pixels, labels), (others, other_labels) in zip(
        held.batches(order, 16), streamed.batches(order, 16), strict=True
    ):
        assert torch.equal(pixels, others)
        assert torch.equal(labels, other_labels)
        assert pixels.dtype == torch.uint8
    assert large.reads == reads + 60


def test_streaming_decodes_three_batches_ahead_at_most() -> None:
    large = Blobs(60, side=160)
    streamed = open_source(large, Preprocessing((3, 160, 160)), memory_mb=1)
    batches = streamed.batches(np.arange(60), 6)
    next(batches)
    assert large.reads <= 18
    batches.close()


@pytest.mark.parametrize("memory_mb", [1, 64])
def test_broken_images_are_skipped_and_listed(memory_mb: int) -> None:
    probe = Blobs(40, side=160, broken=[3, 17])
    source = open_source(probe, Preprocessing((3, 160, 160)), memory_mb=memory_mb)
    batches = list(source.batches(source.good, 8))
    labels = torch.cat([label for _, label in batches])
    assert len(labels) == 38
    assert probe.labels is not None
    assert labels.tolist() == np.delete(probe.labels, [3, 17]).tolist()
    assert source.skipped == {
        "blob-3": "image 'blob-3' is truncated",
        "blob-17": "image 'blob-17' is truncated",
    }
    assert 3 not in source.good
    first = batches[0][0]
    assert np.array_equal(first[3].permute(1, 2, 0).numpy(), probe.arrays[4])


def test_nothing_readable() -> None:
    with pytest.raises(InputError, match=r"no readable image; the first fails with.*truncated"):
        open_source(Blobs(4, broken=range(4)), SIZE)


@pytest.mark.parametrize("rendered", [False, True])
def test_scenes_are_rendered_as_their_own_images(rendered: bool) -> None:
    scenes = SceneSet(20, seed=3, size=64, task="shape")
    if rendered:
        scenes = scenes.rendered(workers=1)
    part, _ = split(scenes, 0.25, seed=0)
    source = open_source(part, Preprocessing((3, 64, 64)), workers=1)
    pixels, labels = next(source.batches(np.arange(15), 15))
    for index in (0, 7, 14):
        image = np.asarray(part.image(index).convert("RGB"))
        assert np.array_equal(pixels[index].permute(1, 2, 0).numpy(), image)
    assert part.labels is not None
    assert labels.tolist() == part.labels.tolist()


def test_epoch_order() -> None:
    good = np.array([1, 4, 5, 9, 12, 30])
    first = epoch_order(good, seed=0, epoch=0)
    assert sorted(first) == sorted(good)
    assert np.array_equal(first, epoch_order(good, seed=0, epoch=0))
    others = [epoch_order(good, seed=seed, epoch=epoch) for seed, epoch in ((0, 1), (1, 0))]
    assert any(not np.array_equal(first, other) for other in others)


def batch() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, generator=generator)


def augmented(name: str, images: torch.Tensor, seed: int, part: slice) -> torch.Tensor:
    """Part of a batch as a process sees it that has only that part."""
    chosen = AUGMENTATIONS[name]
    size = Preprocessing((3, 16, 16))
    pixels = images[part]
    if chosen.view is not None:
        seen = [
            chosen.view(functional.to_pil_image(image), view_seed(seed, 0, index), size)
            for index, image in enumerate(images)
        ]
        pixels = torch.stack(seen)[part]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return chosen.batch(pixels, Place(part.start, len(images)))


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_augmentations_keep_shape_type_and_obey_the_seed(name: str) -> None:
    images = batch()
    whole = slice(0, len(images))
    results = [augmented(name, images, seed, whole) for seed in (5, 5, 6)]
    assert results[0].shape == images.shape
    assert results[0].dtype == torch.uint8
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2]) == (name == "none")
    assert torch.equal(images, batch())
    parts = [augmented(name, images, 5, part) for part in (slice(0, 3), slice(3, len(images)))]
    assert torch.equal(torch.cat(parts), results[0])


def test_flip_mirrors_some_and_keeps_others() -> None:
    images = batch().repeat(8, 1, 1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flipped = flip(images)
    mirrored = sum(torch.equal(new, old.flip(2)) for new, old in zip(flipped, images, strict=True))
    kept = sum(torch.equal(new, old) for new, old in zip(flipped, images, strict=True))
    assert mirrored + kept == 64
    assert 16 < mirrored < 48


def test_shift_moves_and_mirrors_edges() -> None:
    images = batch().repeat(8, 1, 1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        moved = shift(images, 1 / 8)
    offsets = set()
    for new, old in zip(moved, images, strict=True):
        padded = np.pad(old.numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
        found = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(new.numpy(), padded[:, row : row + 16, column : column + 16])
        ]
        assert len(found) == 1
        offsets.add(found[0])
    assert len(offsets) > 15
