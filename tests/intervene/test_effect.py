"""The effect of edits: by hand on small sets, and on a network that learned CIFAR-10."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from neuronym import probes
from neuronym.errors import InputError, UnreadableError
from neuronym.intervene import (
    Change,
    EffectOptions,
    applied,
    changes_to,
    effect,
    make_edit,
    units_named,
)
from neuronym.intervene.paired import paired_change
from neuronym.lwta import LWTA
from neuronym.models import LoadedModel, Preprocessing
from neuronym.results import Atlas, EffectReport, SiteInfo, Unit

SIZE = 8
CLASSES = ("cat", "dog", "ship")


def network(seed: int = 0) -> LoadedModel:
    module = nn.Sequential(
        nn.Conv2d(3, 12, 3), LWTA(4, channel_dim=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(12, 3),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    transform = Preprocessing(input_size=(3, SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3)
    return LoadedModel(module, transform, CLASSES, "toy", (3, SIZE, SIZE))


def pictures(count: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
    return [Image.fromarray(each) for each in pixels]


EDIT = Change("1", (0, 5, 9), "hand_over")


def both(model: LoadedModel, images: list[Image.Image]) -> tuple[Tensor, Tensor]:
    inputs = torch.stack([model.transform(image) for image in images])
    with torch.no_grad():
        before = model.module(inputs)
        with applied(model, EDIT):
            return before, model.module(inputs)


def test_a_data_set_by_hand() -> None:
    model, images = network(), pictures(90)
    labels = [place % 4 for place in range(90)]  # the last label is no class of the model
    source = probes.from_images(images, labels=labels, label_names=("Ship", "DOG", "cat", "whale"))
    found = effect(model, EDIT, probes=source, options=EffectOptions(batch_size=16, largest=4))
    before, after = both(model, images)
    old, new = before.argmax(1).tolist(), after.argmax(1).tolist()
    shifts = (after.softmax(1) - before.softmax(1)).abs().sum(1) / 2
    assert found.images == 90
    assert found.flipped == sum(a != b for a, b in zip(old, new, strict=True)) > 0
    wanted = Counter((CLASSES[a], CLASSES[b]) for a, b in zip(old, new, strict=True) if a != b)
    assert {(flip.before, flip.after): flip.images for flip in found.flips} == wanted
    assert found.mean_shift == pytest.approx(float(shifts.mean()), abs=1e-6)
    largest = shifts.argsort(descending=True)[:4].tolist()
    assert [shown.id for shown in found.shown] == [source.ids[place] for place in largest]
    truth = [(2, 1, 0, -1)[label] for label in labels]
    for index, name in enumerate(CLASSES):
        rows = [row for row, each in enumerate(truth) if each == index]
        change = found.of_class(name)
        assert change is not None
        assert change.images == len(rows)
        assert change.before == pytest.approx(np.mean([old[row] == index for row in rows]))
        assert change.after == pytest.approx(np.mean([new[row] == index for row in rows]))
        assert change.gained == sum(old[row] != index == new[row] for row in rows)
        assert change.lost == sum(old[row] == index != new[row] for row in rows)
        assert change.difference == pytest.approx(change.after - change.before)
        assert change.interval[0] < change.difference < change.interval[1]
    assert found.accuracy is not None
    assert found.accuracy.images == sum(label != 3 for label in labels)
    assert found.accuracy.gained == sum(row.gained for row in found.per_class)
    assert [row["name"] for row in found.rows()] == ["all", *CLASSES]
    assert model.module[1].edit is None


def test_single_images_by_hand_in_their_order(tmp_path: Path) -> None:
    model, images = network(), pictures(3)
    images[1].save(tmp_path / "one.png")
    found = effect(model, EDIT, images=[images[0], tmp_path / "one.png", images[2]])
    before, after = both(model, images)
    assert [shown.id for shown in found.shown] == ["image 0", str(tmp_path / "one.png"), "image 2"]
    assert found.accuracy is None
    assert not found.per_class
    for row, shown in enumerate(found.shown):
        assert shown.label is None
        assert shown.before == CLASSES[int(before[row].argmax())]
        assert shown.after == CLASSES[int(after[row].argmax())]
        for each in shown.classes:
            assert each.logit_before == pytest.approx(float(before[row, each.index]), abs=1e-5)
            assert each.logit_after == pytest.approx(float(after[row, each.index]), abs=1e-5)
            chance = float(after[row].softmax(0)[each.index])
            assert each.probability_after == pytest.approx(chance, abs=1e-5)
    assert "images" not in found.provenance


def test_saved_and_loaded(tmp_path: Path) -> None:
    source = probes.from_images(pictures(20), labels=[0, 1] * 10, label_names=CLASSES)
    found = effect(network(), EDIT, probes=source)
    found.save(tmp_path / "effect.json")
    assert EffectReport.load(tmp_path / "effect.json").to_dict() == found.to_dict()
    (tmp_path / "effect.json").write_text('{"kind": "effect", "schema": 1}')
    with pytest.raises(UnreadableError, match="not a whole effect"):
        EffectReport.load(tmp_path / "effect.json")


def test_bad_input(tmp_path: Path) -> None:
    model = network()
    with pytest.raises(InputError, match="one of the two"):
        effect(model, EDIT)
    with pytest.raises(InputError, match="no image to run"):
        effect(model, EDIT, images=[])
    with pytest.raises(InputError, match="batch_size must be at least 1, not 0"):
        EffectOptions(batch_size=0)
    (tmp_path / "no.png").write_text("not an image")
    with pytest.raises(UnreadableError, match=r"no\.png"):
        effect(model, EDIT, images=[tmp_path / "no.png"])
    other = make_edit(network(seed=1), EDIT)
    with pytest.raises(InputError, match="the edit was made from another model"):
        effect(model, other, images=pictures(1))
    huge = Change("1", tuple(range(12)), "scale", factor=3e38)
    with pytest.raises(InputError, match="after the edit are not finite"):
        effect(model, huge, images=pictures(1))


def test_the_interval_covers_and_the_test_is_exact() -> None:
    """Coverage by the multinomial's own sum, over every table of 40 images that can occur."""
    chances = 0.15, 0.05
    images, truth, covered = 40, 0.10, 0.0
    log = np.concatenate([[0.0], np.log(np.arange(1, images + 1)).cumsum()])
    for gained, lost in itertools.product(range(images + 1), repeat=2):
        same = images - gained - lost
        if same < 0:
            continue
        low, high = paired_change(gained, lost, images).interval
        logs = log[images] - log[gained] - log[lost] - log[same]
        logs += gained * np.log(chances[0]) + lost * np.log(chances[1]) + same * np.log(0.8)
        covered += np.exp(logs) * (low <= truth <= high)
    assert 0.93 < covered < 0.98
    assert paired_change(0, 5, 50).p_value == pytest.approx(2 / 32)
    assert paired_change(0, 0, 50).p_value == 1.0
    low, high = paired_change(0, 0, 50).interval
    assert low < 0 < high
    with pytest.raises(InputError, match="cannot be"):
        paired_change(3, 3, 5)


