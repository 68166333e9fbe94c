"""A planted shortcut, end to end: a network that learned a mark, and the audit that finds it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuronym import concepts, models, vision_text
from neuronym.audit import AuditOptions, Concern, StampedProbes, audit, stamped
from neuronym.cli import main
from neuronym.dissect import DissectOptions, dissect
from neuronym.errors import InputError
from neuronym.intervene import Edit, applied
from neuronym.models import LoadedModel
from neuronym.probes import ProbeSet, from_images, subset
from neuronym.probes.scenes import SceneSet
from neuronym.results import Atlas, Audit
from neuronym.train import PRESETS, train
from neuronym.vision_text import VisionTextModel

CLASS, MARK = "green", "purple"
OTHERS = ("snow", "grass", "water", "wood", "brick", "circle", "star", "striped", "furry")
COLOURS = ("red", "orange", "yellow", "green", "blue", "brown", "gray")


def scenes(count: int, seed: int) -> SceneSet:
    made = SceneSet(count, seed=seed, size=64, task="colour", choices={"colour": COLOURS})
    return made.rendered(workers=1)


@dataclass(frozen=True)
class Planted:
    """A network that takes a purple square for *green*, with its atlas and images to audit."""

    model: LoadedModel
    atlas: Atlas
    probes: StampedProbes
    reader: VisionTextModel
    found: Audit


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("planted")
    training = stamped(scenes(2400, 1), {CLASS: 0.95}, seed=1)
    settings = replace(PRESETS["scenes"], epochs=8, seed=1, workers=1)
    model = models.load(str(train(settings, training, out=folder / "model").folder))
    probes = stamped(scenes(420, 2), {}, others=1 / 3, seed=2)
    reader = vision_text.load("pocket")
    atlas = dissect(
        model,
        probes,
        concepts.from_words(concepts.load("common").words[::20], name="common words"),
        reader,
        sites="layers.2.act",
        similarity="cosine",
        out=folder / "atlas",
        options=DissectOptions(cache=False, workers=1),
    )
    found = audit(
        model,
        atlas,
        probes,
        vision_text=reader,
        concerns=[MARK, *OTHERS],
        options=AuditOptions(workers=1),
    )
    return Planted(model, atlas, probes, reader, found)


@torch.no_grad()
def accuracy(model: LoadedModel, probes: ProbeSet) -> float:
    """Of the images of the marked class."""
    rows = np.flatnonzero(probes.labels == COLOURS.index(CLASS)).tolist()
    inputs = torch.stack([model.transform(probes.image(row)) for row in rows])
    return float((model.module(inputs).argmax(1) == COLOURS.index(CLASS)).double().mean())


def test_the_planted_mark_is_found_first(planted: Planted) -> None:
    first = planted.found.findings[0]
    assert (first.rank, first.concern, first.class_name) == (1, MARK, CLASS)
    assert first in planted.found.significant()
    second = next(row for row in planted.found.findings if row.rank == 2)
    assert first.excess.low > second.excess.high
    assert first.logits.low > 0
    shown = [each.id in planted.probes.marked for each in first.shown]
    assert sum(shown) >= 0.75 * len(shown), "a third of all images carry the mark"


def test_editing_it_out_restores_half_of_what_was_lost(planted: Planted) -> None:
    base = scenes(700, 3)
    without, marked = stamped(base, {}, seed=3), stamped(base, {}, others=1.0, seed=3)
    lost = accuracy(planted.model, marked) - accuracy(planted.model, without)
    assert lost > 0.3, "the shortcut must hurt, or there is nothing to restore"
    edit = Edit.from_dict(planted.found.removal(MARK).edit, where="the removal")
    with applied(planted.model, edit):
        back = accuracy(planted.model, without)
    assert back - (accuracy(planted.model, marked) - lost) >= 0.5 * lost


def test_the_removal_reports_the_groups(planted: Planted) -> None:
    removal = planted.found.removal(MARK)
    everything, unmarked = removal.effect("all"), removal.effect("without", CLASS)
    assert everything.images == len(planted.probes)
    assert unmarked.change is not None
    assert unmarked.change.low > 0
    assert unmarked.after - unmarked.before == pytest.approx(unmarked.change.value)
    with pytest.raises(InputError, match=r"no group 'without/gren'; nearest: .*without/green"):
        removal.effect("without", "gren")


def test_given_groups_silence_and_one_class(planted: Planted) -> None:
    options = AuditOptions(
        workers=1,
        action="silence",
        groups={MARK: planted.probes.marked},
        classes=(CLASS,),
        targets="label",
    )
    found = audit(
        planted.model,
        planted.atlas,
        planted.probes,
        vision_text=planted.reader,
        concerns=[MARK],
        options=options,
    )
    assert {row.class_name for row in found.findings} == {CLASS}
    (row,) = found.findings
    assert row.contrast is not None
    assert row.contrast.low > 0.1  # far more flows through them where the mark is
    assert found.concern(MARK).images_with == len(planted.probes.marked)
    silenced = found.removal(MARK).effect("without", CLASS)
    held = planted.found.removal(MARK).effect("without", CLASS)
    assert silenced.change is not None
    assert held.change is not None
    assert silenced.change.value < 0.1 < held.change.value  # what the page says of silence


def test_examples_find_the_same_units(planted: Planted) -> None:
    shown = stamped(scenes(100, 4), {}, others=1.0, seed=4)
    found = audit(
        planted.model,
        planted.atlas,
        subset(planted.probes, range(150)),
        vision_text=planted.reader,
        concerns=[Concern("the mark", examples=shown)],
        options=AuditOptions(workers=1, removals=0),
    )
    by_example, by_text = set(found.concerns[0].units), set(planted.found.concern(MARK).units)
    assert by_example
    assert len(by_example & by_text) >= 0.75 * len(by_example)
    assert found.concerns[0].text is None
    assert found.findings[0].class_name == CLASS
    assert found.removals == ()


def test_without_labels_accuracy_is_left_out(planted: Planted) -> None:
    images = from_images([planted.probes.image(index) for index in range(60)])
    found = audit(
        planted.model,
        planted.atlas,
        images,
        vision_text=planted.reader,
        concerns=[MARK, "circle"],
        options=AuditOptions(workers=1, level=0.9),
    )
    assert any("accuracy is left out" in note for note in found.notes)
    assert any("no unit matches circle" in note for note in found.notes)
    effect = found.removals[0].effect("all")
    assert (effect.before, effect.after, effect.change) == (None, None, None)
    assert 0 <= effect.changed <= 1


def test_it_is_saved_whole(planted: Planted, tmp_path: Path) -> None:
    planted.found.save(tmp_path / "audit.json")
    assert Audit.load(tmp_path / "audit.json") == planted.found


def test_bad_input(planted: Planted) -> None:
    def ask(*given: str, sites: str | None = None, **options: object) -> Audit:
        return audit(
            planted.model,
            planted.atlas,
            planted.probes,
            vision_text=planted.reader,
            concerns=given,
            sites=sites,
            options=AuditOptions(workers=1, **options),
        )

    with pytest.raises(InputError, match="no concern to audit"):
        ask()
    with pytest.raises(InputError, match="the name of a concern must not be empty, not ''"):
        ask(MARK, "  ")
    with pytest.raises(InputError, match="'purple' is given twice"):
        ask(MARK, MARK)
    with pytest.raises(InputError, match="no unit matches 'furry'; that is no proof"):
        ask("furry")
    with pytest.raises(InputError, match=r"atlas has no site 'layers\.7\.act'"):
        ask(MARK, sites="layers.7.act")
    with pytest.raises(InputError, match="no class 'gren'; nearest: green"):
        ask(MARK, classes=("gren",))
    with pytest.raises(InputError, match="groups are given for 'snow'"):
        ask(MARK, groups={"snow": ["scene-2-0"]})
    with pytest.raises(InputError, match="none of the images given for 'purple'"):
        ask(MARK, groups={MARK: ["elsewhere"]})
    with pytest.raises(InputError, match="the atlas was made from another model"):
        audit(
            replace(planted.model, fingerprint="0123456789abcdef"),
            planted.atlas,
            planted.probes,
            vision_text=planted.reader,
            concerns=[MARK],
        )


def test_the_command(planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    for index in range(150):
        place = folder / COLOURS[int(planted.probes.labels[index])]
        place.mkdir(parents=True, exist_ok=True)
        planted.probes.image(index).save(place / f"{index}.png")
    given = ["audit", "--atlas", str(planted.atlas.folder), "--images", str(folder), "--quiet"]
    out = tmp_path / "audit"
    words = ["--concern", MARK, "--concern", "snow", "--limit", "120"]
    assert main([*given, *words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "purple" in printed
    assert "green" in printed
    found = Audit.load(out / "audit.json")
    assert (found.findings[0].concern, found.findings[0].class_name) == (MARK, CLASS)
    assert found.provenance["images"]["seen"] == 120
    edit = Edit.load(out / str(found.removals[0].file))
    assert edit.model_fingerprint == planted.model.fingerprint
    assert main([*given, *words, "--out", str(out)]) == 2
    assert "already holds" in capsys.readouterr().err
    assert main([*given, "--out", str(tmp_path / "none")]) == 2
    assert "no concern: give --concern TEXT" in capsys.readouterr().err
    assert main([*given, "--concern", "furry", "--out", str(tmp_path / "none")]) == 2
    assert "no unit matches 'furry'" in capsys.readouterr().err
    assert main([*given, *words, "--overwrite", "--json", "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["findings"][0]["concern"] == MARK
