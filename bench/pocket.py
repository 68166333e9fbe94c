"""The pocket vision-text model: every figure that is claimed for it, and a naive twin's beside.

    python bench/pocket.py --data FOLDER [--variant efficientnet_lite0] [--arrays DIR]
                           [--json FILE] [--card CARD.md] [--only cifar scenes ...] [--threads 2]

``FOLDER`` holds ``cifar10-test.parquet`` and ``imagenet-photos.parquet``. The naive twin is ConSE
(posterior at temperature 2 times the MiniLM vectors of the labels' names), from the same towers in
the same process. Scores are plain dot products, centred per concept over the images. Nothing
fitted has seen CIFAR-10's test images, the photos whose path's CRC-32 is divisible by 5, the
scenes of these seeds, or the lemmas and synonyms whose CRC-32 is divisible by 5.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from neuronym import probes
from neuronym.files import write_json
from neuronym.fit_pocket import WordNet, held_out, held_out_photo, write_figures
from neuronym.fit_pocket.phrases import fitted_words, unfitted_words
from neuronym.fit_pocket.scene_part import UNFITTED_PAIRS, unfitted_pairs
from neuronym.probes.scenes import GROUPS, SceneSet
from neuronym.similarity import SIMILARITIES
from neuronym.vision_text.pocket import PocketModel, PocketOptions, load_pocket
from neuronym.vision_text.pocket.minilm import MiniLM
from neuronym.vision_text.pocket.space import softmax
from neuronym.vision_text.pocket.tower import ImageTower

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

FRESH_SEED = 424_242
SCENES = 1000
GROUPS_PLANTED = 60
CONCEPTS = 3000
NOISE = 0.25
DRAWS = 10
SYNONYM_GROUPS = ("colour", "shape", "pattern", "texture", "background")


@dataclass(frozen=True)
class Figure:
    """One measured share.

    Attributes:
        name: What it is.
        value: Of this model, 0 to 1.
        error: Standard error.
        n: Number of cases.
        naive: ConSE's value, where it is measured.
        chance: What guessing gives, where it is known.
    """

    name: str
    value: float
    error: float
    n: int
    naive: float | None = None
    chance: float | None = None


class Embedded:
    """A model, ConSE from the same towers, and embeddings that are computed once."""

    def __init__(self, model: PocketModel, variant: str) -> None:
        self.model = model
        self._tower = ImageTower(variant)
        self._minilm = MiniLM()
        wordnet = WordNet()
        from timm.data import ImageNetInfo

        self.labels = list(ImageNetInfo("imagenet-1k").label_names())
        self.label_names = [wordnet[wnid].lemmas[0] for wnid in self.labels]
        self._label_vectors = self._minilm.embed(self.label_names)
        self._known: dict[str, tuple[FloatArray, FloatArray]] = {}

    def images(self, source: probes.ProbeSet, rows: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        """Return the model's and ConSE's embeddings of images, ``(images, dim)`` each."""
        key = f"{source.fingerprint}:{len(rows)}:{hash(tuple(rows))}"
        if key not in self._known:
            ours, naive = [], []
            for start in range(0, len(rows), 64):
                batch = [source.image(row) for row in rows[start : start + 64]]
                ours.append(self.model.embed_images(batch))
                logits = self._tower.features(batch).logits
                naive.append(softmax(logits / np.float32(2)) @ self._label_vectors)
            self._known[key] = np.concatenate(ours), np.concatenate(naive)
        return self._known[key]

    def scores(
        self, images: tuple[FloatArray, FloatArray], texts: Sequence[str]
    ) -> tuple[FloatArray, FloatArray]:
        """Return both models' scores ``(images, texts)``, centred per text."""
        ours = images[0] @ self.model.embed_texts(texts).T
        naive = images[1] @ self._minilm.embed(texts).T
        return ours - ours.mean(0), naive - naive.mean(0)


def share(name: str, right: BoolArray, naive: BoolArray | None, chance: float | None) -> Figure:
    value, n = float(right.mean()), len(right)
    error = float(np.sqrt(value * (1 - value) / n))
    return Figure(name, value, error, n, None if naive is None else float(naive.mean()), chance)


