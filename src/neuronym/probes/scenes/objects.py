"""Patterns and textures of an object, in its own coordinates.

``u`` and ``v`` run from -1 to 1 across the object's circle; ``pixel`` is the width of a pixel in
these coordinates, over which edges are softened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from neuronym.probes.scenes.noise import Field, blur, field, fractal, resize, soft_step

__all__ = ["PATTERNS", "TEXTURES", "Patch", "Surface"]


@dataclass(frozen=True)
class Patch:
    """The box around one object.

    Attributes:
        u, v: Coordinates of the object at each pixel, ``(box, box)``.
        pixel: Width of a pixel in these coordinates.
        alpha: Coverage of the shape, ``(box, box)``, 0 to 1.
        light: Direction towards the light in the image, ``(x, y)``, unit length.
    """

    u: Field
    v: Field
    pixel: float
    alpha: Field
    light: tuple[float, float]


@dataclass(frozen=True)
class Surface:
    """How a texture changes an object.

    Attributes:
        alpha: Coverage after the texture (fur frays the edge), ``(box, box)``.
        shade: Factor of the colour, ``(box, box)``.
        gloss: White light that is added, ``(box, box)``.
    """

    alpha: Field
    shade: Field
    gloss: Field


def _fraction(values: Field) -> Field:
    """Distance from the nearest whole number, 0 to 0.5."""
    return np.abs(values - np.round(values))


def plain(patch: Patch, rng: np.random.Generator) -> Field:
    """No pattern."""
    return np.zeros_like(patch.u)


def striped(patch: Patch, rng: np.random.Generator) -> Field:
    """Straight stripes at any angle."""
    angle, period = rng.uniform(0, np.pi), float(rng.uniform(0.46, 0.58))
    along = patch.u * np.float32(np.cos(angle)) + patch.v * np.float32(np.sin(angle))
    wave = _fraction(along / np.float32(period) + np.float32(rng.random()))
    return 1 - soft_step(wave, 0.22, 1.4 * patch.pixel / period)


def dotted(patch: Patch, rng: np.random.Generator) -> Field:
    """Round dots on a staggered grid."""
    spacing = float(rng.uniform(0.48, 0.56))
    u, v = _turned(patch, float(rng.uniform(-0.4, 0.4)))
    row = v / np.float32(spacing * 0.87) + np.float32(rng.random())
    stagger = np.float32(0.5) * (np.round(row) % 2)
    across = _fraction(u / np.float32(spacing) + stagger + np.float32(rng.random()))
    radius = np.hypot(across * np.float32(spacing), _fraction(row) * np.float32(spacing * 0.87))
    return 1 - soft_step(radius, 0.165, 1.4 * patch.pixel)


def checkered(patch: Patch, rng: np.random.Generator) -> Field:
    """A chessboard."""
    side = float(rng.uniform(0.34, 0.42))
    u, v = _turned(patch, float(rng.uniform(-0.5, 0.5)))
    first, second = u / np.float32(2 * side) + 0.25, v / np.float32(2 * side) + 0.25
    soft = 1.4 * patch.pixel / (2 * side)
    a, b = soft_step(_fraction(first), 0.25, soft), soft_step(_fraction(second), 0.25, soft)
    return a * (1 - b) + b * (1 - a)


def zigzag(patch: Patch, rng: np.random.Generator) -> Field:
    """Zigzag bands."""
    u, v = _turned(patch, float(rng.uniform(-0.35, 0.35)))
    period = float(rng.uniform(0.50, 0.60))
    teeth = _fraction(u / np.float32(0.62) + np.float32(rng.random())) * np.float32(0.72)
    wave = _fraction((v + teeth) / np.float32(period) + np.float32(rng.random()))
    return 1 - soft_step(wave, 0.22, 1.6 * patch.pixel / period)


def marbled(patch: Patch, rng: np.random.Generator) -> Field:
    """Irregular veins, as in marble."""
    box = len(patch.u)
    bend = fractal(rng, box, 3, 3) - np.float32(0.5)
    u, _ = _turned(patch, float(rng.uniform(0, np.pi)))
    wave = np.abs(np.sin((u * np.float32(1.6) + bend * np.float32(4.2)) * np.float32(2.2)))
    return 1 - soft_step(wave, 0.34, 0.42)


def _turned(patch: Patch, angle: float) -> tuple[Field, Field]:
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * patch.u + s * patch.v, c * patch.v - s * patch.u


def _relief(patch: Patch, depth: float) -> Field:
    """Light on the rounded edges of the shape: positive towards the light."""
    radius = 1 / patch.pixel
    height = blur(patch.alpha, max(0.8, radius * 0.13))
    slope_y, slope_x = np.gradient(height)
    x, y = patch.light
    facing = -(slope_x * np.float32(x) + slope_y * np.float32(y))
    return field(np.clip(facing * np.float32(radius * depth), -0.45, 0.45))


def _rim(relief: Field) -> Field:
    """Light that a facing edge adds, so that black objects have a form too."""
    return field(np.clip(relief, 0, 1) * np.float32(0.26))


def smooth(patch: Patch, rng: np.random.Generator) -> Surface:
    """Matte, with softly rounded edges."""
    relief = _relief(patch, 0.6)
    return Surface(patch.alpha, 1 + relief, _rim(relief))


def shiny(patch: Patch, rng: np.random.Generator) -> Surface:
    """Glossy, with a highlight and a band of reflected light."""
    relief = _relief(patch, 1.05)
    x, y = (np.float32(value) for value in patch.light)
    across, along = patch.u * x + patch.v * y, patch.v * x - patch.u * y
    band = np.exp(-(((across - 0.34 + 0.25 * along * along) / 0.13) ** 2))
    core = np.exp(-((across - 0.42) ** 2 + (along - 0.1) ** 2) / np.float32(0.022))
    edge = np.clip(relief - 0.10, 0, 1) * np.float32(0.9)
    gloss = np.clip(0.38 * band + 0.75 * core + edge, 0, 0.92)
    shade = (1 + relief) * (1 + np.float32(0.22) * across)
    return Surface(patch.alpha, shade, gloss.astype(np.float32))


def grainy(patch: Patch, rng: np.random.Generator) -> Surface:
    """Rough, like sandpaper or coarse stone."""
    box = len(patch.alpha)
    coarse = max(2, round(box * 0.62))
    fine = rng.random((box, box), dtype=np.float32) - np.float32(0.5)
    speck = resize(rng.random((coarse, coarse), dtype=np.float32), box, box) - np.float32(0.5)
    noise = np.clip(0.5 * fine + 0.75 * speck, -0.5, 0.5)
    relief = _relief(patch, 0.5)
    shade = (1 + relief) * (1 + np.float32(0.85) * noise)
    light = np.clip(noise - 0.24, 0, 1) * np.float32(1.3) + _rim(relief)
    return Surface(patch.alpha, shade, light)


def furry(patch: Patch, rng: np.random.Generator) -> Surface:
    """Covered with hair, and frayed at the edge."""
    radius_pixels = 1 / patch.pixel
    radius = np.hypot(patch.u, patch.v)
    angle = np.arctan2(patch.v, patch.u) / np.float32(2 * np.pi) + np.float32(0.5)
    strands = max(24, round(radius_pixels * 2.6))
    hairs = rng.random((strands, 9), dtype=np.float32)
    twist = angle + np.float32(0.05) * np.sin(radius * 5 + np.float32(6 * rng.random()))
    column = (twist * strands).astype(np.int64) % strands
    offset = rng.random(strands).astype(np.float32)[column]
    row = np.clip((radius * 5 + offset * 2).astype(np.int64), 0, 8)
    hair = hairs[column, row]
    soft = blur(patch.alpha, max(1.0, radius_pixels * 0.10))
    alpha = soft_step(
        soft + np.float32(0.62) * (hair - 0.5) * (1 - np.abs(2 * soft - 1)), 0.46, 0.3
    )
    shade = (1 + _relief(patch, 0.45)) * (0.74 + np.float32(0.5) * hair)
    gloss = np.clip(hair - 0.72, 0, 1) * np.float32(0.55)
    return Surface(alpha, shade, gloss)


PATTERNS: Mapping[str, Callable[[Patch, np.random.Generator], Field]] = {
    "plain": plain,
    "striped": striped,
    "dotted": dotted,
    "checkered": checkered,
    "zigzag": zigzag,
    "marbled": marbled,
}
TEXTURES: Mapping[str, Callable[[Patch, np.random.Generator], Surface]] = {
    "smooth": smooth,
    "shiny": shiny,
    "grainy": grainy,
    "furry": furry,
}
