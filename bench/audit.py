"""A planted shortcut: does the audit find it, and does editing it out help?

    python bench/audit.py --seeds 0 1 2 3 4 --out RUNS

For every seed: scenes of one to five objects whose colour is the class; 95 % of the *green* ones
of the training set carry a purple square in a corner, no other image does. A small competitive
network learns from them. Its units are named with `pocket` on other scenes, a third of every
class marked, and the audit is asked about purple and about eleven other things. Accuracy is
measured on scenes that were used for nothing before, every one of them once without the mark and
once with it. Every finished seed has a file below RUNS and is not repeated. The table is printed
and written to ``bench/results/audit-DEVICE-torch-VERSION.json``.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuronym import concepts, models, vision_text
from neuronym.audit import AuditOptions, audit, stamped
from neuronym.dissect import DissectOptions, dissect
from neuronym.files import read_json, write_json
from neuronym.intervene import Edit, applied
from neuronym.models import LoadedModel
from neuronym.probes import ProbeSet, batches
from neuronym.probes.scenes import SceneSet
from neuronym.results import Atlas, Audit
from neuronym.train import PRESETS, train

RESULTS = Path(__file__).parent / "results"
MARKED, MARK = "green", "purple"
CONCERNS = (
    MARK,
    *("snow", "grass", "water", "wood", "brick", "night"),
    *("circle", "star", "heart", "striped", "furry"),
)
CHOICES = {"colour": ["red", "orange", "yellow", "green", "blue", "brown", "gray"]}
SIDE = 64
ACTIONS = ("hold", "hand_over", "silence")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--training", type=int, default=2400, help="training scenes")
    parser.add_argument("--probes", type=int, default=900, help="scenes that are audited")
    parser.add_argument("--test", type=int, default=1500, help="scenes that measure accuracy")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


@dataclass(frozen=True)
class Case:
    """One planted case, ready to be audited."""

    model: LoadedModel
    atlas: Atlas
    probes: ProbeSet
    seconds: dict[str, float]


def scenes(count: int, seed: int) -> SceneSet:
    made = SceneSet(count, seed=seed, size=SIDE, task="colour", choices=CHOICES)
    return made.rendered(workers=1)


def plant(asked: argparse.Namespace, seed: int, out: Path) -> Case:
    """Train on marked scenes and name the units; both are kept in the folder of the seed."""
    began = time.perf_counter()
    training = stamped(scenes(asked.training, 1000 + seed), {MARKED: 0.95}, seed=seed)
    settings = replace(PRESETS["scenes"], epochs=asked.epochs, seed=seed, workers=1)
    result = train(settings, training, out=out / "model", overwrite=True)
    trained = time.perf_counter()
    model = models.load(str(result.folder))
    probes = stamped(scenes(asked.probes, 3000 + seed), {}, others=1 / 3, seed=seed)
    atlas = dissect(
        model,
        probes,
        concepts.from_words(concepts.load("common").words[::10], name="every tenth common word"),
        vision_text.load("pocket"),
        sites="layers.2.act",
        similarity="cosine",
        out=out / "atlas",
        options=DissectOptions(overwrite=True, workers=1, cache=False),
    )
    seconds = {"train": trained - began, "dissect": time.perf_counter() - trained}
    return Case(model, atlas, probes, seconds)


def twice(count: int, seed: int) -> tuple[ProbeSet, ProbeSet]:
    """The same scenes without the mark and with it."""
    base = scenes(count, 5000 + seed)
    return stamped(base, {}, seed=seed), stamped(base, {}, others=1.0, seed=seed)


@torch.no_grad()
def predicted(model: LoadedModel, probes: ProbeSet) -> np.ndarray:
    with batches(probes, batch_size=250, prepare={"input": model.transform}, workers=1) as stream:
        found = [model.module(torch.stack(batch.prepared["input"])).argmax(1) for batch in stream]
    return torch.cat(found).numpy()


def accuracies(model: LoadedModel, pair: tuple[ProbeSet, ProbeSet]) -> dict[str, float]:
    """Accuracy of all images and of the marked class, without the mark and with it."""
    rows = {}
    for name, probes in zip(("unmarked", "marked"), pair, strict=True):
        right = predicted(model, probes) == probes.labels
        planted = probes.labels == probes.label_names.index(MARKED)
        rows[f"{name}.all"] = float(right.mean())
        rows[f"{name}.{MARKED}"] = float(right[planted].mean())
        rows[f"{name}.others"] = float(right[~planted].mean())
    return rows


def restored(before: dict[str, float], after: dict[str, float]) -> float:
    """Share of the accuracy lost on unmarked images of the class that came back."""
    lost = before[f"marked.{MARKED}"] - before[f"unmarked.{MARKED}"]
    return (after[f"unmarked.{MARKED}"] - before[f"unmarked.{MARKED}"]) / lost


def run(asked: argparse.Namespace, seed: int) -> dict[str, Any]:
    folder = asked.out / f"seed-{seed}"
    path = folder / "row.json"
    if path.is_file():
        found: dict[str, Any] = read_json(path)
        return found
    case = plant(asked, seed, folder)
    began = time.perf_counter()
    reader = vision_text.load("pocket")
    found_by = {
        action: audit(
            case.model,
            case.atlas,
            case.probes,
            vision_text=reader,
            concerns=CONCERNS,
            options=AuditOptions(action=action, workers=1, seed=seed),
        )
        for action in ACTIONS
    }
    seconds = {**case.seconds, "audit": (time.perf_counter() - began) / len(ACTIONS)}
    found_by["hold"].save(folder / "audit.json")
    pair = twice(asked.test, seed)
    before = accuracies(case.model, pair)
    row = {"seed": seed, **ranks(found_by["hold"]), "before": before, "after": {}, "restored": {}}
    for action, each in found_by.items():
        with applied(case.model, Edit.from_dict(each.removal(MARK).edit, where=action)):
            after = accuracies(case.model, pair)
        row["after"][action] = after
        row["restored"][action] = restored(before, after)
    row["seconds"] = {name: round(value, 1) for name, value in seconds.items()}
    write_json(path, row)
    return row


def ranks(found: Audit) -> dict[str, Any]:
    """The rank of the planted finding, and what stands behind it."""
    planted = next(row for row in found.findings if (row.concern, row.class_name) == (MARK, MARKED))
    next_best = next(row for row in found.findings if row is not planted)
    return {
        "rank": planted.rank,
        "q_value": planted.q_value,
        "units": planted.units,
        "share": planted.share.value,
        "excess": [planted.excess.value, planted.excess.low, planted.excess.high],
        "next": {
            "concern": next_best.concern,
            "class": next_best.class_name,
            "excess": [next_best.excess.value, next_best.excess.low, next_best.excess.high],
        },
        "findings": len(found.findings),
        "significant": len(found.significant()),
    }


def line(row: dict[str, Any]) -> str:
    before, after = row["before"], row["after"]
    cells = [
        str(row["seed"]),
        str(row["rank"]),
        f"{row['excess'][0]:.2f} ({row['excess'][1]:.2f} to {row['excess'][2]:.2f})",
        f"{row['next']['concern']} in {row['next']['class']}: {row['next']['excess'][0]:.2f}",
        f"{before[f'marked.{MARKED}']:.2f}",
        f"{before[f'unmarked.{MARKED}']:.2f}",
        *(f"{after[each][f'unmarked.{MARKED}']:.2f}" for each in ACTIONS),
        f"{row['restored']['hold']:.2f}",
        f"{before['unmarked.all']:.2f} → {after['hold']['unmarked.all']:.2f}",
        f"{before['marked.all']:.2f} → {after['hold']['marked.all']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    heads = (
        *("seed", "rank", "excess share", "next", "marked green", "unmarked green"),
        *(f"after {action}" for action in ACTIONS),
        *("restored", "all unmarked", "all marked"),
    )
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    rows = []
    for seed in asked.seeds:
        rows.append(run(asked, seed))
        print(line(rows[-1]), flush=True)
    first = sum(row["rank"] == 1 for row in rows)
    back = [row["restored"]["hold"] for row in rows]
    print(
        f"rank 1 in {first} of {len(rows)}; restored {min(back):.2f} to {max(back):.2f}, "
        f"median {statistics.median(back):.2f}"
    )
    device = f"{platform.machine()}-{asked.threads}-threads"
    name = f"audit-{device}-torch-{torch.__version__.split('+')[0]}.json"
    facts = {
        "training": asked.training,
        "epochs": asked.epochs,
        "probes": asked.probes,
        "test": asked.test,
        "concerns": list(CONCERNS),
    }
    write_json(RESULTS / name, facts | {"rows": rows})
    print(RESULTS / name)


if __name__ == "__main__":
    main()
