"""From numbers to an explanation: winners with their names, runner-ups and places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuronym._version import __version__
from neuronym.errors import InputError
from neuronym.explain.causal import effects
from neuronym.explain.passes import Question, SitePass
from neuronym.explain.places import Grid, grid_of, places
from neuronym.explain.runner_up import Seconds, seconds
from neuronym.explain.samples import Samples
from neuronym.models import LoadedModel
from neuronym.results import ClassScore, Explanation, Place, RunnerUp, SiteInfo, Unit, Winner

__all__ = ["Context", "build", "image_winners", "token_of"]


@dataclass(frozen=True, eq=False)
class Context:
    """Everything beside the numbers of one site that an explanation needs.

    Attributes:
        question: What was asked.
        units: The atlas's units of the site.
        top_predictions: How many of the most probable classes are listed.
        causal: How many winners are really silenced and handed over.
        prefix: Tokens before those of the patches, where that is known.
        drawn: What samples said at this site, where they were asked for.
    """

    question: Question
    units: tuple[Unit, ...]
    top_predictions: int
    causal: int
    prefix: int | None
    drawn: Samples | None


@dataclass(frozen=True, eq=False)
class _Columns:
    """What winners get beside their names: unit → value, for the units that are listed."""

    activation: list[float]
    contribution: list[float]
    image_winner: list[bool]
    win_rate: list[float] | None
    seconds: tuple[list[int], list[float], list[float], list[float]] | None
    places: Mapping[int, Place | None]
    effects: Mapping[int, tuple[float, float | None]]
    sampled: Mapping[str, list[float]]


def build(made: SitePass, row: int, context: Context) -> tuple[Explanation, Grid | None]:
    """Return the explanation of one image by one site, and how its positions lie."""
    found = made.found
    logits = found.logits[row].double()
    probabilities = logits.softmax(0)
    model = context.question.model

    def score(index: int) -> ClassScore:
        name = model.class_names[index] if model.class_names else f"class {index}"
        return ClassScore(index, name, float(logits[index]), float(probabilities[index]))

    size = context.question.inputs.shape
    image = (size[-2], size[-1]) if len(size) == 4 else None
    grid = (
        "the network takes no images"
        if image is None
        else grid_of(
            made.shape, channel_dim=made.site.channel_dim, image=image, prefix=context.prefix
        )
    )
    order = logits.topk(min(context.top_predictions, len(logits))).indices.tolist()
    lies = grid if isinstance(grid, Grid) else None
    explanation = Explanation(
        image="",
        site=made.site.name,
        target=score(int(found.targets[row])),
        predictions=tuple(score(index) for index in order),
        winners=_winners(made, row, context, lies),
        baseline=float(found.baselines[row]),
        completeness_error=float(found.completeness_error[row]),
        competitive=made.mask is not None,
        provenance=_provenance(model, made.site),
        sampled=None if context.drawn is None else context.drawn.summary(row),
        against=None if found.against is None else score(int(found.against[row])),
        grid=None if lies is None else (lies.rows, lies.columns),
        no_map=grid if isinstance(grid, str) else None,
    )
    return explanation, lies


def _winners(made: SitePass, row: int, context: Context, grid: Grid | None) -> tuple[Winner, ...]:
    activations, mask = made.found.activations[row], None if made.mask is None else made.mask[row]
    listed = ((activations != 0) if mask is None else mask).any(-1).nonzero()[:, 0].tolist()
    contribution = made.found.per_unit[row].tolist()
    listed.sort(key=lambda unit: -abs(contribution[unit]))
    chosen = listed if mask is None else image_winners(activations, mask, made.site).tolist()
    columns = _Columns(
        activation=activations.double().sum(-1).tolist(),
        contribution=contribution,
        image_winner=[True] * made.site.units if mask is None else chosen,
        win_rate=None if mask is None else mask.double().mean(-1).tolist(),
        seconds=_seconds(made, row),
        places={} if grid is None else places(activations, made.found.values[row], listed, grid),
        effects=_effects(made, row, context, listed[: context.causal]),
        sampled=_sampled(context.drawn, row),
    )
    return tuple(_winner(unit, columns, context.units) for unit in listed)


def _winner(index: int, columns: _Columns, units: tuple[Unit, ...]) -> Winner:
    unit = units[index]
    runner_up = None
    if columns.seconds is not None:
        second, share, response, change = (column[index] for column in columns.seconds)
        runner_up = RunnerUp(int(second), units[int(second)].name, share, response, change)
    silenced, handed_over = columns.effects.get(index, (None, None))
    sampled = columns.sampled
    return Winner(
        unit=index,
        block=unit.block,
        name=unit.name,
        score=unit.score,
        activation=columns.activation[index],
        contribution=columns.contribution[index],
        image_winner=columns.image_winner[index],
        win_rate=None if columns.win_rate is None else columns.win_rate[index],
        win_rate_usual=unit.win_rate,
        sample_wins=sampled["wins"][index] if sampled else None,
        sample_win_rate=sampled["win_rate"][index] if sampled else None,
        contribution_mean=sampled["contribution_mean"][index] if sampled else None,
        contribution_spread=sampled["contribution_spread"][index] if sampled else None,
        p_value=unit.p_value,
        q_value=unit.q_value,
        unnamed=unit.unnamed,
        candidate=unit.runner_up_names[0] if unit.name is None and unit.runner_up_names else None,
        runner_up=runner_up,
        effect_silenced=silenced,
        effect_handed_over=handed_over,
        place=columns.places.get(index),
    )


def _seconds(
    made: SitePass, row: int
) -> tuple[list[int], list[float], list[float], list[float]] | None:
    if made.mask is None or made.responses is None or made.site.competitors is None:
        return None
    found: Seconds = seconds(
        made.responses[row],
        made.mask[row],
        made.gradient[row],
        competitors=made.site.competitors,
    )
    parts = (found.unit, found.share, found.response, found.change)
    unit, share, response, change = (part.tolist() for part in parts)
    return unit, share, response, change


def _effects(
    made: SitePass, row: int, context: Context, units: list[int]
) -> dict[int, tuple[float, float | None]]:
    if not units:
        return {}
    found = made.found
    measured = effects(
        context.question.model.module,
        context.question.inputs[row : row + 1],
        made.site,
        units,
        target=int(found.targets[row]),
        against=None if found.against is None else int(found.against[row]),
    )
    handed = measured.handed_over or (None,) * len(units)
    return dict(zip(units, zip(measured.silenced, handed, strict=True), strict=True))


def _sampled(drawn: Samples | None, row: int) -> dict[str, list[float]]:
    if drawn is None:
        return {}
    names = ("wins", "win_rate", "contribution_mean", "contribution_spread")
    return {name: getattr(drawn, name)[row].tolist() for name in names}


def image_winners(activations: Tensor, mask: Tensor, site: SiteInfo) -> Tensor:
    """Mark each block's winner for the whole image.

    Of the competitors that won at least one position it is the one with the largest pooled masked
    activation; at a site that was pooled at a token, the one that won there.

    Args:
        activations: ``(units, positions)``, masked.
        mask: ``(units, positions)``, true where a unit won.
        site: The site, with its competitors and its pooling.

    Returns:
        ``(units,)`` bool with one true entry per block.
    """
    if site.competitors is None:
        raise InputError(f"site {site.name!r} does not compete")
    token = token_of(site.pooling)
    if token is not None:
        return mask[:, token]
    pooled = activations.amax(-1) if site.pooling == "max" else activations.double().mean(-1)
    pooled = pooled.double().masked_fill(~mask.any(-1), -torch.inf)
    best = pooled.view(-1, site.competitors).argmax(1, keepdim=True)
    chosen = torch.zeros(len(best), site.competitors, dtype=torch.bool, device=mask.device)
    return chosen.scatter_(1, best, True).flatten()


def token_of(pooling: str) -> int | None:
    """Return the token that a pooling such as ``"token"`` or ``"token:3"`` reads, else ``None``."""
    kind, _, index = pooling.partition(":")
    return (int(index) if index else 0) if kind == "token" else None


def _provenance(model: LoadedModel, site: SiteInfo) -> dict[str, Any]:
    return {
        "neuronym": __version__,
        "torch": torch.__version__,
        "model": {"spec": model.spec, "fingerprint": model.fingerprint},
        "pooling": site.pooling,
    }
