"""Rendered scenes: the same bytes everywhere, true labels, independent attributes."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from neuronym.errors import InputError, UnknownNameError
from neuronym.probes import ProbeSet
from neuronym.probes.scenes import ATTRIBUTES, GROUPS, SceneSet, render_many, render_scene
from neuronym.probes.scenes.colours import PALETTES, distance, draw_palette, lab
from neuronym.probes.scenes.layout import COUNTS, LARGE, SMALL, place
from neuronym.probes.scenes.shapes import fill, outline


def digest(scenes: SceneSet, indices: list[int]) -> str:
    return hashlib.sha256(b"".join(scenes.image(i).tobytes() for i in indices)).hexdigest()


def test_the_same_seed_gives_the_same_bytes_in_another_process_and_order() -> None:
    code = (
        "import hashlib; from neuronym.probes.scenes import SceneSet; s = SceneSet(30, seed=4)\n"
        "print(hashlib.sha256(b''.join(s.image(i).tobytes() for i in (3, 0, 29))).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    longer = SceneSet(60, seed=4)
    longer.image(17)
    assert other.stdout.strip() == digest(longer, [3, 0, 29])


def test_seed_index_and_size_change_the_pixels() -> None:
    scenes = SceneSet(4, seed=1)
    assert digest(scenes, [0]) != digest(scenes, [1])
    assert digest(scenes, [0]) != digest(SceneSet(4, seed=2), [0])
    assert SceneSet(1, size=64).image(0).size == (64, 64)
    first, second = SceneSet(9, seed=1), SceneSet(9, seed=1, size=96)
    assert len({first.fingerprint, second.fingerprint, SceneSet(10, seed=1).fingerprint}) == 3
    assert first.fingerprint == SceneSet(9, seed=1).fingerprint


def test_render_many_keeps_the_order_and_the_bytes() -> None:
    scenes = SceneSet(11, seed=8, size=64)
    here = np.concatenate(list(render_many(scenes.scenes, size=64, workers=1, chunk=4)))
    there = np.concatenate(list(render_many(scenes.scenes, size=64, workers=2, chunk=4)))
    assert here.shape == (11, 64, 64, 3)
    np.testing.assert_array_equal(here, there)
    np.testing.assert_array_equal(here[5], np.asarray(scenes.image(5)))


def test_a_consumer_of_render_many_may_stop_early() -> None:
    scenes = SceneSet(40, size=32).scenes
    stream = render_many(scenes, size=32, workers=2, chunk=2)
    first = next(stream)
    stream.close()
    again = list(render_many(scenes, size=32, workers=2, chunk=2))
    assert len(again) == 20
    np.testing.assert_array_equal(first, again[0])


def test_it_is_a_probe_set() -> None:
    scenes = SceneSet(20, seed=3)
    assert isinstance(scenes, ProbeSet)
    assert scenes.name == "scenes:20:3"
    assert scenes.ids[7] == "scene-3-7"
    assert len(set(scenes.ids)) == 20
    assert scenes.image(0).mode == "RGB"
    assert scenes.image(0).size == (128, 128)
    assert scenes.label_names == GROUPS["shape"]
    assert [scenes.label_names[label] for label in scenes.labels] == [
        scene["shape"] for scene in scenes.scenes
    ]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("size", GROUPS["size"])
def test_the_mask_has_as_many_parts_as_the_label_says(count: str, size: str) -> None:
    scenes = SceneSet(30, seed=11, choices={"count": [count], "size": [size]})
    for index, scene in enumerate(scenes.scenes):
        rendered = scenes.render(index)
        _, parts = ndimage.label(rendered.objects > 0, structure=np.ones((3, 3)))
        assert parts == COUNTS[count] == rendered.objects.max(), scene
        widths = [
            max(box[0].stop - box[0].start, box[1].stop - box[1].start)
            for box in ndimage.find_objects(rendered.objects)
        ]
        small = 2 * SMALL[1] * 128 + 2
        assert max(widths) <= small if size == "small" else max(widths) > small, scene


def test_small_and_large_do_not_meet() -> None:
    rng = np.random.default_rng(0)
    for count, size in itertools.product(COUNTS, GROUPS["size"]):
        for _ in range(20):
            placements = place(count, size, rng)
            radii = [placement.radius for placement in placements]
            assert max(radii) <= SMALL[1] if size == "small" else min(radii) >= 0.95 * LARGE
            assert all(p.radius < p.x < 1 - p.radius for p in placements)
            assert all(p.radius < p.y < 1 - p.radius for p in placements)


@pytest.mark.parametrize("colour", GROUPS["colour"])
def test_plain_objects_have_the_named_colour(colour: str) -> None:
    """The median colour inside the mask is nearest to the named colour's own palette."""
    rng = np.random.default_rng(0)
    centres = {
        name: np.mean([draw_palette(name, rng).main for _ in range(50)], 0) for name in PALETTES
    }
    scenes = SceneSet(
        16,
        seed=5,
        choices={"colour": [colour], "pattern": ["plain"], "texture": ["smooth"]},
    )
    right = 0
    for index in range(len(scenes)):
        rendered = scenes.render(index)
        inside = ndimage.binary_erosion(rendered.objects > 0, iterations=2)
        median = np.median(np.asarray(rendered.image)[inside] / 255, axis=0)
        gaps = {name: distance(tuple(median), tuple(centre)) for name, centre in centres.items()}
        right += min(gaps, key=gaps.__getitem__) == colour
    assert right >= 15