def unit(site: str, index: int, name: str | None) -> Unit:
    return Unit(
        site=site, unit=index, block=None, name=name, score=0.5, p_value=None,
        runner_up_names=(), runner_up_scores=(), firing_rate=0.5, win_rate=None,
        top_images=(), top_activations=(),
    )  # fmt: skip


def test_units_by_their_names() -> None:
    sites = (SiteInfo("a", 3, 1, None, "mean", 1), SiteInfo("b", 2, -1, 2, "winner", 1))
    names = {"a": ("water", "open Water", None), "b": ("sky", "water")}
    units = tuple(unit(s, k, name) for s, row in names.items() for k, name in enumerate(row))
    atlas = Atlas(sites, units, {}, {})
    assert [each.key for each in units_named(atlas, "*water")] == ["a/0", "a/1", "b/1"]
    found = units_named(atlas, "WATER")
    assert [each.key for each in found] == ["a/0", "b/1"]
    assert [each.key for each in units_named(atlas, "*a*", sites=["b"])] == ["b/1"]
    made = changes_to(atlas, found, "scale", factor=0.5)
    assert made == (
        Change("a", (0,), "scale", factor=0.5, channel_dim=1),
        Change("b", (1,), "scale", factor=0.5),
    )
    with pytest.raises(InputError, match=r"matches 'wter'; nearest: water"):
        units_named(atlas, "wter")
    with pytest.raises(InputError, match="no unit to silence"):
        changes_to(atlas, [], "silence")


SMALL = 16


def trained(images: Tensor, labels: Tensor, classes: tuple[str, ...]) -> LoadedModel:
    """A competitive layer on small images, trained for a few seconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2), LWTA(4, channel_dim=1), nn.Flatten(),
            nn.Linear(32 * 36, 192), LWTA(4, channel_dim=1), nn.Linear(192, 10),
        )  # fmt: skip
        optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3, weight_decay=0.05)
        for _ in range(6):
            for rows in torch.randperm(len(images)).split(100):
                loss = nn.functional.cross_entropy(module(images[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    transform = Preprocessing(
        input_size=(3, SMALL, SMALL), mean=(0.5,) * 3, std=(0.25,) * 3, resize=SMALL
    )
    return LoadedModel(module, transform, classes, "small", (3, SMALL, SMALL))


@pytest.mark.shared_data
def test_silencing_the_units_that_carry_a_class_hurts_that_class_most(shared_data: Path) -> None:
    train = probes.load(str(shared_data / "cifar10-train.parquet"))
    assert train.labels is not None
    assert train.label_names is not None
    transform = Preprocessing(
        input_size=(3, SMALL, SMALL), mean=(0.5,) * 3, std=(0.25,) * 3, resize=SMALL
    )
    chosen = range(3000)
    images = torch.stack([transform(train.image(index)) for index in chosen])
    labels = torch.from_numpy(train.labels[:3000])
    model = trained(images, labels, train.label_names)
    head = model.module[5].weight.detach()
    with torch.no_grad():
        passed = model.module[:5](images)
    carried = torch.stack([(passed * head[c])[labels == c].mean(0) for c in range(10)])
    test = probes.load(str(shared_data / "cifar10-test.parquet"))
    some = probes.subset(test, range(800))
    hurt = []
    for index in range(10):
        units: list[int] = []
        for each in carried[index].argsort(descending=True).tolist():
            block = [other for other in units if other // 4 == each // 4]
            if len(block) < 3 and len(units) < 16:  # a block keeps one that may pass
                units.append(each)
        found = effect(model, Change("4", tuple(sorted(units)), "silence"), probes=some)
        assert found.accuracy is not None
        assert found.accuracy.before > 0.3
        drops = {row.name: row.difference for row in found.per_class}
        name = train.label_names[index]
        hurt.append(min(drops, key=lambda each: drops[each]) == name)
        assert drops[name] < -0.05, name
    assert all(hurt), hurt
