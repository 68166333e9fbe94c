"""Naming against the loop over units at the sizes of the targets, whole call against whole call.

    python bench/naming.py [--threads T] [--rounds R] [--json]

SoftWPMI of 768 units, 10,000 images and 20,000 concepts, from matrices and from embeddings, and
rank reorder with 2,000 concepts. Needs about 3 GB, most of it for the loop.
"""

from __future__ import annotations

import argparse
import json

import torch

from neuronym.benchmarks import Benchmark
from neuronym.benchmarks.dissect import Sizes, reorder, soft_from_embeddings, soft_from_scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=768)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--concepts", type=int, default=20_000)
    parser.add_argument("--reorder-concepts", type=int, default=2000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["scores", "embeddings", "reorder"])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sizes = Sizes(given.units, given.images, given.concepts, given.dim)
    fewer = Sizes(given.units, given.images, given.reorder_concepts, given.dim)
    cases = {
        "scores": lambda: soft_from_scores(given.rounds, sizes),
        "embeddings": lambda: soft_from_embeddings(given.rounds, sizes),
        "reorder": lambda: reorder(given.rounds, fewer),
    }
    rows = [run() for name, run in cases.items() if given.only in (None, name)]
    found = Benchmark("naming", tuple(rows), given.threads, given.rounds, torch.__version__)
    print(json.dumps(found.to_dict(), indent=2) if given.json else found)


if __name__ == "__main__":
    main()
