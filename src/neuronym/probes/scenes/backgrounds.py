"""Procedural backgrounds. Each function draws ``(size, size, 3)`` float32 in 0 to 1."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw

from neuronym.probes.scenes.noise import (
    Field,
    blur,
    field,
    fractal,
    mix,
    resize,
    smooth,
    soft_step,
    warp_grid,
)

__all__ = ["BACKGROUNDS"]


def _rgb(*values: float) -> Field:
    return np.array(values, dtype=np.float32)


def _flat(colour: Field, size: int) -> Field:
    return np.broadcast_to(colour, (size, size, 3)).astype(np.float32)


def backdrop(rng: np.random.Generator, size: int) -> Field:
    """A plain studio backdrop: one pale or muted colour, lit from one side."""
    saturation, value = float(rng.uniform(0.05, 0.32)), float(rng.uniform(0.72, 0.93))
    colour = _rgb(*colorsys.hsv_to_rgb(float(rng.random()), saturation, value))
    x, y = warp_grid(size)
    angle = float(rng.uniform(0, 2 * np.pi))
    ramp = (x - 0.5) * np.float32(np.cos(angle)) + (y - 0.5) * np.float32(np.sin(angle))
    return field(_flat(colour, size) * (1 + np.float32(0.16) * ramp[..., None]))


def sky(rng: np.random.Generator, size: int) -> Field:
    """Blue sky with soft white clouds."""
    _, y = warp_grid(size)
    top = _rgb(0.22, 0.47, 0.83) + np.float32(rng.uniform(-0.05, 0.05))
    low = _rgb(0.62, 0.81, 0.95)
    air = mix(top, low, y)
    clouds = fractal(rng, size, int(rng.integers(3, 5)), 4)
    edge = float(np.quantile(clouds[::4, ::4], rng.uniform(0.55, 0.72)))
    cover = soft_step(clouds, edge + 0.06, 0.16)
    shade = np.clip(1.02 - 0.9 * np.maximum(np.roll(clouds, size // 24, 0) - edge, 0), 0.8, 1)
    white = shade[..., None] * _rgb(1.0, 1.0, 1.0)
    return field(air + (white - air) * (cover[..., None] * np.float32(0.94)))


def grass(rng: np.random.Generator, size: int) -> Field:
    """A meadow seen from above, drawn blade by blade."""
    lushness = np.float32(rng.uniform(0.8, 1.15))
    base = (
        lushness
        * _rgb(0.20, 0.42, 0.12)
        * (0.75 + np.float32(0.5) * smooth(rng, size, 5)[..., None])
    )
    image = Image.fromarray((np.clip(base, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    count = 420
    foot = rng.random((count, 2)) * (size * 1.1)
    tip = (
        foot
        + np.stack([rng.normal(0, 0.022, count), -rng.uniform(0.03, 0.085, count)], axis=1) * size
    )
    tone = rng.random(count) * float(lushness)
    hue = rng.uniform(0.0, 1.0, count)
    red = (40 + 90 * tone * hue).astype(int).tolist()
    green = (84 + 110 * tone).astype(int).tolist()
    blue = (22 + 34 * tone).astype(int).tolist()
    lines = np.concatenate([foot, tip], axis=1).tolist()
    width = max(1, round(size / 96))
    for line, *colour in zip(lines, red, green, blue, strict=True):
        draw.line(line, fill=tuple(colour), width=width)
    return field(np.asarray(image) / 255)


def sand(rng: np.random.Generator, size: int) -> Field:
    """Fine sand with wind ripples."""
    x, y = warp_grid(size)
    bend = fractal(rng, size, 3, 2)
    tilt = np.float32(rng.uniform(-0.6, 0.6))
    ripple = np.sin((y + tilt * x + np.float32(0.35) * bend) * np.float32(rng.uniform(50, 70)))
    grain = rng.random((size, size), dtype=np.float32)
    light = 0.93 + np.float32(0.055) * ripple + np.float32(0.13) * (grain - 0.5)
    tone = _rgb(0.87, 0.74, 0.52) * np.float32(rng.uniform(0.92, 1.04))
    return field(tone * light[..., None])


def water(rng: np.random.Generator, size: int) -> Field:
    """Water with a net of light on its ripples."""
    _, y = warp_grid(size)
    first = resize(rng.random((11, 6), dtype=np.float32), size, size)
    second = resize(rng.random((20, 9), dtype=np.float32), size, size)
    ridge = 1 - np.abs(first + np.float32(0.6) * second - np.float32(0.8)) * np.float32(3.2)
    glint = np.clip(ridge, 0, 1) ** 3
    deep = mix(_rgb(0.10, 0.50, 0.62), _rgb(0.03, 0.30, 0.50), y)
    deep = deep * (0.86 + np.float32(0.28) * first[..., None])
    return field(deep + (_rgb(0.72, 0.94, 0.97) - deep) * (np.float32(0.62) * glint[..., None]))


def wood(rng: np.random.Generator, size: int) -> Field:
    """Wooden planks with grain."""
    x, y = warp_grid(size)
    planks = int(rng.integers(3, 6))
    row = np.minimum((y * planks).astype(np.int64), planks - 1)
    shift = rng.random(planks).astype(np.float32)[row[:, 0]][:, None]
    tone = (0.84 + 0.3 * rng.random(planks)).astype(np.float32)[row[:, 0]][:, None]
    grain = resize(rng.random((size // 2, 5), dtype=np.float32), size, size)
    rings = smooth(rng, size, 3, 7)
    veins = np.sin((y * 26 + shift * 40 + 5 * rings + 2 * x) * np.float32(2.2))
    light = tone * (0.86 + np.float32(0.22) * grain + np.float32(0.05) * veins)
    seam = np.abs(y * planks - np.round(y * planks)) < planks * 0.75 / size
    light = np.where(seam, light * np.float32(0.45), light)
    colour = mix(_rgb(0.50, 0.31, 0.18), _rgb(0.80, 0.59, 0.38), field([[rng.random()]]))
    return field(colour * light[..., None])


def brick(rng: np.random.Generator, size: int) -> Field:
    """A brick wall in running bond."""
    x, y = warp_grid(size)
    rows = int(rng.integers(6, 9))
    columns = rows / 2.1
    v = y * rows + np.float32(rng.random())
    row = np.floor(v).astype(np.int64)
    u = x * np.float32(columns) + np.float32(0.5) * (row % 2) + np.float32(rng.random())
    column = np.floor(u).astype(np.int64)
    tones = rng.random((rows + 2, int(columns) + 4)).astype(np.float32)[row, column]
    inside_v = np.minimum(v - row, 1 - (v - row)) / rows
    inside_u = np.minimum(u - column, 1 - (u - column)) / np.float32(columns)
    face = soft_step(np.minimum(inside_u, inside_v), 0.011, 0.014)
    rough = 0.86 + np.float32(0.28) * fractal(rng, size, 24, 2)
    red = mix(_rgb(0.48, 0.19, 0.13), _rgb(0.74, 0.37, 0.26), tones) * rough[..., None]
    mortar = _rgb(0.80, 0.77, 0.72) * (0.8 + np.float32(0.25) * rough[..., None])
    return mix(mortar, red, face)


def night(rng: np.random.Generator, size: int) -> Field:
    """A starry night sky."""
    _, y = warp_grid(size)
    air = mix(_rgb(0.03, 0.04, 0.15), _rgb(0.13, 0.16, 0.36), y)
    haze = soft_step(fractal(rng, size, 3, 3), 0.62, 0.5)
    air = air + haze[..., None] * _rgb(0.10, 0.08, 0.18)
    stars = np.zeros((size, size), dtype=np.float32)
    count = int(rng.integers(70, 110))
    where = rng.integers(0, size, (2, count))
    stars[where[0], where[1]] = rng.uniform(0.35, 1.0, count).astype(np.float32)
    bright = np.zeros_like(stars)
    bright[where[0][:16], where[1][:16]] = 1
    glow = np.clip(blur(bright, size / 110) * 9, 0, 1)
    return np.clip(air + (stars + glow)[..., None] * _rgb(0.95, 0.96, 1.0), 0, 1)


def snow(rng: np.random.Generator, size: int) -> Field:
    """Snowfall over a snowy slope."""
    x, y = warp_grid(size)
    air = mix(_rgb(0.60, 0.69, 0.80), _rgb(0.80, 0.86, 0.92), y)
    phase, depth = rng.uniform(0, 6.28, 2), rng.uniform(0.5, 0.7)
    ridge = depth + 0.05 * np.sin(5 * x + phase[0]) + 0.03 * np.sin(11 * x + phase[1])
    ground = soft_step((y - ridge).astype(np.float32), 0.0, 0.02)
    drift = fractal(rng, size, 4, 2)
    white = _rgb(0.93, 0.95, 0.99) * (0.90 + np.float32(0.14) * drift[..., None])
    scene = mix(air, np.clip(white, 0, 1), ground)
    image = Image.new("L", (size * 2, size * 2))
    draw = ImageDraw.Draw(image)
    for cx, cy, r in (rng.random((85, 3)) * (2 * size, 2 * size, 1)).tolist():
        radius = (0.010 + 0.016 * r * r) * size
        draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=255)
    flakes = np.asarray(image.reduce(2), dtype=np.float32) / 255
    return field(scene + (1 - scene) * (np.float32(0.92) * flakes[..., None]))


BACKGROUNDS: Mapping[str, Callable[[np.random.Generator, int], Field]] = {
    "backdrop": backdrop,
    "sky": sky,
    "grass": grass,
    "sand": sand,
    "water": water,
    "wood": wood,
    "brick": brick,
    "night": night,
    "snow": snow,
}
