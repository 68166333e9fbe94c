"""Similarities against a naive loop over units, in one process; and the rule for ties, planted.

    python bench/similarity.py [--images N] [--units K] [--concepts M] [--json]

The naive twin treats one unit at a time in plain tensor operations, as published code does.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from neuronym.similarity import SIMILARITIES


def naive_cosine(q: Tensor, p: Tensor) -> Tensor:
    unit = p / p.norm(dim=0)
    return torch.stack([q[:, k] @ unit / q[:, k].norm() for k in range(q.shape[1])])


def naive_cosine_cubed(q: Tensor, p: Tensor) -> Tensor:
    return naive_cosine((q - q.mean(0)) ** 3, (p - p.mean(0)) ** 3)


def naive_wpmi(q: Tensor, p: Tensor, top_k: int = 28, scale: float = 2.0) -> Tensor:
    chance = torch.softmax(scale * p, 1)
    rows = [(chance[q[:, k].topk(top_k).indices] + 1e-7).log().sum(0) for k in range(q.shape[1])]
    found = torch.stack(rows)
    return found - 0.6 * (torch.logsumexp(found, 0) - math.log(len(found)))


def naive_soft_wpmi(q: Tensor, p: Tensor, top_k: int = 100, scale: float = 10.0) -> Tensor:
    chance = torch.softmax(scale * p, 1)
    member = (0.998 - torch.arange(top_k) / top_k * 0.028)[:, None]
    rows = []
    for k in range(q.shape[1]):
        top = chance[q[:, k].topk(top_k).indices]
        rows.append((1 + member * (top - 1) + 1e-7).log().sum(0))
    found = torch.stack(rows)
    return found - (torch.logsumexp(found, 0) - math.log(len(found)))


def naive_rank_reorder(q: Tensor, p: Tensor) -> Tensor:
    count = max(10, int(0.05 * len(q)))
    generator = torch.Generator().manual_seed(0)
    shuffles = [torch.randperm(count, generator=generator) for _ in range(5)]
    rows = []
    for k in range(q.shape[1]):
        largest, top = q[:, k].sort(descending=True, stable=True)
        largest, top = largest[:count], top[:count].sort().values
        usual = torch.stack([(largest - largest[order]).abs() ** 3 for order in shuffles]).mean()
        scores = p[top]
        rank = scores.argsort(dim=0, descending=True, stable=True).argsort(0)
        error = ((largest[rank] - q[top, k, None]).abs() ** 3).mean(0) / usual
        rows.append(-error / scores.mean(0).clamp(min=1e-3).sqrt())
    return torch.stack(rows)


def naive_jensen_shannon(q: Tensor, p: Tensor, scale: float = 15.0) -> Tensor:
    right = torch.softmax(scale * p, 0)
    rows = []
    for k in range(q.shape[1]):
        left = q[:, k].clamp(min=0)
        left = (left / left.sum())[:, None]
        middle = (left + right) / 2
        halves = torch.special.xlogy(left, left / middle) + torch.special.xlogy(
            right, right / middle
        )
        rows.append(-0.5 * halves.sum(0))
    return torch.stack(rows)


def naive_auroc(q: Tensor, p: Tensor) -> Tensor:
    count = max(10, round(0.05 * len(q)))
    labels = p >= p.topk(count, dim=0).values[-1:]
    rows = []
    for k in range(q.shape[1]):
        order = q[:, k].argsort()
        rank = torch.empty(len(q)).index_copy_(0, order, torch.arange(1.0, len(q) + 1))
        positives = labels.sum(0)
        wins = (rank[:, None] * labels).sum(0) - positives * (positives + 1) / 2
        rows.append(wins / (positives * (len(q) - positives)))
    return torch.stack(rows)


NAIVE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": naive_cosine,
    "cosine_cubed": naive_cosine_cubed,
    "rank_reorder": naive_rank_reorder,
    "wpmi": naive_wpmi,
    "soft_wpmi": naive_soft_wpmi,
    "jensen_shannon": naive_jensen_shannon,
    "auroc": naive_auroc,
}


def race(
    slow: Callable[[], Tensor], fast: Callable[[], Tensor], rounds: int
) -> tuple[float, float, float]:
    """Best seconds of both in turns, and the largest difference of their results."""
    difference = float((fast() - slow()).abs().max())  # the first call compiles
    best = [math.inf, math.inf]
    for _ in range(rounds):
        for place, run in enumerate((slow, fast)):
            start = time.perf_counter()
            run()
            best[place] = min(best[place], time.perf_counter() - start)
    return best[0], best[1], difference


def compare(images: int, units: int, concepts: int, rounds: int) -> list[dict[str, object]]:
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(images, units, generator=generator)
    scores = 0.2 + 0.03 * torch.randn(images, concepts, generator=generator)
    rows = []
    for name, naive in NAIVE.items():
        slow, fast, difference = race(
            lambda f=naive: f(activations, scores),
            lambda f=SIMILARITIES[name]: f(activations, scores),
            rounds,
        )
        rows.append(
            {
                "similarity": name,
                "naive_seconds": round(slow, 4),
                "seconds": round(fast, 4),
                "ratio": round(slow / fast, 2),
                "largest_difference": difference,
            }
        )
    return rows


def planted_sparse(noise: float, trials: int = 3) -> dict[str, float]:
    """Share of planted sparse units that SoftWPMI names right, with ties dropped or kept."""
    shares: dict[str, list[float]] = {"ties dropped": [], "ties filled by order": []}
    for seed in range(trials):
        generator = torch.Generator().manual_seed(seed)
        frequency = 0.005 + 0.2 * torch.rand(300, generator=generator)
        present = torch.rand(800, 300, generator=generator) < frequency
        scores = present + noise * torch.randn(800, 300, generator=generator)
        truth = torch.randint(0, 300, (200,), generator=generator)
        recall = 0.05 + 0.9 * torch.rand(200, generator=generator)
        fires = present[:, truth] & (torch.rand(800, 200, generator=generator) < recall)
        fires |= torch.rand(800, 200, generator=generator) < 0.002
        activations = fires * (0.1 + torch.rand(800, 200, generator=generator))
        order = torch.arange(800.0)[:, None] * -1e-6  # the lower index first among equals
        filled = activations + order
        for rule, values in (("ties dropped", activations), ("ties filled by order", filled)):
            found = SIMILARITIES["soft_wpmi"](values, scores - scores.mean(0), scale=3.0)
            live = fires.any(0)
            shares[rule].append(float((found.argmax(1) == truth)[live].float().mean()))
    return {rule: round(sum(values) / trials, 3) for rule, values in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--concepts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = compare(given.images, given.units, given.concepts, given.rounds)
    planted = {f"noise {noise}": planted_sparse(noise) for noise in (0.5, 1.0)}
    if given.json:
        print(json.dumps({"similarities": rows, "planted_sparse_units": planted}, indent=2))
        return
    print(
        f"{given.images} images, {given.units} units, {given.concepts} concepts, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"{'similarity':16} {'naive s':>9} {'ours s':>9} {'ratio':>8} {'difference':>11}")
    for row in rows:
        print(
            f"{row['similarity']:16} {row['naive_seconds']:9.4f} {row['seconds']:9.4f} "
            f"{row['ratio']:8.2f} {row['largest_difference']:11.1e}"
        )
    print("planted sparse units named right by soft_wpmi:", json.dumps(planted))


if __name__ == "__main__":
    main()
