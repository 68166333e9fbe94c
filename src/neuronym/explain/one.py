"""Explain one image: prediction, winners, names and signed contributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from neuronym.devices import device_of
from neuronym.errors import InputError
from neuronym.explain.build import Context, build, image_winners
from neuronym.explain.contributions import Contributions
from neuronym.explain.passes import Question, SitePass, run_passes, sample_passes
from neuronym.explain.places import Grid, PositionMap, prefix_tokens
from neuronym.explain.samples import Samples, draw
from neuronym.explain.select import ALL, class_index, select_sites
from neuronym.models import LoadedModel, check_made_from
from neuronym.probes import ImageLike, picture_of
from neuronym.results import Atlas, Explanation

__all__ = [
    "Examination",
    "ExplainOptions",
    "examine",
    "explain",
    "explain_images",
    "explain_sites",
    "image_winners",
]


@dataclass(frozen=True)
class ExplainOptions:
    """What else may be asked of an explanation.

    Attributes:
        top_predictions: How many of the most probable classes are listed.
        causal: How many winners, those of the largest contribution, are really silenced and
            really handed over to their runner-ups, one at a time; the network runs again for each.
        prefix_tokens: Tokens before those of the patches, for position maps of transformers that
            do not say it themselves.
    """

    top_predictions: int = 5
    causal: int = 0
    prefix_tokens: int | None = None

    def __post_init__(self) -> None:
        lowest = {"top_predictions": 1, "causal": 0, "prefix_tokens": 0}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is None and name == "prefix_tokens":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name} must be an int of at least {least}, not {value!r}")


@dataclass(frozen=True, eq=False)
class Examination:
    """An explanation with the numbers behind it.

    Attributes:
        explanation: Of one image by one site.
        activations: ``(units, positions)``, masked.
        values: ``(units, positions)``, contributions in logits.
        grid: How the positions lie over the image; ``None`` where ``explanation.no_map`` says why.
        picture: The image before preprocessing.
    """

    explanation: Explanation
    activations: Tensor
    values: Tensor
    grid: Grid | None
    picture: Image.Image

    def position_map(self, unit: int) -> PositionMap:
        """Return where one unit was active and what each place contributed.

        Raises:
            InputError: The site's positions do not lie over the image, or there is no such unit.
        """
        site = self.explanation.site
        if self.grid is None:
            raise InputError(f"site {site!r} has no map: {self.explanation.no_map}")
        last = len(self.activations) - 1
        if not 0 <= unit <= last:
            raise InputError(f"site {site!r} has units 0 to {last}, not {unit}")
        shape = (self.grid.rows, self.grid.columns)
        values, contribution = (
            part[unit, self.grid.first :].reshape(shape).float().cpu().numpy()
            for part in (self.activations, self.values)
        )
        return PositionMap(site, unit, values, contribution)


def explain(
    model: LoadedModel,
    image: ImageLike,
    *,
    atlas: Atlas,
    site: str | None = None,
    target: int | str | None = None,
    against: int | str | None = None,
    samples: int | None = None,
    seed: int = 0,
    options: ExplainOptions | None = None,
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
        against: Another class: what is explained is then the target's logit minus this one's.
        samples: If given (at least 2), the attribution is repeated with that many draws of the
            winners in every layer: the explanation then holds the class's mean probability with
            its spread, and for each winner how often it still won and what it contributed.
        seed: Of the samples.
        options: What else is asked.

    Returns:
        Winners in the order of the size of their contribution.

    Raises:
        InputError: The atlas is of another model, site, target or rival is unknown, or samples of
            a model that does not compete are wanted.
        UnreadableError: The image file is broken.
    """
    (found,) = examine(
        model,
        image,
        atlas=atlas,
        sites=None if site is None else atlas.site(site).name,
        target=target,
        against=against,
        samples=samples,
        seed=seed,
        options=options,
    )
    return found.explanation


def explain_sites(
    model: LoadedModel,
    image: ImageLike,
    *,
    atlas: Atlas,
    sites: str | Sequence[str] = ALL,
    target: int | str | None = None,
    against: int | str | None = None,
    samples: int | None = None,
    seed: int = 0,
    options: ExplainOptions | None = None,
) -> tuple[Explanation, ...]:
    """Explain one image by each of several sites; one explanation per site, in the atlas's order.

    All sites share one forward and one backward pass. Their contributions are not added, because
    each site accounts for the same logit.

    Args:
        model, image, atlas, target, against, samples, seed, options: As in :func:`explain`.
        sites: Names with wildcards, several in a list or separated by commas; ``"all"``.

    Raises:
        InputError: As :func:`explain`; or a pattern matches no site of the atlas.
    """
    found = examine(
        model,
        image,
        atlas=atlas,
        sites=sites,
        target=target,
        against=against,
        samples=samples,
        seed=seed,
        options=options,
    )
    return tuple(each.explanation for each in found)


