"""The harness: metrics by name, measured for one model, its atlas and other images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from neuronym._version import __version__
from neuronym.dissect import DissectOptions, record_sites
from neuronym.dissect.target import on_device
from neuronym.errors import InputError, unknown
from neuronym.evaluate.faithfulness import FaithfulnessOptions, faithfulness
from neuronym.evaluate.overlap import naming_images, shared_images
from neuronym.evaluate.scenes import scene_truth, scenes_of
from neuronym.evaluate.truth import truth_scorecard
from neuronym.files import write_json
from neuronym.models import LoadedModel, check_made_from
from neuronym.probes import ProbeSet, sampled
from neuronym.results import Atlas, Metric, Scorecard, SiteInfo
from neuronym.results.selection import matching_sites

__all__ = ["METRICS", "EvaluateOptions", "Evaluation", "Measured", "Request", "evaluate"]

SCORECARD = "scorecard.json"
HEADLINES = (
    "faithfulness.deletion_ratio/",
    "faithfulness.insertion_ratio/",
    "faithfulness.same_prediction/none/",
    "faithfulness.same_prediction/top_",
)
LISTED = 100  # skipped images that the provenance names


@dataclass(frozen=True)
class EvaluateOptions:
    """How an evaluation is done.

    Attributes:
        sites: Names of sites of the atlas, with wildcards; empty for all of them.
        limit: At most so many images, drawn with the seed; ``None`` takes all.
        seed: Of everything random.
        batch_size: Inputs per forward pass.
        workers: Threads that decode; ``None`` takes one per processor, at most 4.
        device: Where the model runs; ``None`` leaves it where it is.
        faithfulness: Of that metric; its seed, batch size, workers and progress are those here.
        progress: Called with ``(done, total, note)``.
    """

    sites: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0
    batch_size: int = 128
    workers: int | None = None
    device: str | None = None
    faithfulness: FaithfulnessOptions = field(default_factory=FaithfulnessOptions)
    progress: Callable[[int, int, str], None] | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit must be at least 1, not {self.limit}")
        if self.seed < 0:
            raise InputError(f"seed must be at least 0, not {self.seed}")


@dataclass(frozen=True)
class Request:
    """What a metric is asked for.

    Attributes:
        model, atlas: A model and the atlas that was made from it.
        images: The images of the evaluation.
        naming: The images that units were named on; ``None`` where they cannot be read here.
        sites: Of the atlas.
        options: Seeds and sizes.
    """

    model: LoadedModel
    atlas: Atlas
    images: ProbeSet
    naming: ProbeSet | None
    sites: tuple[SiteInfo, ...]
    options: EvaluateOptions


@dataclass(frozen=True)
class Measured:
    """What a metric gives.

    Attributes:
        rows: Of the scorecard.
        facts: For its provenance, as JSON types: settings, notes.
        save: Writes files beside the scorecard into a folder.
        headlines: Beginnings of the names of the rows to look at first.
    """

    rows: tuple[Metric, ...]
    facts: Mapping[str, Any]
    save: Callable[[Path], None]
    headlines: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """A scorecard, and what each metric writes beside it."""

    scorecard: Scorecard
    measured: Mapping[str, Measured]

    @property
    def headlines(self) -> tuple[Metric, ...]:
        """The rows to look at first."""
        return tuple(
            row
            for each in self.measured.values()
            for row in each.rows
            if row.name.startswith(each.headlines)
        )

    def save(self, folder: str | Path) -> None:
        """Write ``scorecard.json`` and the files of each metric."""
        folder = Path(folder)
        for each in self.measured.values():
            each.save(folder)
        self.scorecard.save(folder / SCORECARD)


def _faithfulness(request: Request) -> Measured:
    options = request.options
    found = faithfulness(
        request.model,
        request.images,
        request.sites,
        options=replace(
            options.faithfulness,
            batch_size=options.batch_size,
            workers=options.workers,
            seed=options.seed,
            progress=options.progress,
        ),
    )
    rows, notes = found.metrics()
    facts = {
        **found.options,
        "images": found.images,
        "skipped": len(found.skipped),
        "skipped_ids": list(found.skipped[:LISTED]),
        "notes": list(notes),
    }
    return Measured(rows, facts, found.save, HEADLINES)


def _truth(request: Request) -> Measured:
    scenes, indices = scenes_of(request.images)
    shared = None
    if request.naming is not None:
        shared = shared_images(request.images, request.naming, workers=request.options.workers)
    if shared:
        raise InputError(
            f"{shared} of the {len(request.images)} images of {request.images.name!r} were used to "
            "name the units, so that truth on them says too much; give others, such as another "
            "seed: scenes:N:SEED"
        )

    recorded = record_sites(
        request.model,
        request.images,
        request.sites,
        options=DissectOptions(
            batch_size=request.options.batch_size, workers=request.options.workers
        ),
    )
    truth = scene_truth(request.atlas, recorded, scenes.attributes, indices)
    card = truth_scorecard(truth, seed=request.options.seed)
    notes = [] if shared is not None else ["the naming images cannot be read here: not compared"]

    def save(folder: Path) -> None:
        write_json(folder / "truth.json", [row.to_dict() for row in truth])

    return Measured(
        tuple(card.metrics),
        {**card.provenance, "shared_with_naming": shared, "notes": notes},
        save,
        ("units.",),
    )


METRICS: Mapping[str, Callable[[Request], Measured]] = {
    "faithfulness": _faithfulness,
    "truth": _truth,
}
"""Name → what measures it."""


def evaluate(
    model: LoadedModel,
    images: ProbeSet,
    *,
    atlas: Atlas,
    metrics: Sequence[str],
    options: EvaluateOptions | None = None,
) -> Evaluation:
    """Measure a model and its atlas on images.

    ``truth`` refuses images that units were named on and says how many they are. For
    ``faithfulness`` they are allowed, because contributions do not depend on names; the
    provenance says under ``naming`` whether the images come from the same source.

    Args:
        model: The model that the atlas was made from.
        images: Images; for an honest figure none that the model was trained on.
        atlas: Sites and names.
        metrics: Names of :data:`METRICS`.
        options: Sites, seeds and sizes.

    Raises:
        UnknownNameError: A metric is not known.
        InputError: The atlas is of another model, a site is unknown, or a metric does not fit the
            images.
    """
    options = options or EvaluateOptions()
    if not metrics:
        raise InputError(f"no metric to measure; known: {', '.join(METRICS)}")
    for name in metrics:
        if name not in METRICS:
            raise unknown("metric", name, tuple(METRICS))
    check_made_from(model, atlas.provenance, what="the atlas")
    naming = naming_images(atlas)
    request = Request(
        model=model,
        atlas=atlas,
        images=sampled(images, options.limit, seed=options.seed),
        naming=naming,
        sites=matching_sites(atlas, options.sites) if options.sites else atlas.sites,
        options=options,
    )
    with on_device(model.module, options.device):
        measured = {name: METRICS[name](request) for name in dict.fromkeys(metrics)}
    rows = tuple(row for each in measured.values() for row in each.rows)
    same = None if naming is None else naming.fingerprint == images.fingerprint
    provenance = {
        "neuronym": __version__,
        "torch": torch.__version__,
        "model": {"spec": model.spec, "fingerprint": model.fingerprint},
        "images": {
            "spec": images.name,
            "fingerprint": images.fingerprint,
            "count": len(request.images),
            "of": len(images),
        },
        "naming": {"spec": atlas.provenance.get("images", {}).get("spec"), "same_source": same},
        "sites": [site.name for site in request.sites],
        "seed": options.seed,
        "metrics": {name: dict(each.facts) for name, each in measured.items()},
    }
    return Evaluation(Scorecard(rows, provenance), measured)
