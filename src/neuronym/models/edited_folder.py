"""An edited model on disk: ``edit.json``, and the model that it is made from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from neuronym.errors import InputError, NeuronymError, UnreadableError
from neuronym.files import MANIFEST, claim_folder, read_json, read_manifest, write_manifest
from neuronym.models.base import LoadedModel, check_made_from
from neuronym.models.editing import Changes, apply, as_edit, make_edit
from neuronym.models.edits import Edit
from neuronym.models.folder import CONFIG, WEIGHTS, load_folder

__all__ = ["EDIT", "is_edited", "load_edited", "save_edited"]

KIND = "edited-model"
SCHEMA = 1
EDIT = "edit.json"
BASE = "base"
_COPIED = (CONFIG, WEIGHTS, "metrics.json")


def save_edited(
    model: LoadedModel, edit: Changes, folder: str | Path, *, overwrite: bool = False
) -> Path:
    """Write an edited model as a folder that :func:`neuronym.models.load` loads.

    Where the model is a folder, its configuration and weights are copied into ``base/``, so that
    the edited one stands alone. Any other SPEC is kept by name, and what it loads must have the
    same fingerprint, now and whenever the edited model is loaded.

    Args:
        model: The model as it was loaded, not edited.
        edit: An edit of it, or changes.
        folder: A new or empty folder.
        overwrite: Replace an edited model that is there.

    Raises:
        InputError: The edit does not fit the model (:func:`neuronym.models.make_edit`), or the
            model's SPEC does not load the model that was given.
        FolderInUseError: The folder holds something else.
    """
    given = as_edit(edit)
    check_made_from(model, given.provenance, what="the edit")
    made = make_edit(model, given.changes)
    claim = claim_folder(folder, kind=KIND, overwrite=overwrite)
    with claim.staged() as staged:
        source = Path(model.spec)
        if source.is_dir():
            _copy(source, staged / BASE)
            found = _load_base(staged / BASE)
        else:
            found = _by_spec(model.spec)
        if found.fingerprint != model.fingerprint:
            raise InputError(
                f"{model.spec!r} loads a model with the fingerprint {found.fingerprint}, not the "
                f"one that was given ({model.fingerprint}): save that one by save_folder first"
            )
        made.save(staged / EDIT)
        write_manifest(staged, kind=KIND, schema=SCHEMA, **made.provenance)
    return claim.folder


def is_edited(folder: Path) -> bool:
    """Whether a folder holds a finished edited model."""
    path = folder / MANIFEST
    try:
        record = read_json(path) if path.is_file() else None
    except UnreadableError:
        return False
    return isinstance(record, dict) and record.get("kind") == KIND


def load_edited(folder: str | Path) -> LoadedModel:
    """Load what :func:`save_edited` wrote.

    Raises:
        MissingError: The folder, or a file of it, does not exist.
        UnreadableError: It is not a finished edited model.
        InputError: Its base is not the model that was edited any more.
    """
    folder = Path(folder)
    read_manifest(folder, kind=KIND, schema=SCHEMA)
    edit = Edit.load(folder / EDIT)
    base = folder / BASE
    model = _load_base(base) if base.is_dir() else _by_spec(str(edit.model_spec))
    check_made_from(model, edit.provenance, what=f"the edit in {str(folder)!r}")
    return replace(apply(model, edit), spec=str(folder))


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    if is_edited(source):
        for name in (EDIT, MANIFEST):
            shutil.copyfile(source / name, target / name)
        if (source / BASE).is_dir():
            _copy(source / BASE, target / BASE)
        return
    for name in _COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _load_base(folder: Path) -> LoadedModel:
    return load_edited(folder) if is_edited(folder) else load_folder(folder)


def _by_spec(spec: str) -> LoadedModel:
    from neuronym.models.load import load  # the table of loaders names this module too

    try:
        return load(spec)
    except NeuronymError as error:
        raise InputError(f"the edited model's base {spec!r} cannot be loaded: {error}") from error
