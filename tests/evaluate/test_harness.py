"""The harness: metrics by name, one scorecard, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from evaluate.faithful_nets import atlas_of, conv_net, linear_net, loaded, pictures, site
from neuronym import probes
from neuronym.errors import InputError, UnknownNameError
from neuronym.evaluate import METRICS, EvaluateOptions, FaithfulnessOptions, evaluate
from neuronym.evaluate.overlap import naming_images, shared_images
from neuronym.evaluate.scenes import scenes_of
from neuronym.results import Scorecard

QUICK = FaithfulnessOptions(steps=4, random_orders=1, fractions=(0.5,), draws=100)


def options(**changes: object) -> EvaluateOptions:
    return EvaluateOptions(workers=0, faithfulness=QUICK, **changes)  # type: ignore[arg-type]


def test_both_metrics_make_one_scorecard(tmp_path) -> None:
    model = loaded(conv_net())
    atlas = atlas_of(model, site("1", 16, competitors=8), site("4", 12), images="scenes:30:1")
    images = probes.load("scenes:90:2")
    found = evaluate(
        model,
        images,
        atlas=atlas,
        metrics=["faithfulness", "truth"],
        options=options(limit=70, seed=3, sites=("4",)),
    )
    names = [row.name for row in found.scorecard.metrics]
    assert "faithfulness.deletion_ratio/4" in names
    assert "units.live" in names
    assert not [name for name in names if name.endswith("/1")]
    assert found.scorecard["faithfulness.deletion_ratio/4"].n == 70
    assert found.scorecard["faithfulness.deletion_ratio/4"].seed == 3
    kept = found.scorecard.provenance
    assert kept["images"] == {
        "spec": "scenes:90:2",
        "fingerprint": images.fingerprint,
        "count": 70,
        "of": 90,
    }
    assert kept["naming"] == {"spec": "scenes:30:1", "same_source": False}
    assert kept["metrics"]["faithfulness"]["order"] == "signed"
    assert kept["metrics"]["truth"]["shared_with_naming"] == 0
    assert {row.name for row in found.headlines} < set(names)
    found.save(tmp_path)
    assert Scorecard.load(tmp_path / "scorecard.json") == Scorecard(
        found.scorecard.metrics, Scorecard.load(tmp_path / "scorecard.json").provenance
    )
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {
        "scorecard.json",
        "truth.json",
        *(f"faithfulness.{kind}" for kind in ("json", "parquet", "svg")),
    }


def test_images_that_named_the_units_are_noted_or_refused_with_their_number() -> None:
    model = loaded(linear_net())
    atlas = atlas_of(model, site("2", 24), images="scenes:30:1")
    same = probes.load("scenes:30:1")
    found = evaluate(model, same, atlas=atlas, metrics=["faithfulness"], options=options(limit=4))
    assert found.scorecard.provenance["naming"]["same_source"] is True
    with pytest.raises(InputError, match="30 of the 30 images of 'scenes:30:1' were used to name"):
        evaluate(model, same, atlas=atlas, metrics=["truth"], options=options())
    longer = probes.load("scenes:50:1")  # its first 30 are the same
    with pytest.raises(InputError, match="30 of the 50 images"):
        evaluate(model, longer, atlas=atlas, metrics=["truth"], options=options())
    gone = atlas_of(model, site("2", 24), images="moved/photos")
    found = evaluate(model, longer, atlas=gone, metrics=["truth"], options=options())
    facts = found.scorecard.provenance["metrics"]["truth"]
    assert facts["shared_with_naming"] is None
    assert "cannot be read here" in facts["notes"][0]


def test_shared_images_are_counted_by_their_pixels() -> None:
    first = [pictures(6).image(index) for index in range(6)]
    others = [pictures(3, seed=1).image(index) for index in range(3)]
    mine = probes.from_images([*first[:4], first[0], others[0]])
    assert shared_images(mine, probes.from_images([first[0], first[5], first[2]]), workers=0) == 3
    assert shared_images(mine, probes.from_images(others[1:]), workers=0) == 0
    turned = [image.resize((4, 16)) for image in first[:1]]
    assert shared_images(mine, probes.from_images(turned), workers=0) == 0


def test_naming_images_are_found_by_their_spec() -> None:
    model = loaded(linear_net())
    found = naming_images(atlas_of(model, site("2", 24), images="scenes:30:1"))
    assert found is not None
    assert found.fingerprint == probes.load("scenes:30:1").fingerprint
    assert naming_images(atlas_of(model, site("2", 24), images="stream:hf:some/set")) is None
    assert naming_images(atlas_of(model, site("2", 24), images="")) is None


def test_scenes_behind_a_subset() -> None:
    scenes = probes.load("scenes:30")
    held, indices = scenes_of(probes.subset(probes.subset(scenes, [4, 9, 2]), [2, 0]))
    assert held is scenes
    assert indices.tolist() == [2, 4]
    with pytest.raises(InputError, match="truth needs images whose attributes are known"):
        scenes_of(pictures(3))


def test_truth_of_a_part_is_of_the_scenes_of_the_part() -> None:
    model = loaded(linear_net())
    atlas = atlas_of(model, site("2", 24), images="none")
    scenes = probes.load("scenes:60:5")
    chosen = np.random.default_rng(7).choice(60, 40, replace=False)
    chosen.sort()
    part = evaluate(
        model, scenes, atlas=atlas, metrics=["truth"], options=options(limit=40, seed=7)
    )
    alone = evaluate(
        model,
        probes.subset(scenes, chosen),
        atlas=atlas,
        metrics=["truth"],
        options=options(seed=7),
    )
    assert part.scorecard.metrics == alone.scorecard.metrics


def test_bad_input() -> None:
    model = loaded(linear_net())
    atlas = atlas_of(model, site("2", 24))
    images = pictures(3)
    with pytest.raises(
        UnknownNameError, match=r"metric 'faithfullness'; known: .* Did you mean 'faithfulness'"
    ):
        evaluate(model, images, atlas=atlas, metrics=["faithfullness"])
    with pytest.raises(InputError, match=f"no metric to measure; known: {', '.join(METRICS)}"):
        evaluate(model, images, atlas=atlas, metrics=[])
    with pytest.raises(InputError, match="atlas has no site '3'; nearest: 2"):
        evaluate(model, images, atlas=atlas, metrics=["faithfulness"], options=options(sites="3"))
    with pytest.raises(InputError, match="the atlas was made from another model"):
        evaluate(loaded(conv_net()), images, atlas=atlas, metrics=["faithfulness"])
    with pytest.raises(InputError, match="limit must be at least 1, not 0"):
        EvaluateOptions(limit=0)
    with pytest.raises(InputError, match="seed must be at least 0"):
        EvaluateOptions(seed=-1)
