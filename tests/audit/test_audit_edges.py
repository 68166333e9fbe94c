"""An audit where something cannot be done: it says so and goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import neuronym.models
import neuronym.vision_text
from dissect.planted import CELL, WORDS, PlantedVisionText, concepts, probe_set, transform
from neuronym import lwta
from neuronym.audit import AuditOptions, audit
from neuronym.audit.collect import _part
from neuronym.audit.statistics import chance_p_values, smallest_p_value
from neuronym.cli import main
from neuronym.dissect import DissectOptions, dissect
from neuronym.models import LoadedModel
from neuronym.results import Atlas, Audit

ATTRIBUTES = len(WORDS)
ALONE = WORDS.index("brick")


class Paired(nn.Module):
    """Block k, units 2k and 2k + 1, sees attribute k: the first where it is weak, the second where
    it is strong. Of block ``ALONE`` only the first ever wins. Class k is attribute k."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.flat = nn.AvgPool2d(CELL), nn.Flatten()
        self.detect = nn.Linear(3 * ATTRIBUTES, 2 * ATTRIBUTES)
        self.act = nn.ReLU()
        self.head = nn.Linear(2 * ATTRIBUTES, ATTRIBUTES, bias=False)
        with torch.no_grad():
            for each in (self.detect.weight, self.detect.bias, self.head.weight):
                each.zero_()
            for k in range(ATTRIBUTES):
                self.detect.weight[2 * k, k] = 1.0
                self.detect.weight[2 * k + 1, k] = 0.0 if k == ALONE else 3.0
                self.detect.bias[2 * k + 1] = -1.6
                self.head.weight[k, 2 * k : 2 * k + 2] = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.detect(self.flat(self.cells(x)))))


@pytest.fixture(scope="module")
def made() -> tuple[LoadedModel, Atlas]:
    network, _ = lwta.convert(Paired(), competitors=2, example=(3, 8, 8))
    model = LoadedModel(network, transform, WORDS, "paired", (3, 8, 8))
    atlas = dissect(
        model,
        probe_set(300),
        concepts(),
        PlantedVisionText(),
        sites="act",
        options=DissectOptions(cache=False, workers=0),
    )
    return model, atlas


