"""Images per second of explaining a data set beside a loop over single explanations, and memory.

    python bench/explain_set.py [--images N] [--memory N N] [--rounds R] [--json]

Ours is ``explain_set`` with all its tables; the twin calls ``explain`` for each image and keeps the
list of explanations, as a person would without it. Both run in this process, in turns, on scenes in
memory and a small competitive network with two sites; the twin is asked for the last site only, and
once more for both. The peaks of memory are of processes of their own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from neuronym import probes
from neuronym.explain import ExplainSetOptions, contribution_batches, explain, explain_set
from neuronym.lwta import convert
from neuronym.models import LoadedModel, Preprocessing
from neuronym.results import Atlas, SiteInfo, Unit

SIZE, CLASSES = 32, 10


def network() -> tuple[LoadedModel, Atlas]:
    """Return a competitive convolutional network and an atlas of its last two activations."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = []
        channels = 3
        for width in (32, 64, 128):
            layers += [
                torch.nn.Conv2d(channels, width, 3, padding=1, bias=False),
                torch.nn.BatchNorm2d(width),
                torch.nn.ReLU(),
                torch.nn.MaxPool2d(2),
            ]
            channels = width
        head = [
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(channels, CLASSES),
        ]
        dense = torch.nn.Sequential(*layers, *head)
    module, _ = convert(dense, competitors=8, example=(3, SIZE, SIZE))
    model = LoadedModel(
        module,
        Preprocessing(input_size=(3, SIZE, SIZE), mean=(0.5,) * 3, std=(0.25,) * 3),
        tuple(f"class {index}" for index in range(CLASSES)),
        "bench",
        (3, SIZE, SIZE),
    )
    sites = (SiteInfo("6", 64, 1, 8, "winner", 256), SiteInfo("10", 128, 1, 8, "winner", 64))
    units = tuple(
        Unit(site.name, unit, unit // 8, f"name {unit}", 0.5, None, (), (), 0.5, 0.1, (), ())
        for site in sites
        for unit in range(site.units)
    )
    provenance = {"model": {"spec": model.spec, "fingerprint": model.fingerprint}}
    return model, Atlas(sites, units, {}, provenance)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def speed(images: int, rounds: int) -> dict[str, float]:
    """Return images per second of ours and of the twins, the median of the rounds."""
    model, atlas = network()
    rendered = probes.load(f"scenes:{images}")
    scenes = probes.from_images([rendered.image(at) for at in range(images)])  # not timed

    def ours(site: str, place: Path) -> None:
        options = ExplainSetOptions(overwrite=True, workers=0)
        explain_set(model, scenes, atlas=atlas, out=place, sites=site, options=options)

    def twin(*sites: str) -> None:
        kept = []
        for at in range(images):
            picture = scenes.image(at)
            kept += [explain(model, picture, atlas=atlas, site=site) for site in sites]

    def stream() -> None:
        for _ in contribution_batches(model, scenes, atlas.sites, workers=0):
            pass

    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "out"
        runs: dict[str, Callable[[], object]] = {
            "ours, one site": lambda: ours("10", place),
            "twin, one site": lambda: twin("10"),
            "ours, two sites": lambda: ours("all", place),
            "twin, two sites": lambda: twin("6", "10"),
            "stream, two sites": stream,
            "preprocessing alone": lambda: [
                model.transform(scenes.image(at)) for at in range(images)
            ],
        }
        ours("10", place)  # what compiles does so before the clock runs
        for _ in range(rounds):
            for name, run in runs.items():
                taken.setdefault(name, []).append(seconds(run))
    return {name: images / statistics.median(values) for name, values in taken.items()}


def peak(images: int) -> float:
    """Explain in this process and return its largest resident size in MiB (Linux counts in KiB)."""
    model, atlas = network()
    with tempfile.TemporaryDirectory() as folder:
        explain_set(
            model,
            probes.load(f"scenes:{images}"),
            atlas=atlas,
            out=Path(folder) / "out",
            sites="all",
            options=ExplainSetOptions(part=250),
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--memory", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak is not None:
        print(peak(asked.peak))
        return
    rates = speed(asked.images, asked.rounds)
    peaks = {}
    for images in asked.memory:
        command = [sys.executable, __file__, "--peak", str(images)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[images] = float(done.stdout)
    result = {
        "images_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "ratio_one_site": round(rates["ours, one site"] / rates["twin, one site"], 2),
        "ratio_two_sites": round(rates["ours, two sites"] / rates["twin, two sites"], 2),
        "peak_mib": {images: round(size) for images, size in peaks.items()},
        "threads": torch.get_num_threads(),
    }
    if asked.json:
        print(json.dumps(result, indent=2))
        return
    for name, rate in result["images_per_second"].items():
        print(f"{name:28} {rate:8.1f} images/s")
    print(f"ours / twin: {result['ratio_one_site']} (one site), {result['ratio_two_sites']} (two)")
    for images, size in result["peak_mib"].items():
        print(f"peak of {images} images: {size} MiB")


if __name__ == "__main__":
    main()