def top(scores: FloatArray, truth: npt.NDArray[np.int64], k: int) -> BoolArray:
    """Whether the true column is among each row's k largest."""
    own = scores[np.arange(len(scores)), truth]
    return np.asarray((scores > own[:, None]).sum(1) < k)


def cifar(embedded: Embedded, data: Path) -> list[Figure]:
    """Zero-shot by class name; the first 200 test images of every class, and all."""
    source = probes.load(str(data / "cifar10-test.parquet"))
    assert source.labels is not None
    assert source.label_names is not None
    labels = source.labels
    images = embedded.images(source, range(len(source)))
    first = np.concatenate([np.flatnonzero(labels == c)[:200] for c in range(10)])
    figures = []
    for title, rows in (("2,000 images", first), ("all 5,000", np.arange(len(source)))):
        part = images[0][rows], images[1][rows]
        ours, naive = (
            s.argmax(1) == labels[rows] for s in embedded.scores(part, source.label_names)
        )
        figures.append(share(f"CIFAR-10, {title}", ours, naive, 0.1))
        if len(rows) == len(source):
            kept = np.array([held_out(name) for name in source.label_names])[labels]
            figures.append(share("… classes whose name was held out", ours[kept], naive[kept], 0.1))
            figures.append(share("… other classes", ours[~kept], naive[~kept], 0.1))
    return figures


def photos(embedded: Embedded, data: Path) -> list[Figure]:
    """Photos to the names of their labels: among the names present, and among all 1000."""
    source = probes.load(str(data / "imagenet-photos.parquet"))
    assert source.labels is not None
    images = embedded.images(source, range(len(source)))
    away = np.array([held_out_photo(name) for name in source.ids])
    unseen = np.array([held_out(name) for name in embedded.label_names])
    figures = []
    for title, rows in (
        ("held-out photos", np.flatnonzero(away)),
        ("all photos", np.arange(len(away))),
    ):
        truth = source.labels[rows]
        present = sorted(set(truth.tolist()))
        own = [embedded.label_names[label] for label in present]
        place = np.searchsorted(present, truth)
        part = images[0][rows], images[1][rows]
        for texts, target, what in (
            (own, place, f"{len(own)} names"),
            (embedded.label_names, truth, "1000 names"),
        ):
            ours, naive = embedded.scores(part, texts)
            for k in (1, 5):
                a, b = top(ours, target, k), top(naive, target, k)
                figures.append(share(f"{title} → {what} @{k}", a, b, k / len(texts)))
                if len(texts) == 1000:
                    lost = unseen[truth]
                    figures.append(share(f"… names fitted @{k}", a[~lost], b[~lost], None))
                    figures.append(share(f"… names held out @{k}", a[lost], b[lost], None))
    return figures + few_names(embedded, source, images, unseen)


def few_names(
    embedded: Embedded,
    source: probes.ProbeSet,
    images: tuple[FloatArray, FloatArray],
    unseen: BoolArray,
) -> list[Figure]:
    """Draws of 200 photos to their own names, where these were fitted: the trial's setting."""
    assert source.labels is not None
    known = np.flatnonzero(~unseen[source.labels])
    rng = np.random.default_rng(FRESH_SEED)
    right: dict[int, list[tuple[BoolArray, BoolArray]]] = {1: [], 5: []}
    for _ in range(DRAWS):
        rows = rng.choice(known, 200, replace=False)
        truth = source.labels[rows]
        present = sorted(set(truth.tolist()))
        part = images[0][rows], images[1][rows]
        ours, naive = embedded.scores(part, [embedded.label_names[label] for label in present])
        place = np.searchsorted(present, truth)
        for k, found in right.items():
            found.append((top(ours, place, k), top(naive, place, k)))
    figures = []
    for k, found in right.items():
        a, b = (np.mean([pair[side].mean() for pair in found]) for side in (0, 1))
        error = float(np.sqrt(a * (1 - a) / 200))
        name = f"200 photos → 200 fitted names @{k}, mean of {DRAWS} draws"
        figures.append(Figure(name, float(a), error, 200, float(b), k / 200))
    return figures


