"""One explanation against one forward and backward pass of the same network, in one process.

    python bench/explain.py [--rounds N] [--json]

As ``neuronym bench explain``, and ResNet-18 at 64 x 64 pixels. Times are processor milliseconds on
one thread, so that a busy machine changes them little. "forward + backward" computes the gradients
of all parameters, "down to the image only" none of them. The naive twin silences one winner after
another. Several sites at once and with real effects are shown without a limit.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict

import timm
import torch

from neuronym.benchmarks.explain import Case, case_of, cases, compare
from neuronym.benchmarks.result import Benchmark, race
from neuronym.explain import ExplainOptions, explain, explain_sites


def more(case: Case, rounds: int) -> dict[str, float]:
    """Milliseconds of what costs more than one explanation."""
    model, image, atlas = case.model, case.image, case.atlas
    return race(
        {
            "one site": lambda: explain(model, image, atlas=atlas),
            f"all {len(atlas.sites)} sites": lambda: explain_sites(model, image, atlas=atlas),
            "one after another": lambda: [
                explain(model, image, atlas=atlas, site=site.name) for site in atlas.sites
            ],
            "5 real effects": lambda: explain(
                model, image, atlas=atlas, options=ExplainOptions(causal=5)
            ),
            "10 samples": lambda: explain(model, image, atlas=atlas, samples=10),
        },
        rounds,
        clock=time.process_time,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks = [*cases(), case_of("resnet18", timm.create_model("resnet18"), (3, 64, 64))]
    rows = [row for case in networks for row in compare(case, options.rounds)]
    further = {case.name: more(case, max(1, options.rounds // 2)) for case in networks}
    found = Benchmark("explain", tuple(rows), 1, options.rounds, torch.__version__)
    if options.json:
        print(json.dumps({**asdict(found), "further": further}))
        return
    print(found)
    for name, times in further.items():
        print(f"{name}: " + ", ".join(f"{what} {ms:.1f} ms" for what, ms in times.items()))


if __name__ == "__main__":
    main()
