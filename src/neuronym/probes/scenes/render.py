"""Draw a scene: background, shadows, objects, light, and a little of a camera's softness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from neuronym.errors import InputError
from neuronym.probes.scenes.backgrounds import BACKGROUNDS
from neuronym.probes.scenes.colours import Palette, draw_palette, separate
from neuronym.probes.scenes.layout import Placement, place
from neuronym.probes.scenes.noise import Field, blur, field, mix
from neuronym.probes.scenes.objects import PATTERNS, TEXTURES, Patch, Surface
from neuronym.probes.scenes.sampling import Scene
from neuronym.probes.scenes.shapes import fill, outline

__all__ = ["Rendered", "check_size", "render_scene"]

_LOOK_STREAM = 1
MIN_SIZE, MAX_SIZE = 32, 1024


@dataclass(frozen=True)
class Rendered:
    """A drawn scene.

    Attributes:
        image: RGB, ``(size, size)`` pixels.
        objects: ``(size, size)`` uint8: 0 is background, k the k-th object (its outline before a
            texture frays it).
    """

    image: Image.Image
    objects: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Object:
    box: tuple[slice, slice]
    inside: tuple[slice, slice]
    outline: Field
    surface: Surface
    colour: Field


def check_size(size: int) -> int:
    """Return ``size`` if scenes can be drawn with so many pixels a side."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise InputError(f"scenes have {MIN_SIZE} to {MAX_SIZE} pixels a side, not {size}")
    return size


def render_scene(scene: Scene, *, size: int = 128) -> Rendered:
    """Draw a scene; the same scene and size give the same bytes.

    Args:
        scene: What to draw; its seed and index fix every detail.
        size: Pixels a side, 32 to 1024.
    """
    check_size(size)
    entropy = np.random.SeedSequence((scene.seed, scene.index, _LOOK_STREAM))
    layout, looks, back, camera = (np.random.default_rng(child) for child in entropy.spawn(4))
    palette = draw_palette(scene["colour"], looks)
    canvas = separate(BACKGROUNDS[scene["background"]](back, size), palette.main)
    angle = math.radians(float(layout.uniform(-155, -100)))
    light = (math.cos(angle), math.sin(angle))
    objects = [
        _draw(scene, placement, palette, size=size, light=light, rng=looks)
        for placement in place(scene["count"], scene["size"], layout)
    ]
    canvas = _shadows(canvas, objects, light=light, depth=float(layout.uniform(0.012, 0.026)))
    labels = np.zeros((size, size), dtype=np.uint8)
    for number, item in enumerate(objects, start=1):
        region = canvas[item.box]
        alpha = item.surface.alpha[item.inside][..., None]
        canvas[item.box] = region + (item.colour[item.inside] - region) * alpha
        labels[item.box][item.outline[item.inside] > 0.5] = number
    return Rendered(_photograph(canvas, camera), labels)


def _draw(
    scene: Scene,
    placement: Placement,
    palette: Palette,
    *,
    size: int,
    light: tuple[float, float],
    rng: np.random.Generator,
) -> _Object:
    shape = outline(scene["shape"])
    radius = placement.radius * size
    turn = math.radians(placement.turn * shape.turn)
    turned = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    widths = np.array([min(1.0, placement.stretch), min(1.0, 1 / placement.stretch)])
    matrix = turned * widths * radius
    reach = math.ceil(radius * 1.16) + 2
    left, top = round(placement.x * size) - reach, round(placement.y * size) - reach
    centre = (placement.x * size - left, placement.y * size - top)
    box = 2 * reach
    line = np.arange(box, dtype=np.float32) + np.float32(0.5)
    x, y = line[None] - np.float32(centre[0]), line[:, None] - np.float32(centre[1])
    inverse = np.linalg.inv(matrix).astype(np.float32)
    patch = Patch(
        u=inverse[0, 0] * x + inverse[0, 1] * y,
        v=inverse[1, 0] * x + inverse[1, 1] * y,
        pixel=1 / radius,
        alpha=fill(shape, matrix, centre, box),
        light=light,
    )
    weight = PATTERNS[scene["pattern"]](patch, rng)
    surface = TEXTURES[scene["texture"]](patch, rng)
    main, second = (np.array(c, dtype=np.float32) for c in (palette.main, palette.second))
    colour = mix(main, second, weight) * surface.shade[..., None]
    colour = np.clip(colour + (1 - colour) * surface.gloss[..., None], 0, 1)
    rows, columns = _clipped(top, box, size), _clipped(left, box, size)
    inside = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    return _Object((rows, columns), inside, patch.alpha, surface, colour)


def _clipped(start: int, length: int, size: int) -> slice:
    return slice(max(0, start), min(size, start + length))


def _shadows(
    canvas: Field, objects: list[_Object], *, light: tuple[float, float], depth: float
) -> Field:
    size = len(canvas)
    mask = np.zeros((size, size), dtype=np.float32)
    for item in objects:
        region = mask[item.box]
        np.maximum(region, item.surface.alpha[item.inside], out=region)
    shift = (round(-light[1] * depth * size), round(-light[0] * depth * size))
    shadow = np.roll(blur(mask, size * 0.014), shift, axis=(0, 1))
    return field(canvas * (1 - np.float32(0.55) * shadow[..., None]))


def _photograph(canvas: Field, rng: np.random.Generator) -> Image.Image:
    size = len(canvas)
    exposure, angle, slope = (
        rng.uniform(0.93, 1.07),
        rng.uniform(0, 2 * math.pi),
        rng.uniform(0, 0.1),
    )
    warmth = float(rng.normal(0, 0.012))
    line = (np.arange(size, dtype=np.float32) / size - 0.5) * np.float32(slope)
    ramp = exposure + line[None] * math.cos(angle) + line[:, None] * math.sin(angle)
    tint = np.array([1 + warmth, 1, 1 - warmth], dtype=np.float32)
    noise = rng.standard_normal((size, size, 1), dtype=np.float32) * np.float32(
        rng.uniform(0.2, 2.2)
    )
    values = canvas * ramp.astype(np.float32)[..., None] * tint * 255 + noise
    image = Image.fromarray(np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8))
    softness = float(rng.uniform(0, 0.55)) * size / 128
    return image.filter(ImageFilter.GaussianBlur(softness)) if softness > 0.3 else image