def planted_groups(source: probes.ProbeSet, seed: int) -> tuple[list[str], BoolArray, list[str]]:
    """Draw groups of WordNet whose members are photos, and single-word concepts around them.

    Returns:
        Names of the groups, ``(photos, groups)`` membership, and the concepts, names included.
    """
    from timm.data import ImageNetInfo

    wordnet = WordNet()
    labels = ImageNetInfo("imagenet-1k").label_names()
    assert source.labels is not None
    own = [labels[label] for label in source.labels.tolist()]
    above = [{wnid, *wordnet.ancestors(wnid, depth=64)} for wnid in own]
    rng = np.random.default_rng(seed)
    groups: dict[str, BoolArray] = {}
    for wnid in sorted(set().union(*above)):
        name = wordnet[wnid].lemmas[0]
        member = np.array([wnid in each for each in above])
        single = " " not in name and name.isalpha() and name == name.lower()
        new = name not in groups and not any((member == other).all() for other in groups.values())
        if single and new and 4 <= member.sum() <= 200:
            groups[name] = member
    names = sorted(groups)
    chosen = [
        names[i] for i in rng.choice(len(names), min(GROUPS_PLANTED, len(names)), replace=False)
    ]
    wide = (wordnet[wnid].lemmas[0] for wnid in ImageNetInfo("imagenet-22k").label_names())
    words = sorted({w for w in wide if w.isalpha() and w == w.lower()} - set(chosen))
    picked = rng.choice(len(words), CONCEPTS - len(chosen), replace=False)
    concepts = sorted([*chosen, *(words[i] for i in picked)])
    return chosen, np.stack([groups[name] for name in chosen], axis=1), concepts


