"""``train``: from settings and images to a model folder, with checkpoints on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuronym._version import __version__
from neuronym.errors import FolderInUseError, InputError
from neuronym.files import MANIFEST, Claim, claim_folder, held_kind, read_json
from neuronym.lwta import DEFAULT_RULES, LWTA, convert, gradual, lwta_modules
from neuronym.lwta.rules import action_for
from neuronym.models import LoadedModel, ModelConfig, load, read_config
from neuronym.probes.base import ProbeSet
from neuronym.train.checkpoint import FOLDER, State, check_same_run, read_state
from neuronym.train.data import class_names_of, open_source, parts_of
from neuronym.train.depth import set_drop_path
from neuronym.train.loop import Loop, Progress
from neuronym.train.session import KIND, Session, TrainResult, finished, versions
from neuronym.train.settings import TrainSettings
from neuronym.train.team import open_team

__all__ = ["BuiltModel", "activation_sites", "build_model", "train"]


def train(
    settings: TrainSettings,
    data: ProbeSet,
    *,
    out: str | Path,
    validation: ProbeSet | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> TrainResult:
    """Train a classifier, competitive or dense, and write it to a folder.

    Where ``accelerate launch`` or ``torchrun`` began several processes, they share every batch,
    and the process 0 writes (see ``docs/training.md``).

    The caller's random state is untouched. With the same settings, data, versions and number of
    threads the weights are the same bit for bit, also when the run is stopped and resumed.

    Args:
        settings: Everything that shapes the result.
        data: Labelled images.
        out: A new or empty folder.
        validation: Labelled images of the same classes; without it ``settings.holdout`` of
            ``data`` is kept apart, by ``settings.seed``.
        resume: Go on from the last checkpoint in ``out``; begins anew where there is none, and
            returns at once where the run is finished.
        overwrite: Replace an earlier run in ``out``, once the model is built and the data opened.
        progress: Called after every step.

    Raises:
        InputError: The data has no labels, or does not fit the settings or the run to resume.
        FolderInUseError: ``out`` holds something else.
        DivergedError: The loss is not finite; names the step and the layer.
        UnavailableError: The device is not there.
        NeuronymError: As in :func:`neuronym.models.load` and :func:`neuronym.lwta.convert`.
    """
    names = class_names_of(data)
    data, validation = parts_of(data, validation, holdout=settings.holdout, seed=settings.seed)
    team = open_team(
        device=settings.device, precision=settings.precision, accumulate=settings.accumulate
    )
    run = {
        "settings": settings.to_dict(),
        "training data": data.fingerprint,
        "validation data": validation.fingerprint,
        "version": __version__,
        "processes": team.size,
    }
    folder = Path(out)
    claim, state, done = team.led(lambda: _claim(folder, run, resume=resume, overwrite=overwrite))
    if done:
        return team.led(lambda: finished(folder))
    with torch.random.fork_rng(devices=[team.device] if team.device.type == "cuda" else []):
        built = build_model(settings, len(names))
        training, held_out = (
            open_source(
                part,
                built.loaded.preprocessing,
                workers=settings.workers,
                memory_mb=settings.memory_mb,
            )
            for part in (data, validation)
        )
        loop = Loop(
            built.loaded.module,
            settings,
            training=training,
            validation=held_out,
            sites=built.sites,
            team=team,
        )
        config = _config(settings, built, names, loop.temperature_of(loop.steps - 1), run)
        team.led(lambda: _begin(folder, claim))
        session = Session(folder, loop, run=run, config=config, progress=progress)
        if state is not None:
            session.restore(state)
        session.go()
        return session.finish()


def _config(
    settings: TrainSettings,
    built: BuiltModel,
    names: tuple[str, ...],
    temperature: float,
    run: dict[str, Any],
) -> ModelConfig:
    architecture = settings.model
    if Path(architecture).is_dir():
        architecture = read_config(architecture).model
    return ModelConfig(
        model=architecture,
        num_classes=len(names),
        class_names=names,
        competitors=settings.competitors,
        temperature=None if settings.dense else temperature,
        converted=() if settings.dense else built.sites,
        preprocessing=built.loaded.preprocessing,
        skip=built.skip,
        details={
            "left_dense": list(built.left),
            "train": settings.to_dict(),
            "data": {name: run[name] for name in ("training data", "validation data")},
            "versions": versions(),
        },
    )


def _claim(
    out: Path, run: dict[str, Any], *, resume: bool, overwrite: bool
) -> tuple[Claim | None, State | None, bool]:
    """Return the claim of a new run, the state to go on from, and whether the run is finished."""
    ours = held_kind(out) == KIND
    if resume and not overwrite and ours:
        if (out / MANIFEST).is_file():
            check_same_run(read_json(out / MANIFEST)["run"], run, where=out)
            return None, None, True
        state = read_state(out)
        if state is not None:
            check_same_run(state.run, run, where=out)
        return None, state, False
    try:
        return claim_folder(out, kind=KIND, overwrite=overwrite), None, False
    except FolderInUseError as error:
        if ours and not (out / MANIFEST).is_file():
            raise FolderInUseError(
                f"output {str(out)!r} holds a training that has not finished; resume it, give a "
                "new folder, or pass --overwrite"
            ) from error
        raise


def _begin(folder: Path, claim: Claim | None) -> None:
    """Clear an earlier run; from here on the folder holds a training that has begun."""
    if claim is not None:
        claim.clear()
    (folder / FOLDER).mkdir(exist_ok=True)


@dataclass(frozen=True)
class BuiltModel:
    """A model that is ready to train.

    Attributes:
        loaded: The network, with competition where the settings want it.
        sites: The modules that compete, or that would in the dense twin.
        skip: Patterns of activations that were left alone.
        left: Activations that do not compete although nobody asked for it, and why.
    """

    loaded: LoadedModel
    sites: tuple[str, ...]
    skip: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def build_model(settings: TrainSettings, num_classes: int) -> BuiltModel:
    """Load the architecture and put competition in, with weights by ``settings.seed``.

    Raises:
        InputError: The model competes already, and not as the settings say; or its transform
            cannot be saved.
        NeuronymError: As in :func:`neuronym.models.load` and :func:`neuronym.lwta.convert`.
    """
    loaded = load(
        settings.model,
        num_classes=num_classes,
        pretrained=settings.pretrained,
        input_size=settings.input_size,
        seed=settings.seed,
    )
    _ = loaded.preprocessing  # raises before any work where it cannot be saved
    set_drop_path(loaded.module, settings.drop_path)
    held = {name: part.competitors for name, part in lwta_modules(loaded.module).items()}
    if settings.dense or settings.competitors is None:
        if held:
            raise InputError(
                f"model {settings.model!r} competes already; dense=True cannot undo it"
            )
        return BuiltModel(loaded, activation_sites(loaded.module))
    if held:
        other = sorted(set(held.values()) - {settings.competitors})
        if other:
            raise InputError(
                f"model {settings.model!r} competes among {other[0]}; "
                f"competitors={settings.competitors} is another network"
            )
        kept = read_config(settings.model).skip if Path(settings.model).is_dir() else ()
        return BuiltModel(loaded, tuple(held), kept)
    begin = gradual.begin if settings.gradual else convert
    module, report = begin(
        loaded.module, settings.competitors, example=loaded.input_size, skip=settings.skip
    )
    left = [f"{each.name}: {each.reason}" for each in report.kept if each.reason != "skipped"]
    left += [f"{each.module or '(model)'}: calls {each.function}" for each in report.functional]
    loaded = replace(loaded, module=module, fingerprint="")
    return BuiltModel(loaded, tuple(lwta_modules(module)), tuple(settings.skip), tuple(left))


def activation_sites(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the modules that compete, or that a conversion would replace."""
    return tuple(
        name
        for name, part in module.named_modules()
        if isinstance(part, LWTA) or action_for(part, DEFAULT_RULES) == "replace"
    )
