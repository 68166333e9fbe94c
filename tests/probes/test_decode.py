"""Decoding: every kind of file becomes 8-bit RGB, and a broken one says what is wrong."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuronym.errors import InputError, UnreadableError
from neuronym.probes import decode, reduced_side, to_rgb
from probes_pictures import encoded, jpeg, photo


def close(image: Image.Image, colour: tuple[int, int, int], *, tolerance: int = 4) -> bool:
    return bool(np.abs(np.asarray(image, dtype=int) - colour).max() <= tolerance)


def test_a_plain_jpeg_and_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg())
    for source in (jpeg(), path, str(path)):
        image = decode(source)
        assert (image.mode, image.size) == ("RGB", (40, 30))
    error = np.abs(np.asarray(decode(jpeg()), dtype=int) - np.asarray(photo(), dtype=int))
    assert error.mean() < 6


def test_cmyk_is_converted_also_when_it_is_stored_inverted() -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 40))
    inverted = encoded(red.convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in inverted
    assert close(decode(inverted), (200, 30, 40), tolerance=6)
    assert close(decode(encoded(red.convert("CMYK"), "TIFF")), (200, 30, 40))


def test_deep_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16)[None].repeat(4, 0)
    for kind in ("PNG", "TIFF"):
        image = decode(encoded(Image.fromarray(ramp), kind))
        assert image.mode == "RGB"
        values = np.asarray(image)[0, :, 0].astype(int)
        np.testing.assert_allclose(values, np.arange(256), atol=1)
    wide = decode(encoded(Image.fromarray(ramp.astype(np.int32)), "TIFF"))
    np.testing.assert_allclose(np.asarray(wide)[0, :, 1].astype(int), np.arange(256), atol=1)


def test_float_images_keep_their_range() -> None:
    unit = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(4, 0)
    for values, expected in (
        (unit, np.arange(256)),
        (unit * 100, np.arange(256) * 100 / 255),
        (unit * 2000 - 1000, np.arange(256)),
    ):
        image = decode(encoded(Image.fromarray(values), "TIFF"))
        np.testing.assert_allclose(np.asarray(image)[0, :, 2].astype(int), expected, atol=1)
    constant = to_rgb(Image.fromarray(np.full((3, 3), 777.0, dtype=np.float32)))
    assert close(constant, (0, 0, 0))


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert close(decode(data), (255, 0, 0), tolerance=6), kind


def test_transparency_lies_over_white() -> None:
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    assert close(decode(encoded(half, "PNG")), (255, 127, 127))
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert close(decode(encoded(clear, "PNG")), (255, 255, 255))
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([0, 0, 0] * 3 + [10, 200, 30])
    assert close(decode(encoded(palette, "PNG")), (10, 200, 30))
    assert close(decode(encoded(palette, "PNG", transparency=3)), (255, 255, 255))
    keyed = encoded(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert close(decode(keyed), (255, 255, 255))
    grey = Image.new("LA", (8, 8), (0, 128))
    assert close(decode(encoded(grey, "PNG")), (127, 127, 127))


def test_the_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (20, 10), "white")
    image.paste("black", (0, 0, 5, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode(encoded(image, "JPEG", exif=exif, quality=95))
    assert turned.size == (10, 20)
    pixels = np.asarray(turned.convert("L"))
    assert pixels[:4].max() < 40
    assert pixels[8:].min() > 215


def test_one_bit_and_grey_images() -> None:
    assert close(decode(encoded(Image.new("1", (9, 9), 1), "PNG")), (255, 255, 255))
    assert close(decode(encoded(Image.new("L", (9, 9), 77), "PNG")), (77, 77, 77))


def test_a_truncated_jpeg_is_an_error_that_names_it() -> None:
    data = encoded(photo(size=(300, 300)), "JPEG")
    with pytest.raises(UnreadableError, match=r"image 'x/7\.jpg' is broken: .*truncated"):
        decode(data[: len(data) // 2], name="x/7.jpg")


def test_other_broken_files(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"image 'e\.png' is empty \(0 bytes\)"):
        decode(b"", name="e.png")
    with pytest.raises(UnreadableError, match=r"'n\.jpg' is not in a known image format"):
        decode(b"not an image at all", name="n.jpg")
    path = tmp_path / "gone.png"
    with pytest.raises(UnreadableError, match=r"gone\.png' cannot be read: No such file"):
        decode(path)
    with pytest.raises(UnreadableError, match="cannot be read: Is a directory"):
        decode(tmp_path)
    png = bytearray(encoded(photo(size=(200, 200)), "PNG"))
    png[len(png) // 2] ^= 0xFF
    with pytest.raises(UnreadableError, match=r"'c\.png' is broken"):
        decode(bytes(png), name="c.png")


def png_that_claims(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("side", [9_999, 15_000, 200_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_it_unfolds(side: int) -> None:
    data = png_that_claims(side)
    assert len(data) < 100
    with pytest.raises(UnreadableError, match=r"image 'b\.png' is too large: "):
        decode(data, name="b.png")


def test_a_decompression_bomb_is_refused_where_warnings_are_errors() -> None:
    with pytest.raises(UnreadableError, match=r"image 'b\.png' is too large: .*100000000 pixels"):
        decode(png_that_claims(10_000), name="b.png")


def test_to_rgb_refuses_what_is_no_image() -> None:
    with pytest.raises(InputError, match="expected a PIL image, not ndarray"):
        to_rgb(np.zeros((3, 3, 3), dtype=np.uint8))
    lazy = Image.open(io.BytesIO(encoded(photo(), "PNG")))
    assert type(to_rgb(lazy)) is Image.Image


@pytest.mark.parametrize(
    ("at_least", "size"),
    [
        (None, (403, 305)),
        (306, (403, 305)),
        (153, (403, 305)),  # 305 / 2 is less
        (152, (202, 153)),
        (76, (101, 77)),
        (38, (51, 39)),
        (1, (51, 39)),
    ],
)
def test_a_jpeg_is_decoded_at_reduced_size(at_least: int | None, size: tuple[int, int]) -> None:
    data = encoded(photo(0, (403, 305)), "JPEG", quality=92)
    image = decode(data, at_least=at_least)
    assert (image.mode, image.size) == ("RGB", size)
    # The last row and column stand for less than the others: the picture goes on at its border.
    step = -(-403 // size[0])
    border = ((0, size[1] * step - 305), (0, size[0] * step - 403), (0, 0))
    padded = np.pad(np.asarray(photo(0, (403, 305)), dtype=float), border, mode="edge")
    wanted = padded.reshape(size[1], step, size[0], step, 3).mean((1, 3))
    assert np.abs(np.asarray(image) - wanted).mean() < 3


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_other_jpegs_are_reduced_too(mode: str, progressive: bool) -> None:
    full = photo(0, (160, 240)).convert(mode)
    image = decode(encoded(full, "JPEG", progressive=progressive), at_least=40)
    assert (image.mode, image.size) == ("RGB", (40, 60))
    wanted = np.asarray(full.convert("RGB").resize((40, 60), Image.Resampling.BOX), dtype=int)
    assert np.abs(np.asarray(image, dtype=int) - wanted).mean() < 4


def test_the_orientation_is_applied_to_a_reduced_jpeg() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    data = encoded(photo(0, (320, 160)), "JPEG", exif=exif)
    assert decode(data, at_least=40).size == (40, 80)
    turned = np.asarray(decode(data).resize((40, 80), Image.Resampling.BOX), dtype=int)
    assert np.abs(np.asarray(decode(data, at_least=40), dtype=int) - turned).mean() < 3


def test_other_formats_keep_their_size() -> None:
    for kind in ("PNG", "WEBP", "GIF", "TIFF"):
        assert decode(encoded(photo(0, (320, 160)), kind), at_least=10).size == (320, 160)


def test_a_broken_jpeg_is_refused_also_at_reduced_size() -> None:
    data = encoded(photo(0, (320, 160)), "JPEG")
    with pytest.raises(UnreadableError, match="image 'x' is broken: "):
        decode(data[: len(data) // 2], name="x", at_least=20)
    frame = data.index(b"\xff\xc0") + 5  # height and width of the first frame
    huge = data[:frame] + struct.pack(">HH", 9440, 9440) + data[frame + 4 :]
    with pytest.raises(UnreadableError, match="is too large: 9440 x 9440 pixels"):
        decode(huge, at_least=20)


@pytest.mark.parametrize("at_least", [0, -4])
def test_a_reduced_size_below_one_is_refused(at_least: int) -> None:
    with pytest.raises(InputError, match=f"at_least must be 1 pixel or more, not {at_least}"):
        decode(jpeg(), at_least=at_least)


def test_one_size_serves_several_models() -> None:
    assert reduced_side(224, 256, factor=1.5) == 384
    assert reduced_side(257, factor=1.25) == 322
    assert reduced_side(100) == 200
    assert reduced_side(224, None) is None
    for sides, options, message in [
        ((), {}, "needs sides of 1 pixel or more"),
        ((0,), {}, "needs sides of 1 pixel or more"),
        ((8,), {"factor": 0.9}, "factor must be 1 or more, not 0.9"),
    ]:
        with pytest.raises(InputError, match=message):
            reduced_side(*sides, **options)
