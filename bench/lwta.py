"""The competition against a naive twin in plain tensor operations, and against GELU and ReLU.

    python bench/lwta.py [--targets | --network | --bias] [--rounds R] [--threads T] [--cpu]
                         [--json]

All of a row's contestants take turns in one process; a time is the best of the rounds. "step" is
forward and backward of the activation alone, "kl" the same with the divergence in the loss,
"infer" the forward in evaluation. ``--cpu`` with ``--threads 1`` counts processor time, which a
busy machine disturbs less. ``--targets`` does what ``neuronym bench lwta`` does.
``--network`` times whole training steps of a small residual network on CIFAR-10-sized noise;
``--bias`` measures the bias of the straight-through gradient.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuronym import benchmarks
from neuronym.benchmarks.naive import NaiveLWTA
from neuronym.lwta import LWTA, convert, kl_to_uniform, trace
from neuronym.lwta.bias import straight_through_bias

Step = Callable[[], Any]
Clock = Callable[[], float]

CASES = [
    # name, shape, channel dimension, U, memory format
    ("tokens 1576x1536", (1576, 1536), -1, 24, torch.contiguous_format),
    ("tokens 1576x3072", (1576, 3072), -1, 24, torch.contiguous_format),
    ("conv 64x64x32x32", (64, 64, 32, 32), 1, 8, torch.contiguous_format),
    ("conv 64x64x32x32, channels last", (64, 64, 32, 32), 1, 8, torch.channels_last),
    ("conv 64x512x4x4", (64, 512, 4, 4), 1, 8, torch.contiguous_format),
]


def race(contestants: dict[str, Step], rounds: int, clock: Clock) -> dict[str, float]:
    """Let the contestants take turns; return the best time of each in milliseconds."""
    best = dict.fromkeys(contestants, math.inf)
    for number in range(rounds + 1):  # the first round warms up
        for name, run in contestants.items():
            began = clock()
            run()
            if number:
                best[name] = min(best[name], (clock() - began) * 1e3)
    return best


def steps(layer: nn.Module, z: Tensor, upstream: Tensor) -> dict[str, Step]:
    """Return what is timed of one activation: infer, step and (for LWTA) the step with KL."""
    leaf = z.clone().requires_grad_()

    def infer() -> None:
        layer.eval()
        with torch.no_grad():
            layer(z)

    def step() -> None:
        layer.train()
        leaf.grad = None
        layer(leaf).backward(upstream)

    def with_kl() -> None:
        layer.train()
        leaf.grad = None
        if isinstance(layer, NaiveLWTA):
            y, kl = layer(leaf), layer.divergence(leaf)
        else:
            with trace(layer) as record:
                y = layer(leaf)
            kl = kl_to_uniform(record)
        torch.autograd.backward([y, kl], [upstream, torch.tensor(0.01)])

    found: dict[str, Step] = {"infer": infer, "step": step}
    return {**found, "kl": with_kl} if isinstance(layer, (LWTA, NaiveLWTA)) else found


def activations(rounds: int, clock: Clock) -> list[dict[str, Any]]:
    rows = []
    for name, shape, channel_dim, competitors, memory in CASES:
        g = torch.Generator().manual_seed(0)
        z = torch.randn(shape, generator=g).to(memory_format=memory)
        upstream = torch.randn(shape, generator=g).to(memory_format=memory)
        layers = {
            "ours": LWTA(competitors, channel_dim),
            "naive": NaiveLWTA(competitors, channel_dim),
            "gelu": nn.GELU(),
            "relu": nn.ReLU(),
        }
        timed = {key: steps(layer, z, upstream) for key, layer in layers.items()}
        for kind in ("infer", "step", "kl"):
            contestants = {key: found[kind] for key, found in timed.items() if kind in found}
            best = race(contestants, rounds, clock)
            rows.append({"case": name, "competitors": competitors, "what": kind, "ms": best})
    return rows


def network(rounds: int, clock: Clock) -> list[dict[str, Any]]:
    """Time training steps of a small residual network and of its competitive twin."""
    from neuronym.models.small import cifar_resnet

    g = torch.Generator().manual_seed(0)
    dense = cifar_resnet(10).train()
    x = torch.randn(128, 3, 32, 32, generator=g)
    labels = torch.randint(10, (128,), generator=g)
    rows = []
    for name, memory in (("contiguous", torch.contiguous_format), ("cl", torch.channels_last)):
        values = x.to(memory_format=memory)
        nets = {
            "relu": dense,
            "ours": convert(dense, 8)[0],
            "naive": naive_twin(dense),
        }
        contestants = {
            key: training_step(net.to(memory_format=memory), values, labels, kl=False)
            for key, net in nets.items()
        }
        contestants["ours with kl"] = training_step(nets["ours"], values, labels, kl=True)
        rows.append(
            {
                "case": f"cifar_resnet step, batch 128, {name}",
                "competitors": 8,
                "what": "step",
                "ms": race(contestants, rounds, clock),
            }
        )
    return rows


def naive_twin(dense: nn.Module) -> nn.Module:
    twin, report = convert(dense, 8)
    for site in report.replaced:
        parent, _, last = site.name.rpartition(".")
        setattr(twin.get_submodule(parent), last, NaiveLWTA(8, site.channel_dim))
    return twin


def training_step(net: nn.Module, x: Tensor, labels: Tensor, *, kl: bool) -> Step:
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)

    def run() -> None:
        net.train()
        optimiser.zero_grad()
        if kl:
            with trace(net) as record:
                loss = functional.cross_entropy(net(x), labels)
            loss = loss + 1e-4 * kl_to_uniform(record)
        else:
            loss = functional.cross_entropy(net(x), labels)
        loss.backward()
        optimiser.step()

    return run


def biases(problems: int = 8, samples: int = 40_000) -> list[dict[str, Any]]:
    """Mean relative bias and cosine over random classification problems."""
    rows = []
    for competitors, blocks in ((2, 4), (3, 3), (4, 3), (8, 2)):
        for temperature in (0.1, 0.3, 0.67, 1.0, 2.0):
            found = []
            for seed in range(problems):
                g = torch.Generator().manual_seed(seed)
                units = competitors * blocks
                z = 1.5 * torch.randn(units, generator=g, dtype=torch.float64)
                w = 2 * torch.randn(units, 5, generator=g, dtype=torch.float64) / units**0.5
                label = int(torch.randint(5, (1,), generator=g))

                def loss(y: Tensor, w: Tensor = w, label: int = label) -> Tensor:
                    return -torch.log_softmax(y @ w, 1)[:, label]

                found.append(
                    straight_through_bias(
                        z,
                        loss,
                        competitors=competitors,
                        temperature=temperature,
                        samples=samples,
                        generator=g,
                    )
                )
            rows.append(
                {
                    "competitors": competitors,
                    "blocks": blocks,
                    "temperature": temperature,
                    "relative": statistics.mean(bias.relative for bias in found),
                    "most": max(bias.relative for bias in found),
                    "cosine": statistics.mean(bias.cosine for bias in found),
                    "standard_error": statistics.mean(bias.standard_error for bias in found),
                }
            )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if "ms" not in row:
            print(
                f"U={row['competitors']} blocks={row['blocks']} tau={row['temperature']:<4g} "
                f"bias {row['relative']:.3f} (most {row['most']:.3f}), cosine {row['cosine']:.4f}, "
                f"standard error {row['standard_error']:.3f}"
            )
            continue
        ours = row["ms"]["ours"]
        parts = [
            f"{name} {value:.2f} ms ({value / ours:.2f}x)"
            for name, value in row["ms"].items()
            if name != "ours"
        ]
        place = f"{row['case']}, U={row['competitors']}"
        print(f"{place:<46} {row['what']:<6} ours {ours:7.2f} ms  " + "  ".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--targets", action="store_true")
    kind.add_argument("--network", action="store_true")
    kind.add_argument("--bias", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.targets:
        found = benchmarks.run("lwta", rounds=arguments.rounds, threads=arguments.threads)
        print(json.dumps(found.to_dict(), indent=2) if arguments.json else found)
        return
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu else time.perf_counter
    if arguments.bias:
        rows = biases()
    elif arguments.network:
        rows = network(arguments.rounds, clock)
    else:
        rows = activations(arguments.rounds, clock)
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, "torch": torch.__version__, "rows": rows}))
    else:
        show(rows)


if __name__ == "__main__":
    main()
