"""Contributions of the units of several sites, from one forward pass with gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuronym import lwta
from neuronym.errors import InputError
from neuronym.explain.contributions import (
    Attribution,
    Contributions,
    _logits,
    _module,
    _replace_output,
    _targets,
    baseline,
    units_first,
)
from neuronym.modes import evaluation
from neuronym.record import split_call
from neuronym.results import SiteInfo

__all__ = ["Place", "SiteContributions", "attribute_sites"]


@dataclass(frozen=True)
class Place:
    """Where a site is in a module, without an atlas.

    Attributes:
        site: Name of the module whose output is the site.
        channel_dim: The dimension of that output that holds the units.
        call: Which call of the module counts, from 0.
        competitors: U of a competitive site, else ``None``.
    """

    site: str
    channel_dim: int
    call: int = 0
    competitors: int | None = None

    @classmethod
    def of(cls, info: SiteInfo) -> Place:
        """Return the place of an atlas's site."""
        module, call = split_call(info.name)
        return cls(module, info.channel_dim, call, info.competitors)

    @property
    def name(self) -> str:
        """The site's name in an atlas: ``"relu#1"`` is the second call of ``relu``."""
        return f"{self.site}#{self.call}" if self.call else self.site


@dataclass(frozen=True)
class SiteContributions:
    """What the units of one site added to one logit per image, and which of them won.

    Attributes:
        place: The site.
        found: The contributions.
        mask: ``(images, units, positions)`` bool, true where a unit won; ``None`` at a dense
            site.
    """

    place: Place
    found: Contributions
    mask: Tensor | None


def attribute_sites(
    module: nn.Module,
    inputs: Tensor,
    places: Sequence[Place],
    *,
    targets: Tensor | None = None,
) -> list[SiteContributions]:
    """Attribute one logit per image to the units of each of several sites.

    Each site gets what :func:`neuronym.explain.contributions` gives it alone. The gradients at
    all sites come from one forward and one backward pass, the winners fixed; then one forward
    pass per site gives the logits without it. Contributions of different sites explain the same
    logit, each on its own, and are not added.

    Args:
        module: A classifier whose output is ``(images, classes)``; it runs in evaluation mode,
            and is as before afterwards.
        inputs: ``(images, ...)``, already preprocessed, on the module's device.
        places: The sites, in any order.
        targets: ``(images,)`` class indices; by default the predicted class of each image.

    Returns:
        One entry per place, in their order.

    Raises:
        InputError: No place, an unknown site or target, a site that is not called, that returns
            no tensor, or that does not compete in blocks of the size that its place says.
    """
    if not places:
        raise InputError("no site to attribute to")
    competes = any(place.competitors is not None for place in places)
    tracing = competes and bool(lwta.lwta_modules(module))
    opened = lwta.trace(module, keep="winners") if tracing else contextlib.nullcontext()
    with opened as trace:  # of the pass that is explained, not of those without a site
        passes = _attributions(module, inputs, places, targets)
    records = trace.by_name() if trace is not None else {}
    results = []
    for place, found in zip(places, passes, strict=True):
        base = baseline(module, inputs, site=place.site, targets=found.targets, call=place.call)
        results.append(
            SiteContributions(
                place, found.beside(base, channel_dim=place.channel_dim), _mask(place, records)
            )
        )
    return results


def _attributions(
    module: nn.Module, inputs: Tensor, places: Sequence[Place], targets: Tensor | None
) -> list[Attribution]:
    """Run the pass with gradients once, and return what each site gave in it."""
    kept: dict[int, Tensor] = {}

    def capture(number: int) -> Callable[[Tensor], Tensor]:
        def take(output: Tensor) -> Tensor:
            # What comes before the first site needs no graph; what lies between two sites does.
            connected = bool(kept) and output.requires_grad
            kept[number] = output if connected else output.detach().clone().requires_grad_(True)
            return kept[number].clone()  # an in-place operation may follow; the kept one stays

        return take

    with evaluation(module), torch.enable_grad(), contextlib.ExitStack() as hooks:
        for number, place in enumerate(places):
            layer = _module(module, place.site)
            hooks.enter_context(_replace_output(layer, place.site, place.call, capture(number)))
        logits = _logits(module(inputs))
        for number, place in enumerate(places):
            if number not in kept:
                raise InputError(
                    f"site {place.site!r} was not called {place.call + 1} times in a forward pass"
                )
        chosen = _targets(logits, targets)
        outputs = [kept[number] for number in range(len(places))]
        gradients = _gradients(logits.gather(1, chosen[:, None]).sum(), outputs)
    return [
        Attribution(logits.detach(), chosen, output.detach(), gradient)
        for output, gradient in zip(outputs, gradients, strict=True)
    ]


def _gradients(picked: Tensor, outputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient at each output; zero where nothing leads from it to the logits."""
    found: Sequence[Tensor | None] = [None] * len(outputs)
    if picked.requires_grad:
        found = torch.autograd.grad(picked, list(outputs), allow_unused=True)
    return [
        torch.zeros_like(output) if gradient is None else gradient
        for output, gradient in zip(outputs, found, strict=True)
    ]


def _mask(place: Place, records: Mapping[str, list[lwta.Competition]]) -> Tensor | None:
    if place.competitors is None:
        return None
    calls = records.get(place.site, [])
    if len(calls) <= place.call or calls[place.call].competitors != place.competitors:
        raise InputError(
            f"site {place.name!r} does not compete in blocks of {place.competitors} in this model"
        )
    record = calls[place.call]
    return units_first(record.mask, record.channel_dim)
