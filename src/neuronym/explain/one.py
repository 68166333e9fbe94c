"""Explain one image: prediction, winners, names and signed contributions."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from neuronym import lwta
from neuronym._version import __version__
from neuronym.devices import device_of
from neuronym.errors import InputError, nearest
from neuronym.explain.contributions import Contributions, attribution, baseline, units_first
from neuronym.explain.samples import Samples, draw
from neuronym.models import LoadedModel, check_made_from
from neuronym.probes import decode, to_rgb
from neuronym.record import split_call
from neuronym.results import Atlas, ClassScore, Explanation, SiteInfo, Unit, Winner

__all__ = ["explain", "explain_images"]

ImageLike = Image.Image | str | os.PathLike[str]


def explain(
    model: LoadedModel,
    image: ImageLike,
    *,
    atlas: Atlas,
    site: str | None = None,
    target: int | str | None = None,
    top_predictions: int = 5,
    samples: int | None = None,
    seed: int = 0,
) -> Explanation:
    """Explain why a model gave one image one logit, by the winners of one site.

    At a competitive site the winners come from the mask of the forward pass, never from the
    values: a winner whose response is negative is listed, and a loser never is. At a dense site
    every unit that fired (activation other than zero) is listed.

    Args:
        model: The model that the atlas was made from.
        image: A PIL image, or a path to an image file.
        atlas: Where the names come from.
        site: A site of the atlas; by default its last competitive site, else its last site.
        target: Class index or class name; by default the predicted class.
        top_predictions: How many of the most probable classes are listed.
        samples: If given (at least 2), the attribution is repeated with that many draws of the
            winners in every layer: the explanation then holds the class's mean probability with
            its spread, and for each winner how often it still won and what it contributed.
        seed: Of the samples.

    Returns:
        Winners in the order of the size of their contribution.

    Raises:
        InputError: The atlas is of another model, site or target is unknown, or samples of a
            model that does not compete are wanted.
        UnreadableError: The image file is broken.
    """
    name, picture = _picture(image)
    (explanation,) = explain_images(
        model,
        [picture],
        atlas=atlas,
        site=site,
        target=target,
        top_predictions=top_predictions,
        samples=samples,
        seed=seed,
    )
    return replace(explanation, image=name)


def explain_images(
    model: LoadedModel,
    images: Sequence[Image.Image],
    *,
    atlas: Atlas,
    site: str | None = None,
    target: int | str | None = None,
    top_predictions: int = 5,
    samples: int | None = None,
    seed: int = 0,
) -> list[Explanation]:
    """Explain several images in one batch; see :func:`explain`."""
    if not images:
        raise InputError("no image to explain")
    if top_predictions < 1:
        raise InputError(f"top_predictions must be at least 1, not {top_predictions}")
    info = _site(atlas, site)
    check_made_from(model, atlas.provenance, what="the atlas")
    device = device_of(model.module)
    inputs = torch.stack([model.transform(image) for image in images]).to(device)
    targets = None
    if target is not None:
        index = _target(target, model.class_names)
        targets = torch.full((len(images),), index, dtype=torch.int64, device=device)
    module, call = split_call(info.name)
    found, mask = _run(model, inputs, info, module, call, targets)
    if found.activations.shape[1] != info.units:
        raise InputError(
            f"site {info.name!r} has {found.activations.shape[1]} units in this model and "
            f"{info.units} in the atlas"
        )
    drawn = None
    if samples is not None:
        again = partial(_run, model, inputs, info, module, call, found.targets)
        drawn = draw(model.module, again, samples=samples, seed=seed)
    context = _Context(model, info, atlas.of_site(info.name), top_predictions, drawn)
    return [_explanation(found, mask, row, context) for row in range(len(images))]


@dataclass(frozen=True)
class _Context:
    model: LoadedModel
    site: SiteInfo
    units: tuple[Unit, ...]
    top_predictions: int
    drawn: Samples | None


def _run(
    model: LoadedModel,
    inputs: Tensor,
    info: SiteInfo,
    module: str,
    call: int,
    targets: Tensor | None,
) -> tuple[Contributions, Tensor | None]:
    """Return the contributions and, at a competitive site, the mask (images, units, positions)."""
    competes = info.competitors is not None
    opened = lwta.trace(model.module, keep="winners") if competes else contextlib.nullcontext()
    with opened as trace:  # of the pass that is explained, not of the one without the site
        found = attribution(model.module, inputs, site=module, targets=targets, call=call)
    mask = None
    if trace is not None:
        records = trace.by_name().get(module, [])
        if len(records) <= call or records[call].competitors != info.competitors:
            raise InputError(
                f"site {info.name!r} does not compete in blocks of {info.competitors} in this model"
            )
        mask = units_first(records[call].mask, records[call].channel_dim)
    baselines = baseline(model.module, inputs, site=module, targets=found.targets, call=call)
    return found.beside(baselines, channel_dim=info.channel_dim), mask


def _explanation(
    found: Contributions, mask: Tensor | None, row: int, context: _Context
) -> Explanation:
    logits = found.logits[row].double()
    probabilities = logits.softmax(0)

    def score(index: int) -> ClassScore:
        names = context.model.class_names
        name = names[index] if names else f"class {index}"
        return ClassScore(index, name, float(logits[index]), float(probabilities[index]))

    order = logits.argsort(descending=True, stable=True)[: context.top_predictions]
    return Explanation(
        image="",
        site=context.site.name,
        target=score(int(found.targets[row])),
        predictions=tuple(score(int(index)) for index in order),
        winners=_winners(found, mask, row, context),
        baseline=float(found.baselines[row]),
        completeness_error=float(found.completeness_error[row]),
        competitive=mask is not None,
        provenance=_provenance(context),
        sampled=None if context.drawn is None else context.drawn.summary(row),
    )


def _winners(
    found: Contributions, mask: Tensor | None, row: int, context: _Context
) -> tuple[Winner, ...]:
    activation = found.activations[row].double().sum(-1)
    contribution = found.per_unit[row]
    if mask is None:
        listed = (found.activations[row] != 0).any(-1)
        win_rate, image_winner = None, listed
    else:
        listed = mask[row].any(-1)
        win_rate = mask[row].double().mean(-1)
        image_winner = image_winners(found.activations[row], mask[row], context.site)
    winners = []
    for index in listed.nonzero()[:, 0].tolist():
        unit = context.units[index]
        winners.append(
            Winner(
                unit=index,
                block=unit.block,
                name=unit.name,
                score=unit.score,
                activation=float(activation[index]),
                contribution=float(contribution[index]),
                image_winner=bool(image_winner[index]),
                win_rate=None if win_rate is None else float(win_rate[index]),
                win_rate_usual=unit.win_rate,
                **_sampled(context.drawn, row, index),
            )
        )
    return tuple(sorted(winners, key=lambda winner: -abs(winner.contribution)))


def _sampled(drawn: Samples | None, row: int, unit: int) -> dict[str, float]:
    if drawn is None:
        return {}
    return {
        "sample_wins": float(drawn.wins[row, unit]),
        "sample_win_rate": float(drawn.win_rate[row, unit]),
        "contribution_mean": float(drawn.contribution_mean[row, unit]),
        "contribution_spread": float(drawn.contribution_spread[row, unit]),
    }


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


def _site(atlas: Atlas, name: str | None) -> SiteInfo:
    if name is not None:
        return atlas.site(name)
    if not atlas.sites:
        raise InputError("the atlas has no site")
    competitive = [site for site in atlas.sites if site.competitors is not None]
    return (competitive or list(atlas.sites))[-1]


def _target(target: int | str, names: tuple[str, ...] | None) -> int:
    if isinstance(target, int):
        if target < 0 or (names is not None and target >= len(names)):
            limit = len(names) - 1 if names else "the number of classes minus 1"
            raise InputError(f"target class must be 0 to {limit}, not {target}")
        return target
    if names is None:
        raise InputError(f"the model has no class names; give the index instead of {target!r}")
    matches = [index for index, name in enumerate(names) if name.lower() == target.lower()]
    if not matches:
        close = ", ".join(nearest(target, names)) or ", ".join(names[:5])
        raise InputError(f"the model has no class {target!r}; nearest: {close}")
    return matches[0]


def _picture(image: ImageLike) -> tuple[str, Image.Image]:
    if isinstance(image, Image.Image):
        return "image", to_rgb(image)
    return os.fspath(image), decode(image)


def _provenance(context: _Context) -> dict[str, Any]:
    return {
        "neuronym": __version__,
        "torch": torch.__version__,
        "model": {"spec": context.model.spec, "fingerprint": context.model.fingerprint},
        "pooling": context.site.pooling,
    }
