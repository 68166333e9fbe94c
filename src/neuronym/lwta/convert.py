"""Turn any model into a competitive one: its activations become local winner-takes-all."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from neuronym.errors import DivisibilityError, InputError, unknown
from neuronym.lwta.layout import check_competitors, nearest_divisors
from neuronym.lwta.module import LWTA, lwta_modules
from neuronym.lwta.report import ConversionReport, KeptModule, ReplacedSite
from neuronym.lwta.rules import DEFAULT_RULES, Rules, action_for, checked_rules
from neuronym.lwta.survey import Call, Example, Survey, copied, example_of, survey

__all__ = ["convert"]


@dataclass(frozen=True)
class _Candidate:
    """An activation module: all its names (the first counts), and its class."""

    names: tuple[str, ...]
    original: str

    @property
    def name(self) -> str:
        return self.names[0]


def convert(
    model: nn.Module,
    competitors: int,
    *,
    example: Example | None = None,
    skip: Sequence[str] = (),
    channel_dims: Mapping[str, int] | None = None,
    rules: Rules = DEFAULT_RULES,
) -> tuple[nn.Module, ConversionReport]:
    """Return a copy of ``model`` whose activation modules are :class:`LWTA`, and a report.

    Weights, buffers and the state dict's keys are those of ``model``, which is left as it is.
    A copy runs once on ``example`` without computing anything (on the meta device) to see which
    dimension of each activation's input holds the units: the one that the convolution, linear map
    or normalisation before it wrote them to. A module that is called several times in a forward
    becomes one LWTA module.

    Args:
        model: Any module.
        competitors: U, at least 2; must divide the channels of every call of every replaced
            module.
        example: A tensor, a sequence of tensors, a mapping of keyword arguments, or the shape of
            one image without the batch, e.g. ``(3, 224, 224)``. Default: what the model says of
            itself (``pretrained_cfg``, ``default_cfg`` or ``input_size``).
        skip: Patterns of names (``"head.*"``) to leave alone.
        channel_dims: Name → dimension of the units, where it cannot be told or is to be another.
        rules: Pairs (type or class name, ``"replace"`` or ``"keep"``); see
            :data:`neuronym.lwta.rules.DEFAULT_RULES`.

    Returns:
        The copy and a :class:`~neuronym.lwta.report.ConversionReport`. A model whose activations
        all compete already comes back as a plain copy. Activations that are called as functions
        (``F.relu``) cannot be replaced and are listed in the report.

    Raises:
        DivisibilityError: U does not divide the channels of a layer.
        InputError: Nothing was found to replace, U is 1, there is no example or the model does
            not run on it, or the dimension of the units cannot be told.
        UnknownNameError: A ``skip`` pattern or a ``channel_dims`` name matches no activation.
    """
    check_competitors(competitors)
    checked = checked_rules(rules)
    given = dict(channel_dims or {})
    candidates, kept = _candidates(model, checked)
    chosen, skipped = _without_skipped(candidates, skip)
    for name in given:
        if not any(name in candidate.names for candidate in chosen):
            raise unknown("activation in channel_dims", name, [c.name for c in chosen])
    already = tuple(lwta_modules(model))
    if not chosen and already:
        return copied(model), ConversionReport((), (*kept, *skipped), (), already)
    names = [candidate.name for candidate in chosen]
    found = survey(model, names, example=example_of(model, example), rules=checked)
    called = [candidate for candidate in chosen if found.calls[candidate.name]]
    if not called:
        raise InputError(_nothing(model, found, chosen, (*skipped, *kept)))
    sites = [_site(candidate, found, competitors, given) for candidate in called]
    kept += [
        KeptModule(candidate.name, candidate.original, "not called with the example")
        for candidate in chosen
        if candidate not in called
    ]
    result = _replaced(model, called, sites)
    report = ConversionReport(tuple(sites), (*kept, *skipped), found.functional_calls(), already)
    return result, report


def _candidates(model: nn.Module, rules: Rules) -> tuple[list[_Candidate], list[KeptModule]]:
    """Return the modules to replace, and the activations that a rule keeps.

    A module that is reached by several names is one candidate; it is kept if one of them leads
    through a kept container. What is inside an activation module belongs to it.
    """
    names: dict[int, list[str]] = {}
    modules: dict[int, nn.Module] = {}
    reasons: dict[int, str] = {}
    outer: dict[str, str | None] = {}  # name -> action of the outermost match that holds it
    for name, module in model.named_modules(remove_duplicate=False):
        above = outer.get(name.rpartition(".")[0]) if name else None
        action = action_for(module, rules)
        outer[name] = above or action
        if action is None or above == "replace":
            continue
        names.setdefault(id(module), []).append(name)
        modules[id(module)] = module
        if above == "keep":
            reasons[id(module)] = "inside a module that is kept by rule"
        elif action == "keep":
            reasons[id(module)] = "by rule"
        elif module.state_dict():
            reasons[id(module)] = "has weights of its own"
    candidates, kept = [], []
    for key, module in modules.items():
        original = type(module).__name__
        if key in reasons:
            kept.append(KeptModule(names[key][0], original, reasons[key]))
        else:
            candidates.append(_Candidate(tuple(names[key]), original))
    return candidates, kept


def _without_skipped(
    candidates: Sequence[_Candidate], skip: Sequence[str]
) -> tuple[list[_Candidate], list[KeptModule]]:
    if isinstance(skip, str):
        raise InputError(f"skip must be a list of patterns, not the string {skip!r}")
    every = [name for candidate in candidates for name in candidate.names]
    for pattern in skip:
        if not fnmatch.filter(every, pattern):
            raise unknown("activation pattern in skip", pattern, every)
    chosen, skipped = [], []
    for candidate in candidates:
        if any(fnmatch.filter(candidate.names, pattern) for pattern in skip):
            skipped.append(KeptModule(candidate.name, candidate.original, "skipped"))
        else:
            chosen.append(candidate)
    return chosen, skipped


def _nothing(
    model: nn.Module,
    found: Survey,
    chosen: Sequence[_Candidate],
    kept: Sequence[KeptModule],
) -> str:
    """Say why nothing was replaced."""
    functional = found.functional_calls()
    if functional:
        places = [f"{call.function} in {call.module or 'its forward'}" for call in functional[:3]]
        hint = (
            f"it calls activations as functions ({', '.join(places)}), which cannot be replaced; "
            "make them modules"
        )
    elif chosen:
        hint = "none of its activations is called with the example"
    elif kept:
        listed = ", ".join(f"{part.name} ({part.reason})" for part in kept[:3])
        hint = f"all its activations are kept: {listed}"
    else:
        hint = "it has no activation module that a rule replaces; give rules="
    return f"nothing to replace in {type(model).__name__}: {hint}"


def _site(
    candidate: _Candidate, found: Survey, competitors: int, given: Mapping[str, int]
) -> ReplacedSite:
    """Work out the dimension of the units and check that U divides them."""
    calls = found.calls[candidate.name]
    explicit = [given[name] for name in candidate.names if name in given]
    dimension = explicit[0] if explicit else _told_dimension(candidate.name, calls)
    channels = []
    for call in calls:
        if not -len(call.shape) <= dimension < len(call.shape):
            raise InputError(
                f"channel_dims gives {dimension} for {candidate.name!r}, "
                f"whose input has shape {call.shape}"
            )
        channels.append(call.shape[dimension])
    for number, count in enumerate(channels):
        if count % competitors:
            _refuse(candidate.name, found, competitors, (number, count))
    return ReplacedSite(
        candidate.name,
        candidate.original,
        dimension,
        tuple(channels),
        competitors,
        candidate.names[1:],
    )


def _told_dimension(name: str, calls: Sequence[Call]) -> int:
    """Return -1 if the units are last in every call, else their common dimension."""
    places = []
    for call in calls:
        if call.dimension is None:
            why = "its producers disagree" if call.disputed else "no layer tells"
            raise InputError(
                f"cannot tell which dimension of {name!r} (input of shape {call.shape}) holds the "
                f"units: {why}; give channel_dims={{{name!r}: ...}} or skip=[{name!r}]"
            )
        places.append(call.dimension)
    if all(place == len(call.shape) - 1 for place, call in zip(places, calls, strict=True)):
        return -1
    negative = {place - len(call.shape) for place, call in zip(places, calls, strict=True)}
    if len(set(places)) == 1:
        return places[0]
    if len(negative) == 1:
        return negative.pop()
    seen = ", ".join(f"{at} of {call.shape}" for at, call in zip(places, calls, strict=True))
    raise InputError(
        f"{name!r} is called with its units in different dimensions ({seen}); "
        f"give each place a module of its own or skip=[{name!r}]"
    )


def _refuse(name: str, found: Survey, competitors: int, call: tuple[int, int]) -> None:
    """Raise the error for channels that U does not divide, with what would fit everywhere."""
    number, count = call
    several = f" in call {number + 1}" if len(found.calls[name]) > 1 else ""
    near = " or ".join(map(str, nearest_divisors(count, competitors))) or "none"
    shared = 0
    for calls in found.calls.values():
        for each in calls:
            if each.dimension is not None:
                shared = math.gcd(shared, each.shape[each.dimension])
    fit = [number for number in range(2, shared + 1) if shared % number == 0]
    everywhere = ", ".join(map(str, fit)) or "none"
    raise DivisibilityError(
        f"{competitors} competitors do not divide the {count} channels of {name!r}{several}; "
        f"nearest that do: {near}; dividing every layer: {everywhere}"
    )


def _replaced(
    model: nn.Module, candidates: Sequence[_Candidate], sites: Sequence[ReplacedSite]
) -> nn.Module:
    """Return a copy of ``model`` with one LWTA module per site under all its names."""
    result = copied(model)
    for candidate, site in zip(candidates, sites, strict=True):
        before = result.get_submodule(candidate.name)
        after = LWTA(site.competitors, site.channel_dim)
        after.train(before.training)
        for name in candidate.names:
            if not name:
                return after
            parent, _, last = name.rpartition(".")
            result.get_submodule(parent)._modules[last] = after
    return result