def test_objects_stand_out_from_what_surrounds_them() -> None:
    scenes = SceneSet(150, seed=21, choices={"pattern": ["plain"], "texture": ["smooth"]})
    gaps = []
    for index in range(len(scenes)):
        rendered = scenes.render(index)
        pixels = np.asarray(rendered.image) / 255
        mask = rendered.objects > 0
        around = ndimage.binary_dilation(mask, iterations=8) & ~ndimage.binary_dilation(
            mask, iterations=3
        )
        gaps.append(
            distance(tuple(np.median(pixels[mask], 0)), tuple(np.median(pixels[around], 0)))
        )
    assert min(gaps) > 12
    assert np.mean(np.array(gaps) > 25) > 0.95


def test_patterns_and_textures_change_the_pixels_inside() -> None:
    """Away from the edge a plain, smooth object varies least; every other one varies more."""

    def spread(pattern: str, texture: str) -> float:
        scenes = SceneSet(
            12,
            seed=2,
            choices={
                "pattern": [pattern],
                "texture": [texture],
                "shape": ["circle"],
                "size": ["large"],
                "background": ["backdrop"],
                "colour": ["red", "blue", "green", "purple"],
            },
        )
        values = []
        for index in range(len(scenes)):
            rendered = scenes.render(index)
            inside = ndimage.binary_erosion(rendered.objects > 0, iterations=9)
            values.append(np.asarray(rendered.image.convert("L"))[inside].std())
        return float(np.mean(values))

    base = spread("plain", "smooth")
    for pattern in GROUPS["pattern"][1:]:
        assert spread(pattern, "smooth") > 1.5 * base, pattern
    for texture in GROUPS["texture"][1:]:
        assert spread("plain", texture) > 1.5 * base, texture


def test_attributes_are_uniform_and_independent() -> None:
    scenes = SceneSet(6000, seed=7)
    table = scenes.attributes
    assert table.names == ATTRIBUTES
    assert table.values.shape == (6000, len(ATTRIBUTES))
    for group, values in GROUPS.items():
        part = table.of_group(group)
        assert (part.values.sum(1) == 1).all()
        share, n = part.values.mean(0), len(values)
        assert np.abs(share - 1 / n).max() < 5 * (1 / n * (1 - 1 / n) / 6000) ** 0.5
    correlation = np.corrcoef(table.values.T)
    other = np.array(table.groups)[:, None] != np.array(table.groups)[None]
    assert np.abs(correlation[other]).max() < 5 / 6000**0.5


def test_tables_and_captions_say_what_the_scene_says() -> None:
    scenes = SceneSet(200, seed=9)
    assert scenes.attributes.column("colour:red").tolist() == [
        scene["colour"] == "red" for scene in scenes.scenes
    ]
    rows = scenes.attributes.rows(np.array([5, 2]))
    np.testing.assert_array_equal(rows.values, scenes.attributes.values[[5, 2]])
    for scene, caption in zip(scenes.scenes, scenes.captions, strict=True):
        words = caption.split()
        assert {scene["count"], scene["size"], scene["colour"]} <= set(words)
        assert ("plain" in words) == (scene["background"] == "backdrop")
        assert (scene["pattern"] in words) or scene["pattern"] == "plain"
    example = SceneSet(
        1,
        choices={
            "count": ["three"],
            "size": ["small"],
            "colour": ["red"],
            "pattern": ["striped"],
            "texture": ["smooth"],
            "shape": ["cross"],
            "background": ["grass"],
        },
    )
    assert example.captions == ("three small red striped crosses on grass",)


