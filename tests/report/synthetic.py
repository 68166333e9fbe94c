"""Atlases and explanations for the tests of the report: drawn images, planted units."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from neuronym.results import (
    Atlas,
    ClassScore,
    Explanation,
    ProbeImage,
    SiteInfo,
    Unit,
    Winner,
)

COLOURS = {
    "red": "#d1495b",
    "orange": "#e98a3a",
    "yellow": "#edc84b",
    "green": "#4f9d69",
    "blue": "#3f72b5",
    "purple": "#7d5ba6",
    "white": "#f4f2ec",
    "black": "#2b2b2f",
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
PATTERNS = ("plain", "stripes", "dots", "checks")
GROUNDS = {
    "sky": ("#a9cbe6", "#e6f0f6"),
    "sand": ("#d9c29a", "#efe3c8"),
    "night": ("#20263f", "#4a4f72"),
}
NEAR = {
    "red": ("crimson", "tomato", "brick"),
    "blue": ("azure", "sea", "denim"),
    "green": ("grass", "moss", "leaf"),
    "circle": ("ball", "round", "coin"),
    "square": ("box", "tile", "block"),
    "triangle": ("pyramid", "wedge", "arrow"),
    "stripes": ("striped", "lines", "zebra"),
    "dots": ("dotted", "spots", "polka dots"),
    "night": ("dark", "evening", "starry sky"),
}


@dataclass(frozen=True)
class Drawn:
    """A drawn image and what it shows."""

    image: Image.Image
    colour: str
    shape: str
    pattern: str
    ground: str

    @property
    def label(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def attributes(self) -> set[str]:
        return {self.colour, self.shape, self.pattern, self.ground}


def draw(generator: np.random.Generator, *, size: int = 112) -> Drawn:
    """Draw one shape on a ground, four times larger and then reduced."""
    colour = str(generator.choice(list(COLOURS)))
    shape = str(generator.choice(SHAPES))
    pattern = str(generator.choice(PATTERNS))
    ground = str(generator.choice(list(GROUNDS)))
    big = 2 * size
    top, bottom = (np.array(_rgb(code), dtype=float) for code in GROUNDS[ground])
    ramp = np.linspace(0, 1, big)[:, None, None]
    sky = np.broadcast_to(top + (bottom - top) * ramp, (big, big, 3)).astype(np.uint8)
    image = Image.fromarray(sky)
    mask = Image.new("L", (big, big))
    _outline(ImageDraw.Draw(mask), shape, big, generator)
    skin = Image.new("RGB", (big, big), COLOURS[colour])
    _texture(ImageDraw.Draw(skin), pattern, big, COLOURS[colour])
    image.paste(skin, mask=mask)
    small = image.resize((size, size), Image.Resampling.LANCZOS)
    return Drawn(small, colour, shape, pattern, ground)


def _rgb(code: str) -> tuple[int, int, int]:
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def _outline(
    pen: ImageDraw.ImageDraw, shape: str, big: int, generator: np.random.Generator
) -> None:
    r = big * generator.uniform(0.24, 0.38)
    x, y = generator.uniform(1.05 * r, big - 1.05 * r, size=2)
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    elif shape == "square":
        pen.rectangle((x - 0.85 * r, y - 0.85 * r, x + 0.85 * r, y + 0.85 * r), fill=255)
    elif shape == "triangle":
        pen.polygon(
            [(x, y - r), (x + 0.9 * r, y + 0.75 * r), (x - 0.9 * r, y + 0.75 * r)], fill=255
        )
    elif shape == "diamond":
        pen.polygon([(x, y - r), (x + 0.8 * r, y), (x, y + r), (x - 0.8 * r, y)], fill=255)
    else:
        w = 0.32 * r
        pen.rectangle((x - w, y - r, x + w, y + r), fill=255)
        pen.rectangle((x - r, y - w, x + r, y + w), fill=255)


def _texture(pen: ImageDraw.ImageDraw, pattern: str, big: int, colour: str) -> None:
    second = tuple(
        int(0.55 * value + (70 if colour == COLOURS["black"] else 0)) for value in _rgb(colour)
    )
    step = big // 10
    if pattern == "stripes":
        for x in range(-big, big, step):
            pen.line((x, 0, x + big, big), fill=second, width=step // 3)
    elif pattern == "dots":
        for x in range(0, big, step):
            for y in range(0, big, step):
                pen.ellipse((x, y, x + step // 2, y + step // 2), fill=second)
    elif pattern == "checks":
        for x in range(0, big, step):
            for y in range(step * ((x // step) % 2), big, 2 * step):
                pen.rectangle((x, y, x + step - 1, y + step - 1), fill=second)


def make_images(
    folder: Path, *, count: int, seed: int = 0
) -> tuple[list[Drawn], dict[str, ProbeImage]]:
    """Draw ``count`` images and save their thumbnails in ``folder/thumbnails``."""
    generator = np.random.default_rng(seed)
    drawn = [draw(generator) for _ in range(count)]
    (folder / "thumbnails").mkdir(parents=True, exist_ok=True)
    images = {}
    for index, item in enumerate(drawn):
        name = f"thumbnails/{index}.jpg"
        item.image.save(folder / name, quality=88)
        images[f"scene-{index}"] = ProbeImage(f"scene-{index}", item.label, name)
    return drawn, images


def make_atlas(
    folder: Path, *, competitive: int = 96, dense: int = 40, competitors: int = 8, count: int = 160
) -> Atlas:
    """Build an atlas whose units detect what the drawn images show.

    Site ``head.lwta`` competes, ``blocks.2.act`` is dense. Some units never win and have no name.
    """
    drawn, images = make_images(folder, count=count)
    kinds = [*COLOURS, *SHAPES, *PATTERNS, *GROUNDS]
    present = np.array([[kind in item.attributes for kind in kinds] for item in drawn])
    generator = np.random.default_rng(1)
    units = [
        *_site_units("head.lwta", competitive, competitors, kinds, present, generator),
        *_site_units("blocks.2.act", dense, None, kinds, present, generator),
    ]
    sites = (
        SiteInfo("head.lwta", competitive, -1, competitors, "winner", 1, 1 / competitors),
        SiteInfo("blocks.2.act", dense, 1, None, "mean", 196, 0.4137),
    )
    shown = {image for unit in units for image in unit.top_images}
    provenance = {
        "model": "scenes-mlp",
        "images": f"scenes:{count}",
        "concepts": "attributes",
        "vision_text": "pocket",
        "sites": "*",
        "similarity": "softwpmi",
        "similarity_keywords": {"top_k": 100},
        "seed": 0,
        "versions": {"neuronym": "0.1", "torch": "2.14.1"},
    }
    kept = {key: image for key, image in images.items() if key in shown}
    return Atlas(sites, tuple(units), kept, provenance).save(folder)


def _site_units(
    site: str,
    count: int,
    competitors: int | None,
    kinds: list[str],
    present: npt.NDArray[np.bool_],
    generator: np.random.Generator,
) -> list[Unit]:
    wants = [int(value) for value in generator.permutation(np.arange(count) % len(kinds))]
    noise = generator.uniform(0.15, 0.9, size=count)
    signal = present[:, wants] + noise * generator.standard_normal((len(present), count))
    silent = generator.random(count) < 0.06
    signal[:, silent] = -1.0
    fired = signal > 0.4
    wins = np.zeros((len(present), count))
    if competitors:
        blocks = signal.reshape(len(present), -1, competitors)
        best = blocks.argmax(2)
        wins = (np.arange(competitors) == best[..., None]).reshape(len(present), count)
        fired = wins.astype(bool) & (signal > 0)
    activations = np.where(fired, np.maximum(signal, 0), 0.0)
    out = []
    for index in range(count):
        order = np.argsort(-activations[:, index], kind="stable")[:9]
        order = order[activations[order, index] > 0]
        kind = kinds[wants[index]] if len(order) else None
        base = float(0.62 - 0.4 * noise[index] + 0.02 * generator.standard_normal())
        others = NEAR.get(kind or "", tuple(generator.permutation(kinds)[:3])) if kind else ()
        out.append(
            Unit(
                site=site,
                unit=index,
                block=index // competitors if competitors else None,
                name=kind,
                score=base if kind else None,
                p_value=float(generator.uniform(0, 0.05)) if kind else None,
                runner_up_names=tuple(str(other) for other in others if other != kind),
                runner_up_scores=tuple(
                    base * (0.93 - 0.09 * rank) for rank in range(sum(o != kind for o in others))
                ),
                firing_rate=float(fired[:, index].mean()),
                win_rate=float(wins[:, index].mean()) if competitors else None,
                top_images=tuple(f"scene-{i}" for i in order),
                top_activations=tuple(float(activations[i, index]) for i in order),
            )
        )
    return out


def make_explanation(
    atlas: Atlas,
    *,
    seed: int = 0,
    shows: frozenset[str] = frozenset({"red", "circle"}),
    classes: tuple[str, ...] = ("red circle", "red square", "blue circle"),
    error: float = 0.0,
) -> Explanation:
    """One winner per block of ``head.lwta``, in favour if named after what the image shows."""
    generator = np.random.default_rng(seed)
    site = atlas.sites[0]
    units = atlas.of_site(site.name)
    winners = []
    for block in range(site.units // (site.competitors or 1)):
        members = [unit for unit in units if unit.block == block and unit.name is not None]
        fitting = [unit for unit in members if unit.name in shows]
        unit = (fitting or members)[int(generator.integers(len(fitting or members)))]
        strength = float(generator.uniform(0.4, 1.0))
        winners.append(
            Winner(
                unit=unit.unit,
                block=block,
                name=unit.name,
                score=unit.score,
                activation=2.4 * strength,
                contribution=strength * (2.1 if fitting else float(generator.uniform(-1, 0.5))),
                win_rate=1.0,
                win_rate_usual=unit.win_rate,
            )
        )
    winners.sort(key=lambda winner: -abs(winner.contribution))
    baseline = 0.31
    logit = baseline + sum(winner.contribution for winner in winners) + error
    logits = np.array([logit, logit - 1.6, logit - 2.9, logit - 4.0, logit - 5.2])
    names = [*classes, "green cross", "yellow diamond"][:5]
    chances = np.exp(logits) / np.exp(logits).sum()
    scores = tuple(
        ClassScore(index, name, float(value), float(chance))
        for index, (name, value, chance) in enumerate(zip(names, logits, chances, strict=True))
    )
    return Explanation(
        image=f"scene-{seed}",
        site=site.name,
        target=scores[0],
        predictions=scores,
        winners=tuple(winners),
        baseline=baseline,
        completeness_error=error,
        competitive=True,
        provenance={},
    )


SUMMARY = {
    "accuracy": {"competitive": 0.9731, "dense": 0.9694},
    "competitors": 8,
    "active_fraction": 0.125,
    "units": {"live": 90, "selective": 61, "right": 54},
    "seconds": {"render": 14.2, "train": 96.4, "dissect": 38.9, "explain": 0.61, "total": 161.8},
}


def make_truth(atlas: Atlas) -> list[dict[str, object]]:
    """Rows of measured truth for the competitive site."""
    generator = np.random.default_rng(5)
    rows = []
    for unit in atlas.of_site("head.lwta"):
        auroc = float(generator.uniform(0.7, 1.0)) if unit.name else 0.5
        selective = auroc >= 0.9
        rows.append(
            {
                "site": unit.site,
                "unit": unit.unit,
                "attribute": f"colour:{unit.name or 'red'}",
                "auroc": auroc,
                "selective": selective,
                "right": selective and bool(generator.random() < 0.88),
            }
        )
    return rows
