"""Pictures of a report: made small, checked, and left out where they are broken."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from neuronym.errors import MissingError, UnreadableError
from neuronym.files import read_manifest
from neuronym.report import ExplainedImage, ReportOptions, write_report
from neuronym.results import Atlas, ProbeImage
from report.helpers import data_of, page, small, unit, visible
from report.synthetic import make_explanation


class TestPictures:
    def explained(self, atlas: Atlas, out: Path, image: Any, **options: int) -> Image.Image:
        item = ExplainedImage(make_explanation(atlas), image)
        text = page(atlas, out, explanations=[item], options=ReportOptions(**options))
        part = text[text.index('id="view-explained"') :]
        source = re.search(r'<img src="(images/[0-9a-f]{16}\.\w+)"', part)
        assert source
        return Image.open(out / source[1])

    def test_a_large_picture_becomes_small(self, atlas: Atlas, tmp_path: Path) -> None:
        file = tmp_path / "big.png"
        Image.new("RGB", (1600, 800), "red").save(file)
        with self.explained(atlas, tmp_path / "o", file, image_size=200) as made:
            assert made.size == (200, 100)

    @pytest.mark.parametrize(
        ("mode", "colour", "name"),
        [("CMYK", (0, 255, 255, 0), "a.jpg"), ("RGBA", (255, 0, 0, 255), "a.png")],
    )
    def test_other_modes_become_plain_colours(
        self, atlas: Atlas, tmp_path: Path, mode: str, colour: Any, name: str
    ) -> None:
        Image.new(mode, (120, 120), colour).save(tmp_path / name)
        with self.explained(atlas, tmp_path / "o", tmp_path / name) as made:
            red, green, blue = made.convert("RGB").getpixel((60, 60))  # type: ignore[misc]
        assert red > 200
        assert green < 60
        assert blue < 60

    def test_sixteen_bit_grey_keeps_its_brightness(self, atlas: Atlas, tmp_path: Path) -> None:
        Image.new("I;16", (120, 120), 32896).save(tmp_path / "a.png")
        with self.explained(atlas, tmp_path / "o", tmp_path / "a.png") as made:
            assert abs(made.convert("L").getpixel((60, 60)) - 128) <= 2  # type: ignore[operator]

    def test_an_animation_shows_its_first_image(self, atlas: Atlas, tmp_path: Path) -> None:
        frames = [Image.new("RGB", (120, 120), colour) for colour in ("red", "blue")]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        with self.explained(atlas, tmp_path / "o", tmp_path / "a.gif") as made:
            assert made.convert("RGB").getpixel((60, 60))[0] > 200  # type: ignore[index]

    def test_turned_pictures_are_set_upright_and_lose_their_notes(
        self, atlas: Atlas, tmp_path: Path
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        exif[0x010E] = "private note"
        Image.new("RGB", (160, 100), "red").save(tmp_path / "a.jpg", exif=exif)
        with self.explained(atlas, tmp_path / "o", tmp_path / "a.jpg") as made:
            assert made.size == (100, 160)
            assert not made.getexif()

    def test_a_tiny_picture_keeps_its_pixels(self, atlas: Atlas, tmp_path: Path) -> None:
        with self.explained(atlas, tmp_path / "o", Image.new("RGB", (32, 32), "red")) as made:
            assert (made.size, made.format) == ((32, 32), "PNG")

    def test_the_image_of_a_bare_explanation_is_found(self, atlas: Atlas, tmp_path: Path) -> None:
        file = tmp_path / "photo.png"
        Image.new("RGB", (300, 300), "red").save(file)
        made = replace(make_explanation(atlas), image=str(file))
        text = page(atlas, tmp_path / "o", explanations=[made])
        assert 'alt="The image that is explained"' in text

    def test_a_bare_explanation_without_its_image(self, atlas: Atlas, tmp_path: Path) -> None:
        made = replace(make_explanation(atlas), image="gone.png")
        text = page(atlas, tmp_path / "o", explanations=[made])
        assert "no picture" in visible(text)

    def test_a_given_picture_must_be_one(self, atlas: Atlas, tmp_path: Path) -> None:
        made = make_explanation(atlas)
        with pytest.raises(MissingError, match=r"image '.*gone\.png' does not exist"):
            write_report(
                atlas, tmp_path / "a", explanations=[ExplainedImage(made, tmp_path / "gone.png")]
            )
        (tmp_path / "no.png").write_text("not a picture")
        with pytest.raises(UnreadableError, match=r"image '.*no\.png' cannot be read"):
            write_report(
                atlas, tmp_path / "b", explanations=[ExplainedImage(made, tmp_path / "no.png")]
            )
        assert not (tmp_path / "b" / "manifest.json").exists()

    def test_broken_thumbnails_are_counted_and_left_blank(self, tmp_path: Path) -> None:
        folder = tmp_path / "atlas"
        (folder / "thumbnails").mkdir(parents=True)
        Image.new("RGB", (96, 96), "red").save(tmp_path / "outside.png")
        (folder / "thumbnails" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
        Image.new("RGB", (96, 96), "blue").save(folder / "thumbnails" / "good.png")
        names = {"a": "thumbnails/cut.jpg", "b": "thumbnails/gone.jpg", "c": "../outside.png"}
        names["d"] = "thumbnails/good.png"
        images = {key: ProbeImage(key, None, name) for key, name in names.items()}
        units = (unit(0, top_images=tuple(names), top_activations=(4.0, 3.0, 2.0, 1.0)),)
        atlas = small(folder, units=(*units, unit(1), unit(2), unit(3)), images=images)
        out = tmp_path / "out"
        text = page(atlas, out)
        assert "3 thumbnails of the atlas could not be read and are left blank" in visible(text)
        assert [bool(image[0]) for image in data_of(text)["images"]] == [False, False, False, True]
        reasons = dict(read_manifest(out, kind="report", schema=1)["unreadable"])
        assert reasons["../outside.png"] == "it lies outside the atlas"
        assert "does not exist" in reasons["thumbnails/gone.jpg"]
        assert len(list((out / "images").iterdir())) == 1