def test_tasks_give_labels() -> None:
    scenes = SceneSet(50, seed=1, choices={"colour": ["red", "blue"]})
    pairs = scenes.with_labels(("colour", "shape"))
    assert len(pairs.label_names) == 2 * len(GROUPS["shape"])
    assert pairs.label_names[0] == "red circle"
    for scene, label in zip(pairs.scenes, pairs.labels, strict=True):
        assert pairs.label_names[label] == f"{scene['colour']} {scene['shape']}"
    assert pairs.fingerprint == scenes.fingerprint
    assert pairs.scenes is scenes.scenes
    with pytest.raises(UnknownNameError, match="unknown attribute group 'color'"):
        scenes.with_labels("color")
    with pytest.raises(InputError, match="different groups"):
        scenes.with_labels(("shape", "shape"))


def test_excluded_combinations_never_occur() -> None:
    held = [("colour:red", "shape:circle"), ("background:snow",)]
    scenes = SceneSet(800, seed=0, exclude=held)
    for scene in scenes.scenes:
        assert not {"colour:red", "shape:circle"} <= set(scene.attributes)
        assert scene["background"] != "snow"
    assert any(scene["colour"] == "red" for scene in scenes.scenes)
    only = SceneSet(20, seed=0, exclude=lambda scene: scene["shape"] != "ring")
    assert {scene["shape"] for scene in only.scenes} == {"ring"}
    assert only.fingerprint != SceneSet(20, seed=0).fingerprint
    free = SceneSet(800, seed=0)
    kept = [s for s in free.scenes if "background:snow" not in s.attributes]
    assert scenes.scenes[kept[0].index] == kept[0]


@pytest.mark.parametrize("shape", GROUPS["shape"])
def test_outlines_lie_in_the_unit_circle(shape: str) -> None:
    points = outline(shape).points
    assert np.hypot(points[:, 0], points[:, 1]).max() <= 1 + 1e-9
    mask = fill(outline(shape), np.eye(2) * 30, (40.0, 40.0), 80)
    assert mask.shape == (80, 80)
    assert 0.15 < mask.sum() / (np.pi * 30**2) < 1
    assert mask.max() == 1
    assert (mask[0] == 0).all()


def test_lab_of_known_colours() -> None:
    np.testing.assert_allclose(lab((1.0, 1.0, 1.0)), (100, 0, 0), atol=0.1)
    np.testing.assert_allclose(lab((1.0, 0.0, 0.0)), (53.2, 80.1, 67.2), atol=0.3)
    assert distance((0.2, 0.2, 0.2), (0.2, 0.2, 0.2)) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n of at least 1, not 0"),
        ({"n": 5, "seed": -1}, "seed of at least 0"),
        ({"n": 5, "size": 8}, "32 to 1024 pixels"),
        ({"n": 5, "choices": {"colour": ["rde"]}}, "Did you mean 'red'"),
        ({"n": 5, "choices": {"colour": "red"}}, "must be a list of values"),
        ({"n": 5, "choices": {"colors": ["red"]}}, "unknown attribute group 'colors'"),
        ({"n": 5, "exclude": ["colour:red"]}, "give combinations such as"),
        ({"n": 5, "exclude": [("colour:rod",)]}, "unknown attribute 'colour:rod'"),
        ({"n": 5, "exclude": lambda scene: True}, "exclude leaves no scene"),
    ],
)
def test_bad_input_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=message):
        SceneSet(**arguments)


def test_render_scene_checks_its_size() -> None:
    with pytest.raises(InputError, match="not 2000"):
        render_scene(SceneSet(1).scenes[0], size=2000)
    with pytest.raises(InputError, match="not 16"):
        next(render_many(SceneSet(1).scenes, size=16))
    with pytest.raises(UnknownNameError, match="unknown attribute 'colour:rd'"):
        SceneSet(2).attributes.column("colour:rd")
    with pytest.raises(UnknownNameError, match="unknown attribute group 'shap'"):
        SceneSet(2).attributes.of_group("shap")