@pytest.fixture
def command(made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Beginning of a command that finds the planted model and 40 images of it."""
    monkeypatch.setattr(neuronym.models, "load", lambda spec: made[0])
    monkeypatch.setattr(neuronym.vision_text, "load", lambda spec: PlantedVisionText())
    replace(made[1], folder=None).save(tmp_path / "atlas")
    probes = probe_set(120, labels=True)
    for index in range(len(probes)):
        place = tmp_path / "photos" / WORDS[int(probes.labels[index])]
        place.mkdir(parents=True, exist_ok=True)
        probes.image(index).save(place / f"{index}.png")
    given = ["--atlas", str(tmp_path / "atlas"), "--images", str(tmp_path / "photos")]
    return ["audit", *given, "--quiet", "--concern", "brick"]


def test_a_class_by_its_index(command: list[str], tmp_path: Path) -> None:
    assert main([*command, "--class", "3", "--class", "Brick", "--out", str(tmp_path / "out")]) == 0
    found = Audit.load(tmp_path / "out" / "audit.json")
    assert {row.class_name for row in found.findings} == {WORDS[3], "brick"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--class", "16"], "target class must be 0 to 15, not 16"),
        (["--site", "atc"], "atlas has no site 'atc'; nearest: act"),
        (["--remove", "erase"], "unknown kind of removal 'erase'"),
    ],
)
def test_what_is_refused_leaves_no_folder(
    command: list[str], tmp_path: Path, capsys, more: list[str], message: str
) -> None:
    assert main([*command, *more, "--out", str(tmp_path / "deep" / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "deep").exists()


def ask(
    made: tuple[LoadedModel, Atlas], *given: str, images: int = 300, **options: object
) -> Audit:
    settings = {"match_level": 0.01, "specific": 0.1, "chance": 1.0 - 1e-9, "level": 0.9}
    settings |= {"draws": 999, "bootstrap": 100, "workers": 0, "min_images": 2, **options}
    return audit(
        made[0],
        made[1],
        probe_set(images, labels=True),
        vision_text=PlantedVisionText(),
        concerns=given,
        options=AuditOptions(**settings),  # type: ignore[arg-type]
    )


def test_a_removal_that_is_impossible_is_noted_and_the_others_are_done(made) -> None:
    words = {"classes": ("apple", "brick"), "action": "silence"}
    found = ask(made, "apple", "brick", **words)
    assert set(found.concern("apple").units) == {"act/0", "act/1"}
    assert found.concern("brick").units == ("act/2",)
    assert [each.concern for each in found.removals] == ["brick"]
    (note,) = [note for note in found.notes if "was not removed" in note]
    assert note.startswith("'apple' was not removed: ")
    assert "every unit of block 0 (units 0 to 1)" in note
    everywhere = {word: [f"planted-{i}" for i in range(300)] for word in ("apple",)}
    found = ask(made, "apple", "brick", classes=("apple", "brick"), groups=everywhere)
    assert [each.concern for each in found.removals] == ["brick"]
    assert any(
        note.startswith("'apple' was not removed: no image lacks 'apple'") for note in found.notes
    )


def test_only_what_was_left_in_is_said(made) -> None:
    classes = ("apple", "brick")
    both = ask(made, "apple", "brick", classes=classes, removals=2)
    assert len(both.removals) == 2
    assert not any("best rank" in note for note in both.notes)
    one = ask(made, "apple", "brick", classes=classes, removals=1)
    assert "only the concern with the best rank was to be removed; 1 more has findings" in one.notes


def test_a_concern_of_one_unit_says_how_small_its_p_value_can_be(made) -> None:
    found = ask(made, "apple", "brick", level=0.05)
    (note,) = [note for note in found.notes if note.startswith("'brick' is carried by 1 unit of")]
    assert "the smallest p-value that random sets of that size can give is 0.1" in note
    assert "among 32" in note
    rows = [row for row in found.findings if row.concern == "brick"]
    assert min(row.p_value for row in rows) > 0.09
    assert not any("is carried by" in note for note in ask(made, "brick", classes=("brick",)).notes)


def test_the_smallest_p_value_is_that_of_a_set_which_carries_everything() -> None:
    strata = np.repeat([0, 1], [12, 8])
    matched = np.isin(np.arange(20), [0, 12, 13])
    means = matched[None].astype(float)
    (p,) = chance_p_values(means, matched, strata, draws=50_000, generator=np.random.default_rng(0))
    least = smallest_p_value(matched, strata, draws=50_000)
    assert least == pytest.approx(1 / (12 * 28), rel=0.01)
    assert p == pytest.approx(least, rel=0.3)


def test_ids_that_are_no_images_are_counted(made) -> None:
    given = {"brick": ["planted-1", "planted-2", "photo-9", "photo-10"]}
    found = ask(made, "brick", groups=given)
    assert (
        "2 of the 4 ids given for 'brick' are not among the images that could be read; the first "
        "is 'photo-10'"
    ) in found.notes
    assert found.concern("brick").images_with == 2


def test_groups_never_overlap_and_may_be_empty(made) -> None:
    for share in range(1, 100):
        for count in range(1, 130):
            few, many = _part(share / 100, count), _part(1 - share / 100, count)
            assert few + many <= count
    assert _part(0.29, 100) == 29
    found = ask(made, "brick", images=3, present=0.5, absent=0.5)
    assert (found.concern("brick").images_with, found.concern("brick").images_without) == (1, 1)
    found = ask(made, "brick", images=3)
    assert (
        "3 images are too few for groups by score: present=0.25 of them is no image" in found.notes
    )
