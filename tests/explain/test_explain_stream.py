"""Contributions of a data set in a stream: each image as it would be explained alone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from explained_sets import CLASSES, SITES, SIZE, Broken, atlas_of, loaded, net, pictures

from neuronym.errors import InputError
from neuronym.explain import contribution_batches, explain, image_winners
from neuronym.explain.contributions import contributions
from neuronym.explain.stream import ContributionBatch
from neuronym.models import LoadedModel
from neuronym.probes import from_images, subset
from neuronym.results import SiteInfo


def gathered(
    model: LoadedModel, sites: Sequence[SiteInfo] = SITES, **options: object
) -> list[ContributionBatch]:
    return list(contribution_batches(model, pictures(11), sites, batch_size=4, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["predicted", "ship"])
def test_each_image_is_as_it_is_explained_alone(target: str) -> None:
    model = loaded(net())
    atlas = atlas_of(model)
    found = gathered(model, targets=target)
    assert [len(batch) for batch in found] == [4, 4, 3]
    probes = pictures(11)
    for batch in found:
        for row, key in enumerate(batch.keys.tolist()):
            assert batch.ids[row] == probes.ids[key]
            for site in SITES:
                alone = explain(
                    model,
                    probes.image(key),
                    atlas=atlas,
                    site=site.name,
                    target=None if target == "predicted" else target,
                )
                mine = batch.sites[site.name]
                close = {"abs": 1e-6, "rel": 1e-5}
                assert alone.target.index == batch.targets[row]
                assert alone.target.logit == pytest.approx(batch.target_logits[row], **close)
                assert alone.target.probability == pytest.approx(batch.probabilities[row], **close)
                assert alone.baseline == pytest.approx(mine.baselines[row], **close)
                assert alone.completeness_error == pytest.approx(
                    mine.completeness_error[row], abs=2e-6
                )
                listed = [winner.unit for winner in alone.winners]
                assert sorted(listed) == np.flatnonzero(mine.won[row]).tolist()
                assert (mine.win_rate is None) == (site.competitors is None)
                for winner in alone.winners:
                    unit = winner.unit
                    assert winner.contribution == pytest.approx(
                        mine.contributions[row, unit], **close
                    )
                    assert winner.activation == pytest.approx(mine.activations[row, unit], **close)
                    assert winner.image_winner == mine.image_winner[row, unit]
                    if mine.win_rate is not None:
                        assert winner.win_rate == mine.win_rate[row, unit]


@pytest.mark.parametrize("pooling", ["winner", "mean", "max", "token", "token:3"])
def test_image_winners_are_those_of_the_literal_rule(pooling: str) -> None:
    """Of the competitors that won a position (or the token) the largest pooled activation."""
    model = loaded(net())
    site = SiteInfo("act", 16, 1, 4, pooling, SIZE * SIZE)
    (batch,) = contribution_batches(model, pictures(5), [site])
    inputs = torch.stack([model.transform(pictures(5).image(at)) for at in range(5)])
    found = contributions(model.module, inputs, site="act", channel_dim=1)
    blocks = found.activations.unflatten(1, (4, 4)).abs()
    mask = torch.zeros_like(blocks, dtype=torch.bool)
    mask = mask.scatter_(2, blocks.argmax(2, keepdim=True), True).flatten(1, 2)
    for row in range(5):
        expected = []
        for first in range(0, 16, 4):
            best, largest = -1, -np.inf
            for unit in range(first, first + 4):
                values = found.activations[row, unit].double()
                token = int(pooling.partition(":")[2] or 0)
                seen = mask[row, unit, token] if "token" in pooling else mask[row, unit].any()
                pooled = float(values.max() if pooling == "max" else values.mean())
                if seen and pooled > largest:
                    best, largest = unit, pooled
            expected += [unit == best for unit in range(first, first + 4)]
        assert batch.sites["act"].image_winner[row].tolist() == expected
        alone = image_winners(found.activations[row], mask[row], site)
        assert alone.tolist() == expected


def test_labels_are_targets_and_their_names_decide() -> None:
    model = loaded(net())
    images = [pictures(4).image(at) for at in range(4)]
    labels = np.array([0, 1, 2, 0])
    probes = from_images(images, labels=labels, label_names=("Ship", "cat", "dog"))
    (batch,) = contribution_batches(model, probes, SITES, targets="label")
    expected = [CLASSES.index(("ship", "cat", "dog")[label]) for label in labels]
    assert batch.labels.tolist() == batch.targets.tolist() == expected
    nameless = from_images(images, labels=labels)
    (batch,) = contribution_batches(model, nameless, SITES, targets="label")
    assert batch.targets.tolist() == labels.tolist()


def test_a_label_that_is_no_class_is_no_label() -> None:
    model = loaded(net())
    images = [pictures(2).image(at) for at in range(2)]
    probes = from_images(images, labels=np.array([1, 0]), label_names=("cow", "cat"))
    (batch,) = contribution_batches(model, probes, SITES)
    assert batch.labels.tolist() == [CLASSES.index("cat"), -1]
    with pytest.raises(InputError, match="has the label 'cow', which is no class of the model"):
        list(contribution_batches(model, probes, SITES, targets="label"))
    with pytest.raises(InputError, match="needs images with labels; use targets='predicted'"):
        contribution_batches(model, pictures(2), SITES, targets="label")
    (batch,) = contribution_batches(model, pictures(2), SITES)
    assert batch.labels.tolist() == [-1, -1]


def test_broken_images_are_left_out_and_listed() -> None:
    model = loaded(net())
    probes = Broken(pictures(9), {0, 4, 8})
    stream = contribution_batches(model, probes, SITES, batch_size=4, workers=2)
    assert [batch.keys.tolist() for batch in stream] == [[1, 2, 3, 5], [6, 7]]
    assert [skipped.index for skipped in stream.skipped] == [0, 4, 8]
    assert stream.total == 9


def test_nothing_of_an_earlier_batch_is_kept() -> None:
    alive: list[weakref.ref[ContributionBatch]] = []
    most = 0
    for batch in contribution_batches(loaded(net()), pictures(12), SITES, batch_size=2):
        alive.append(weakref.ref(batch))
        del batch
        gc.collect()
        most = max(most, sum(each() is not None for each in alive))
    assert len(alive) == 6
    assert most <= 1


def test_a_part_of_a_set() -> None:
    model = loaded(net())
    whole = gathered(model)
    (part,) = contribution_batches(model, subset(pictures(11), [3, 9]), SITES)
    assert part.ids == (whole[0].ids[3], whole[2].ids[1])


def test_bad_input() -> None:
    model = loaded(net())
    with pytest.raises(InputError, match="no class 'shp'; nearest: ship"):
        contribution_batches(model, pictures(2), SITES, targets="shp")
    with pytest.raises(InputError, match="must be 0 to 2, not 3"):
        contribution_batches(model, pictures(2), SITES, targets=3)
    with pytest.raises(InputError, match="no site to explain"):
        contribution_batches(model, pictures(2), [])
    with pytest.raises(InputError, match="each site may be given once"):
        contribution_batches(model, pictures(2), [SITES[0], SITES[0]])
    wrong = SiteInfo("act", 32, 1, 4, "winner", SIZE * SIZE)
    with pytest.raises(InputError, match="has 16 units in this model and 32 in the atlas"):
        list(contribution_batches(model, pictures(2), [wrong]))
    with torch.no_grad():
        model.module.head.bias[1] = torch.nan
    with pytest.raises(InputError, match="logits is NaN or infinite on image"):
        list(contribution_batches(model, pictures(2), SITES))