def planted(embedded: Embedded, data: Path, seed: int = 0) -> list[Figure]:
    """Units that fire on a WordNet group, with noise, named among 3,000 words."""
    source = probes.load(str(data / "imagenet-photos.parquet"))
    names, member, concepts = planted_groups(source, seed)
    images = embedded.images(source, range(len(source)))
    rng = np.random.default_rng(seed + 1)
    units = member + NOISE * rng.standard_normal(member.shape)
    away = np.array([held_out_photo(name) for name in source.ids])
    enough = member[away].sum(0) >= 2
    unseen = np.array([held_out(name) for name in names])
    figures = []
    for similarity in ("cosine", "soft_wpmi"):
        for title, rows, asked in (
            ("800 photos", np.ones(len(away), dtype=np.bool_), np.ones(len(names), dtype=np.bool_)),
            ("held-out photos", away, enough),
        ):
            part = images[0][rows], images[1][rows]
            target = np.array([concepts.index(name) for name in names])
            scores = embedded.scores(part, concepts)
            options = [{}, {}]
            if similarity == "soft_wpmi":
                k = min(100, int(rows.sum()) // 8)
                options = [
                    {"top_k": k, "scale": embedded.model.logit_scale / 10},
                    {"top_k": k, "scale": 10.0},
                ]
            fits = [
                SIMILARITIES[similarity](
                    torch.from_numpy(units[rows]).float(), torch.from_numpy(score), **option
                ).numpy()
                for score, option in zip(scores, options, strict=True)
            ]
            label = f"planted groups, {similarity}, {title}"
            for k in (1, 5):
                a, b = (top(fit, target, k) for fit in fits)
                figures.append(share(f"{label} @{k}", a[asked], b[asked], k / CONCEPTS))
                if title == "800 photos":
                    figures.append(share(f"… names fitted @{k}", a[~unseen], b[~unseen], None))
                    figures.append(share(f"… names held out @{k}", a[unseen], b[unseen], None))
    return figures


def scenes(embedded: Embedded, data: Path) -> list[Figure]:
    """Attributes of fresh scenes, of fitted combinations and of combinations never fitted."""
    del data
    source = SceneSet(SCENES, seed=FRESH_SEED)
    images = embedded.images(source, range(len(source)))
    figures = []
    for group, values in GROUPS.items():
        texts = list(values)
        truth = np.array([values.index(scene[group]) for scene in source.scenes])
        ours, naive = (s.argmax(1) == truth for s in embedded.scores(images, texts))
        new = np.array(
            [any(group in pair for pair in unfitted_pairs(scene)) for scene in source.scenes]
        )
        chance = 1 / len(values)
        figures.append(share(f"scenes, {group}, fresh", ours[~new], naive[~new], chance))
        if any(group in pair for pair in UNFITTED_PAIRS):
            figures.append(share("… combinations never fitted", ours[new], naive[new], chance))
    return figures


def synonyms(embedded: Embedded, data: Path) -> list[Figure]:
    """Synonyms never fitted: does their score single out their own attribute's scenes?"""
    del data
    source = SceneSet(SCENES, seed=FRESH_SEED)
    images = embedded.images(source, range(len(source)))
    figures = []
    for group in SYNONYM_GROUPS:
        values = GROUPS[group]
        for title, known in (("never fitted", unfitted_words()), ("fitted", fitted_words())):
            pairs = [(w, v) for v, words in known[group].items() for w in words if w != v]
            shown = source.attributes.of_group(group).values.astype(np.float32)
            columns = embedded.scores(images, [word for word, _ in pairs])
            best = [
                SIMILARITIES["auroc"](
                    torch.from_numpy(column),
                    torch.from_numpy(shown),
                    labels=torch.from_numpy(shown > 0),
                )
                .numpy()
                .argmax(1)
                for column in columns
            ]
            truth = np.array([values.index(value) for _, value in pairs])
            chance = 1 / len(values)
            figures.append(
                share(f"synonyms {title}, {group}", best[0] == truth, best[1] == truth, chance)
            )
    return figures


PARTS: dict[str, Callable[[Embedded, Path], list[Figure]]] = {
    "cifar": cifar,
    "photos": photos,
    "planted": planted,
    "scenes": scenes,
    "synonyms": synonyms,
}


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| figure | pocket | ± | n | ConSE | chance |", "|---|---|---|---|---|---|"]
    for figure in figures:
        naive = "" if figure.naive is None else f"{figure.naive:.3f}"
        chance = "" if figure.chance is None else f"{figure.chance:.3f}"
        lines.append(
            f"| {figure.name} | {figure.value:.3f} | {figure.error:.3f} | {figure.n} "
            f"| {naive} | {chance} |"
        )
    return "\n".join(lines)


def speed(model: PocketModel, source: probes.ProbeSet) -> str:
    """Images and texts embedded per second, measured here and now."""
    images = [source.image(row) for row in range(128)]
    model.embed_images(images[:16])
    start = time.perf_counter()
    model.embed_images(images)
    return (
        f"{128 / (time.perf_counter() - start):.1f} images/s on {torch.get_num_threads()} threads"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--variant", default="efficientnet_lite0")
    parser.add_argument("--arrays", type=Path)
    parser.add_argument("--json", type=Path, help="written after each part; parts left out stay")
    parser.add_argument("--card", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = load_pocket(asked.variant, options=PocketOptions(arrays=asked.arrays))
    embedded = Embedded(model, asked.variant)
    facts = {"variant": asked.variant, "fingerprint": model.fingerprint}
    parts = earlier(asked.json, facts)
    rate = speed(model, probes.load(str(asked.data / "imagenet-photos.parquet")))
    for name in asked.only:
        start = time.perf_counter()
        parts[name] = PARTS[name](embedded, asked.data)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        if asked.json:
            rows = {part: [asdict(figure) for figure in found] for part, found in parts.items()}
            write_json(asked.json, {**facts, "speed": rate, "figures": rows})
    figures = [figure for name in PARTS for figure in parts.get(name, [])]
    shown = f"{table(figures)}\n\n{asked.variant}, logit scale {model.logit_scale:g}; {rate}."
    print(shown)
    if asked.card:
        write_figures(asked.card, shown)


def earlier(path: Path | None, facts: dict[str, str]) -> dict[str, list[Figure]]:
    """The parts that an earlier call measured of this very model."""
    if path is None or not path.exists():
        return {}
    known = json.loads(path.read_text(encoding="utf-8"))
    if any(known.get(name) != value for name, value in facts.items()):
        return {}
    return {part: [Figure(**row) for row in rows] for part, rows in known["figures"].items()}


if __name__ == "__main__":
    main()
