"""``neuronym demo``: the whole of it on rendered scenes, in minutes, without a download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronym.cli._console import Stages, progress, say
from neuronym.cli._options import Out, Overwrite, Quiet, Seed

if TYPE_CHECKING:
    from neuronym.evaluate import UnitTruth
    from neuronym.models import LoadedModel
    from neuronym.probes.scenes import SceneSet
    from neuronym.report import ExplainedImage
    from neuronym.results import Atlas
    from neuronym.train import TrainResult, TrainSettings

__all__ = ["demo"]

PRESET = "scenes"
TITLE = "The neurons of a network that looks at scenes"
SITES = "layers.1.act,layers.2.act"
TEST_SEED, PROBE_SEED, CHECK_SEED = 101, 102, 103  # added to the seed: four disjoint sets
SIMILARITY = "cosine"  # reads every image; the attributes are on a tenth to a half of them
EXPLAINED = 6


@dataclass(frozen=True)
class _Sets:
    """Scenes of four purposes; no image is in two of them.

    Attributes:
        training: Both twins learn from them.
        test: Accuracy is measured on them, once.
        probe: Units are named by them.
        check: Names are checked on them, and images explained.
    """

    training: SceneSet
    test: SceneSet
    probe: SceneSet
    check: SceneSet


def demo(
    out: Out,
    seed: Seed = 0,
    scenes: Annotated[
        int, typer.Option("--scenes", min=200, help="Training scenes; the other sets follow.")
    ] = 8000,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Epochs of each twin; default: preset.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a competitive network and its dense twin on rendered scenes, name the units, check
    each name against the true attributes, explain images, and write a report."""
    from neuronym.files import claim_folder, write_json, write_manifest
    from neuronym.models import load
    from neuronym.train import PRESETS

    preset = PRESETS[PRESET]
    settings = replace(preset, seed=seed, epochs=preset.epochs if epochs is None else epochs)
    claim = claim_folder(out, kind="demo", overwrite=overwrite)
    stages = Stages(quiet=quiet)
    with stages.stage("scenes", "rendering scenes"):
        sets = _sets(scenes, seed)
    folder = claim.clear()
    with stages.stage("train", f"training the competitive network, U = {settings.competitors}"):
        competitive = _train(settings, sets, folder / "model", quiet=quiet)
    with stages.stage("twin", "training its dense twin"):
        dense = _train(settings.twin(), sets, folder / "dense", quiet=quiet)
    with stages.stage("test", "measuring both on scenes that neither has seen"):
        sites = competitive.config.converted
        measured = {
            "competitive": _measure(competitive.folder, sets.test, sites),
            "dense": _measure(dense.folder, sets.test, sites),
        }
    model = load(str(competitive.folder))
    with stages.stage("dissect", "naming the units"):
        atlas = _dissect(model, sets.probe, folder / "atlas", quiet=quiet)
    with stages.stage("check", "checking each name against the true attributes"):
        truth = _truth(model, atlas, sets.check)
    with stages.stage("explain", "explaining images"):
        explained = _explain(model, atlas, sets.check, folder / "explanations")
    summary = _summary(settings, measured, truth, sets)
    with stages.stage("report", "writing the report"):
        from neuronym.report import ReportOptions, write_report

        summary["seconds"] = {**stages.seconds, "total": stages.total}
        shown = {**summary, "truth": [row.to_dict() for row in truth]}
        page = write_report(
            atlas,
            folder / "report",
            explanations=explained,
            summary=shown,
            options=ReportOptions(title=TITLE),
        )
    summary["seconds"] = {**stages.seconds, "total": stages.total}
    write_json(folder / "truth.json", [row.to_dict() for row in truth])
    write_json(folder / "summary.json", summary)
    write_manifest(folder, kind="demo", schema=1, seed=seed, scenes=scenes)
    if not quiet:
        _show(summary)
    typer.echo(str(page))