def examine(
    model: LoadedModel,
    image: ImageLike,
    *,
    atlas: Atlas,
    sites: str | Sequence[str] | None = None,
    target: int | str | None = None,
    against: int | str | None = None,
    samples: int | None = None,
    seed: int = 0,
    options: ExplainOptions | None = None,
) -> tuple[Examination, ...]:
    """Do as :func:`explain_sites`, and keep the numbers behind each explanation.

    They are what position maps and pictures are made of.

    Args:
        model, image, atlas, target, against, samples, seed, options: As in :func:`explain`.
        sites: As in :func:`explain_sites`; ``None`` for the one site that :func:`explain` takes.
    """
    made = _Request(model, atlas, sites, target, against, samples, seed, options)
    return tuple(_examine(made, [picture_of(image)])[0])


def explain_images(
    model: LoadedModel,
    images: Sequence[ImageLike],
    *,
    atlas: Atlas,
    site: str | None = None,
    target: int | str | None = None,
    against: int | str | None = None,
    samples: int | None = None,
    seed: int = 0,
    options: ExplainOptions | None = None,
) -> list[Explanation]:
    """Explain several images in one batch; see :func:`explain`.

    An explanation's ``image`` is the path, or ``"image 0"``, ``"image 1"`` … by its place among
    ``images`` where it is a PIL image.
    """
    if not images:
        raise InputError("no image to explain")
    sites = None if site is None else atlas.site(site).name
    pictures = [picture_of(image, name=f"image {at}") for at, image in enumerate(images)]
    made = _Request(model, atlas, sites, target, against, samples, seed, options)
    return [found[0].explanation for found in _examine(made, pictures)]


@dataclass(frozen=True, eq=False)
class _Request:
    model: LoadedModel
    atlas: Atlas
    sites: str | Sequence[str] | None
    target: int | str | None
    against: int | str | None
    samples: int | None
    seed: int
    options: ExplainOptions | None


def _examine(
    request: _Request, images: Sequence[tuple[str, Image.Image]]
) -> list[list[Examination]]:
    """Return one examination per image (its name and its RGB picture) and site."""
    model, atlas = request.model, request.atlas
    options = request.options or ExplainOptions()
    sites = select_sites(atlas, request.sites)
    check_made_from(model, atlas.provenance, what="the atlas")
    device = device_of(model.module)
    inputs = torch.stack([model.transform(picture) for _, picture in images]).to(device)
    targets, against = (
        None
        if wanted is None
        else torch.full((len(images),), class_index(wanted, model.class_names), device=device)
        for wanted in (request.target, request.against)
    )
    question = Question(model, inputs, sites, targets, against)
    passes = run_passes(question)
    drawn: list[Samples | None] = [None] * len(sites)
    if request.samples is not None:
        settled = replace(question, targets=passes[0].found.targets)
        again = partial(_draw_once, settled)
        drawn = [*draw(model.module, again, samples=request.samples, seed=request.seed)]
    prefix = options.prefix_tokens
    if prefix is None:
        prefix = prefix_tokens(model.module)
    contexts = [
        Context(
            question,
            atlas.of_site(site.name),
            options.top_predictions,
            options.causal,
            prefix,
            samples,
        )
        for site, samples in zip(sites, drawn, strict=True)
    ]
    return [
        [
            _examination(made, row, context, image)
            for made, context in zip(passes, contexts, strict=True)
        ]
        for row, image in enumerate(images)
    ]


def _examination(
    made: SitePass, row: int, context: Context, image: tuple[str, Image.Image]
) -> Examination:
    explanation, grid = build(made, row, context)
    found, (name, picture) = made.found, image
    explanation = replace(explanation, image=name)
    return Examination(explanation, found.activations[row], found.values[row], grid, picture)


def _draw_once(question: Question) -> list[tuple[Contributions, Tensor | None]]:
    return [(made.found, made.mask) for made in sample_passes(question)]
