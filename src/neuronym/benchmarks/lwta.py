"""Competition: layers, blocks and whole networks against their dense twins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neuronym.benchmarks import memory
from neuronym.benchmarks.naive import NaiveLWTA
from neuronym.benchmarks.result import Row, race
from neuronym.lwta import LWTA, convert, sparsify, sparsity_report

__all__ = ["rows"]

BATCH, TOKENS = 8, 197
NETWORKS = [  # timm name, U, largest ratio of the times
    ("deit_tiny_patch16_224", 24, 1.0),
    ("resnet18", 8, 1.1),
]
BLOCKS = [  # width, hidden units, U, least speed-up
    (768, 3072, 24, 1.4),
    (384, 1536, 24, 1.2),
]


def rows(rounds: int) -> list[Row]:
    """Measure everything with the present number of threads; takes a few minutes."""
    found = [training_step(rounds), search(rounds)]
    found += [block(rounds, *case) for case in BLOCKS]
    found += [network(rounds, *case) for case in NETWORKS]
    if memory.available():
        found += [step_memory(name, competitors) for name, competitors, _ in NETWORKS]
    return found


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def training_step(rounds: int) -> Row:
    """Forward and backward of the layer against GELU's."""
    z, upstream = _noise(BATCH * TOKENS, 1536).requires_grad_(), _noise(BATCH * TOKENS, 1536)

    def step(layer: nn.Module) -> Callable[[], None]:
        def run() -> None:
            z.grad = None
            layer(z).backward(upstream)

        return run

    layers = {"ours": LWTA(16), "gelu": nn.GELU(), "naive": NaiveLWTA(16)}
    times = race({name: step(layer.train()) for name, layer in layers.items()}, rounds)
    return Row.at_most("LWTA forward + backward, 1576 x 1536, U = 16", times, "gelu", 3.0)


@torch.inference_mode()
def search(rounds: int) -> Row:
    """The layer in evaluation against GELU."""
    z = _noise(BATCH * TOKENS, 3072)
    layers = {"ours": LWTA(16), "gelu": nn.GELU(), "naive": NaiveLWTA(16)}
    calls = {name: _call(layer.eval(), z) for name, layer in layers.items()}
    case = "winner search at inference, 1576 x 3072, U = 16"
    return Row.at_most(case, race(calls, rounds), "gelu", 3.0)


def _call(module: nn.Module, x: Tensor) -> Callable[[], Any]:
    return lambda: module(x)


def block(rounds: int, width: int, hidden: int, competitors: int, least: float) -> Row:
    """The MLP of a transformer block: sparse against GELU's."""
    up, down, x = nn.Linear(width, hidden), nn.Linear(hidden, width), _noise(BATCH, TOKENS, width)
    dense = nn.Sequential(up, nn.GELU(), down).eval()
    competitive = nn.Sequential(up, LWTA(competitors), down).eval()
    ours = sparsify(competitive, example=x)
    nets = {"ours": ours, "gelu": dense, "lwta, not sparse": competitive, "up-projection": up}
    with torch.inference_mode():
        times = race({name: _call(net, x) for name, net in nets.items()}, rounds)
    case = f"MLP block at inference, D = {width}, H = {hidden}, U = {competitors}"
    return Row.faster(case, times, "gelu", least)


def network(rounds: int, name: str, competitors: int, most: float) -> Row:
    """A whole network at inference against its dense twin."""
    import timm

    x = _noise(BATCH, 3, 224, 224)
    dense = timm.create_model(name).eval()
    competitive, _ = convert(dense, competitors, example=(3, 224, 224))
    nets = {"ours": competitive, "dense": dense}
    note = "no linear map reads an LWTA layer's output itself: nothing to make sparse"
    if name.startswith("deit"):
        nets = {"ours": sparsify(competitive, example=x), "dense": dense, "not sparse": competitive}
        layers = sparsity_report(nets["ours"]).layers
        note = f"{sum(layer.sparse for layer in layers)} of {len(layers)} maps are sparse"
    with torch.inference_mode():
        times = race({key: _call(net, x) for key, net in nets.items()}, rounds)
    row = Row.at_most(
        f"{name} at inference, batch {BATCH}, U = {competitors}", times, "dense", most
    )
    return Row(row.case, row.unit, row.measured, row.ratio, row.target, row.met, note)


def step_memory(name: str, competitors: int) -> Row:
    """Peak memory of a training step against the dense twin's."""
    threads = torch.get_num_threads()
    peaks = {
        key: memory.of_training_step(name, competitors=each, batch=BATCH, threads=threads)
        for key, each in (("ours", competitors), ("dense", None))
    }
    case = f"{name}, peak memory of a training step, batch {BATCH}, U = {competitors}"
    return Row.at_most(case, peaks, "dense", 1.25, unit="MiB")