def _sets(scenes: int, seed: int) -> _Sets:
    from neuronym.probes.scenes import SceneSet
    from neuronym.train.presets import SCENES_TASK

    def make(n: int, offset: int) -> SceneSet:
        return SceneSet(n, seed=seed * 1000 + offset, task=SCENES_TASK).rendered()

    part = max(100, scenes // 4)
    return _Sets(
        training=make(scenes, 100),
        test=make(part, TEST_SEED),
        probe=make(part, PROBE_SEED),
        check=make(part, CHECK_SEED),
    )


def _train(settings: TrainSettings, sets: _Sets, out: Path, *, quiet: bool) -> TrainResult:
    from neuronym.train import Progress, train

    with progress("training", quiet=quiet) as update:

        def step(state: Progress) -> None:
            update(state.step, state.steps, f"epoch {state.epoch}, loss {state.loss:.3f}")

        return train(settings, sets.training, out=out, progress=step)


def _measure(folder: Path, images: SceneSet, sites: Sequence[str]) -> dict[str, Any]:
    from neuronym.models import load
    from neuronym.train import evaluate, open_source

    model = load(str(folder))
    source = open_source(images, model.preprocessing)
    return evaluate(model.module, source, sites=sites).to_dict()


def _dissect(model: LoadedModel, probe: SceneSet, out: Path, *, quiet: bool) -> Atlas:
    from neuronym import concepts, vision_text
    from neuronym.dissect import DissectOptions
    from neuronym.dissect import dissect as run

    with progress("naming", quiet=quiet) as update:
        return run(
            model,
            probe,
            concepts.load("attributes"),
            vision_text.load("pocket"),
            sites=SITES,
            similarity=SIMILARITY,
            out=out,
            options=DissectOptions(progress=update),
        )


def _truth(model: LoadedModel, atlas: Atlas, check: SceneSet) -> list[UnitTruth]:
    """Compare names with attributes on scenes that were not used for naming."""
    from neuronym.dissect import record_sites
    from neuronym.evaluate import scene_truth

    return scene_truth(atlas, record_sites(model, check, atlas.sites), check.attributes)


def _explain(model: LoadedModel, atlas: Atlas, check: SceneSet, out: Path) -> list[ExplainedImage]:
    """Explain a few images, among them a wrong one where there is one; save everything."""
    from neuronym.explain import explain_images
    from neuronym.report import ExplainedImage

    names = check.label_names
    labels = check.labels
    count = min(len(check), 64)
    images = [check.image(index) for index in range(count)]
    found = explain_images(model, images, atlas=atlas)
    right = [i for i in range(count) if found[i].target.index == labels[i]]
    wrong = [i for i in range(count) if found[i].target.index != labels[i]]
    chosen = sorted(right[: EXPLAINED - len(wrong[:1])] + wrong[:1])
    shown = []
    for index in chosen:
        explanation = replace(found[index], image=check.ids[index])
        explanation.save(out / f"{check.ids[index]}.json")
        images[index].save(out / f"{check.ids[index]}.png")
        label = names[int(labels[index])]
        shown.append(ExplainedImage(explanation, images[index], label=label))
    return shown


def _summary(
    settings: TrainSettings, measured: dict[str, Any], truth: list[UnitTruth], sets: _Sets
) -> dict[str, Any]:
    from neuronym.evaluate import truth_scorecard

    live = [row for row in truth if row.live]
    selective = [row for row in live if row.selective]
    card = truth_scorecard(truth)
    return {
        "task": " and ".join(sets.training.task),
        "classes": len(sets.training.label_names),
        "accuracy": {name: value["accuracy"] for name, value in measured.items()},
        "competitors": settings.competitors,
        "active_fraction": measured["competitive"]["active_fraction"],
        "active_fraction_dense": measured["dense"]["active_fraction"],
        "units": {
            "all": len(truth),
            "live": len(live),
            "selective": len(selective),
            "right": sum(row.right for row in selective),
        },
        "shares": {
            metric.name: {"value": metric.value, "n": metric.n, "interval": metric.interval}
            for metric in card.metrics
        },
        "scenes": {
            "training": len(sets.training),
            "test": len(sets.test),
            "probe": len(sets.probe),
            "check": len(sets.check),
        },
    }


def _show(summary: dict[str, Any]) -> None:
    units, accuracy = summary["units"], summary["accuracy"]
    say(
        f"accuracy {accuracy['competitive']:.1%} competitive, {accuracy['dense']:.1%} dense; "
        f"{summary['active_fraction']:.1%} of the units active"
    )
    say(
        f"{units['live']} of {units['all']} units live, {units['selective']} selective, "
        f"{units['right']} of these named right; {summary['seconds']['total']:.0f} s"
    )
