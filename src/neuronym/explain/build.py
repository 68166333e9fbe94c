"""From numbers to an explanation: winners with their names, runner-ups and places."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, TypeAlias

import torch
from torch import Tensor

from neuronym._version import __version__
from neuronym.errors import InputError
from neuronym.explain.causal import effects
from neuronym.explain.passes import Question, SitePass
from neuronym.explain.places import Grid, grid_of, places
from neuronym.explain.runner_up import seconds
from neuronym.explain.samples import Samples
from neuronym.models import LoadedModel
from neuronym.record.pooling import candidates_of, mark_winners
from neuronym.results import ClassScore, Explanation, Place, RunnerUp, SiteInfo, Unit, Winner

_Four: TypeAlias = tuple["float | None", "float | None", "float | None", "float | None"]

__all__ = ["Context", "build", "image_winners"]


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
    listed = ((activations != 0) if mask is None else mask).any(-1).nonzero()[:, 0]
    contributions = made.found.per_unit[row]
    order = contributions[listed].abs().argsort(descending=True, stable=True)
    listed = listed[order]
    units = listed.tolist()
    chosen = None if mask is None else image_winners(activations, mask, made.site)[listed].tolist()
    rates = None if mask is None else mask[listed].double().mean(-1).tolist()
    nothing = [None] * len(units)
    columns = zip(
        units,
        activations[listed].double().sum(-1).tolist(),
        contributions[listed].tolist(),
        repeat(True, len(units)) if chosen is None else chosen,
        nothing if rates is None else rates,
        _runner_ups(made, row, context, listed) or nothing,
        nothing if grid is None else places(activations, made.found.values[row], listed, grid),
        _effects(made, row, context, units),
        _sampled(context.drawn, row, listed),
        strict=True,
    )
    return tuple(_winner(context.units, *column) for column in columns)


def _winner(
    units: tuple[Unit, ...],
    index: int,
    activation: float,
    contribution: float,
    image_winner: bool,
    win_rate: float | None,
    runner_up: RunnerUp | None,
    place: Place | None,
    effect: tuple[float | None, float | None],
    sampled: _Four,
) -> Winner:
    """Fill one row by position, in the order of the fields: an explanation has hundreds."""
    unit = units[index]
    candidates = unit.runner_up_names if unit.name is None else ()
    return Winner(
        index,
        unit.block,
        unit.name,
        unit.score,
        activation,
        contribution,
        image_winner,
        win_rate,
        unit.win_rate,
        *sampled,
        unit.p_value,
        unit.q_value,
        unit.unnamed,
        candidates[0] if candidates else None,
        runner_up,
        *effect,
        place,
    )


def _runner_ups(
    made: SitePass, row: int, context: Context, listed: Tensor
) -> list[RunnerUp] | None:
    if made.mask is None or made.responses is None or made.site.competitors is None:
        return None
    found = seconds(
        made.responses[row],
        made.mask[row],
        made.gradient[row],
        competitors=made.site.competitors,
    )
    parts = (found.unit, found.share, found.response, found.change)
    rows = zip(*(part[listed].tolist() for part in parts), strict=True)
    return [RunnerUp(unit, context.units[unit].name, *rest) for unit, *rest in rows]


def _effects(
    made: SitePass, row: int, context: Context, units: list[int]
) -> Iterable[tuple[float | None, float | None]]:
    """Return what silencing and handing over changed, for the first units; then nothing."""
    first = units[: context.causal]
    if not first:
        return repeat((None, None), len(units))
    found = made.found
    measured = effects(
        context.question.model.module,
        context.question.inputs[row : row + 1],
        made.site,
        first,
        target=int(found.targets[row]),
        against=None if found.against is None else int(found.against[row]),
    )
    handed = measured.handed_over or (None,) * len(first)
    pairs = zip(measured.silenced, handed, strict=True)
    return chain(pairs, repeat((None, None), len(units) - len(first)))


def _sampled(drawn: Samples | None, row: int, listed: Tensor) -> Iterable[_Four]:
    if drawn is None:
        return repeat((None, None, None, None), len(listed))
    parts = (drawn.wins, drawn.win_rate, drawn.contribution_mean, drawn.contribution_spread)
    return zip(*(part[row, listed].tolist() for part in parts), strict=True)


def image_winners(activations: Tensor, mask: Tensor, site: SiteInfo) -> Tensor:
    """Mark each block's winner for the whole image.

    Of the competitors that won at least one position it is the one with the largest pooled masked
    activation; at a site that was pooled at a token, the one that won there.

    Args:
        activations: ``(..., units, positions)``, masked.
        mask: ``(..., units, positions)``, true where a unit won.
        site: The site, with its competitors and its pooling.

    Returns:
        ``(..., units)`` bool with one true entry per block.
    """
    if site.competitors is None:
        raise InputError(f"site {site.name!r} does not compete")
    if site.pooling == "max":
        pooled = activations.amax(-1).double()
    else:
        pooled = activations.sum(-1, dtype=torch.float64) / activations.shape[-1]
    return mark_winners(pooled, candidates_of(mask, site.pooling), site.competitors)


def _provenance(model: LoadedModel, site: SiteInfo) -> dict[str, Any]:
    return {
        "neuronym": __version__,
        "torch": torch.__version__,
        "model": {"spec": model.spec, "fingerprint": model.fingerprint},
        "pooling": site.pooling,
    }
