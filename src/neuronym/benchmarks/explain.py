"""One explanation against one forward and backward pass, and against ablation winner by winner."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from neuronym.benchmarks.result import Row, race
from neuronym.explain import explain
from neuronym.lwta import convert, trace
from neuronym.models import LoadedModel, Preprocessing
from neuronym.models.small import cifar_inverted, cifar_resnet
from neuronym.results import Atlas, SiteInfo, Unit

__all__ = ["Case", "cases", "compare", "rows"]

COMPETITORS = 8
LIMIT = 2.0


@dataclass(frozen=True, eq=False)
class Case:
    """A network with an atlas of its competitive sites, and an image."""

    name: str
    model: LoadedModel
    atlas: Atlas
    image: Image.Image


def rows(rounds: int) -> list[Row]:
    """Measure the small residual networks; takes about a minute."""
    return [row for case in cases() for row in compare(case, rounds)]


def cases() -> list[Case]:
    """Return the small residual networks at 32 x 32 pixels, with winners of 8."""
    small = {"cifar_resnet": cifar_resnet, "cifar_inverted": cifar_inverted}
    return [case_of(name, make(), (3, 32, 32)) for name, make in small.items()]


def case_of(name: str, module: nn.Module, size: tuple[int, int, int]) -> Case:
    """Let a network compete, and make up an atlas that names its units."""
    net, _ = convert(module.eval(), COMPETITORS, example=size)
    model = LoadedModel(net, Preprocessing(size, (0.5,) * 3, (0.25,) * 3), None, name, size)
    with torch.no_grad(), trace(model.module, keep=()) as record:
        model.module(torch.zeros(1, *size))
    sites = tuple(
        SiteInfo(each.name, each.shape[1], 1, COMPETITORS, "winner", each.positions)
        for each in record
    )
    units = tuple(_unit(site, index) for site in sites for index in range(site.units))
    provenance = {"model": {"spec": name, "fingerprint": model.fingerprint}}
    noise = torch.randint(0, 256, (*size[1:], 3), generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(noise.byte().numpy())
    return Case(name, model, Atlas(sites, units, {}, provenance), image)


def _unit(site: SiteInfo, index: int) -> Unit:
    scores = (0.2, 0.1)
    name, others = f"name {index}", ("second", "third")
    block = index // COMPETITORS
    return Unit(site.name, index, block, name, 0.5, 0.01, others, scores, 0.5, 0.1, (), ())


def compare(case: Case, rounds: int) -> list[Row]:
    """Explain by the last competitive site and by the first; the last beside the naive twin too."""
    module, image = case.model.module, case.image
    x = case.model.transform(image)[None]
    last, first = case.atlas.sites[-1].name, case.atlas.sites[0].name
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: explain(case.model, image, atlas=case.atlas, site=last),
        "first site": lambda: explain(case.model, image, atlas=case.atlas, site=first),
        "forward + backward": lambda: _passes(module, x),
        "down to the image only": lambda: _to_image(module, x),
    }
    times = race(calls, rounds, clock=time.process_time)
    early = {**times, "ours": times["first site"]}
    found = explain(case.model, image, atlas=case.atlas, site=last)
    units = [winner.unit for winner in found.winners]
    slow = race(
        {"ours": calls["ours"], "ablation": lambda: _ablations(module, x, last, units)},
        max(1, rounds // 3),
        clock=time.process_time,
    )
    what = f"one image by {case.name}"
    return [
        Row.at_most(f"{what}, {last}", _only(times), "forward + backward", LIMIT),
        Row.at_most(f"{what}, {first}", _only(early), "forward + backward", LIMIT),
        Row.faster(f"{what}, {last}, {len(units)} winners", slow, "ablation", 10),
    ]


def _only(times: dict[str, float]) -> dict[str, float]:
    names = ("ours", "forward + backward", "down to the image only")
    return {name: times[name] for name in names}


def _passes(module: nn.Module, x: Tensor) -> None:
    """Run a forward and a backward pass, with the gradients of all parameters."""
    module.zero_grad(set_to_none=True)
    logits = module(x)
    logits[0, logits.argmax()].backward()


def _to_image(module: nn.Module, x: Tensor) -> None:
    """Run both with the gradient of the image alone, as an attribution to pixels does."""
    image = x.clone().requires_grad_(True)
    logits = module(image)
    torch.autograd.grad(logits[0, logits.argmax()], image)


@torch.no_grad()
def _ablations(module: nn.Module, x: Tensor, site: str, units: list[int]) -> Tensor:
    """Run the network once per winner, with that winner at zero."""
    found = []
    layer = module.get_submodule(site)
    for unit in units:

        def silence(_: nn.Module, __: object, output: Tensor, unit: int = unit) -> Tensor:
            changed = output.clone()
            changed[:, unit] = 0
            return changed

        handle = layer.register_forward_hook(silence)
        try:
            found.append(module(x))
        finally:
            handle.remove()
    return torch.cat(found)
