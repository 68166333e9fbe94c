"""Applying edits: for a while, side by side on copies of an image, or for good."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from neuronym.calls import split_call
from neuronym.channels import ChannelTracker
from neuronym.devices import device_of
from neuronym.errors import InputError, nearest
from neuronym.lwta import LWTA
from neuronym.lwta.edited import Calls, Editor, Layer
from neuronym.lwta.gradual import GradualLWTA
from neuronym.lwta.unit_rules import UnitRules
from neuronym.models.base import LoadedModel, check_made_from, model_fingerprint
from neuronym.models.edits import Change, Edit, rules_of
from neuronym.models.hooks import DenseEdit, common_axis, dense_edit_of
from neuronym.modes import evaluation

__all__ = ["Changes", "applied", "apply", "as_edit", "make_edit", "variants"]

Changes: TypeAlias = Edit | Change | Sequence[Change]
_LAST = (nn.Linear, nn.Embedding)
_SECOND = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm),
)


def make_edit(model: LoadedModel, changes: Change | Sequence[Change]) -> Edit:
    """Return the edit of ``model`` that makes ``changes``, checked against the model itself.

    Two blank images run through the model once, to see how many units each site has and which
    dimension holds them; a dense site's ``channel_dim`` is filled in.

    Raises:
        InputError: No such site or unit, a unit in two changes that contradict each other, an
            action that does not fit the site, two forced units of one block, or a block that
            would be left with no unit that can win and pass something.
        UnknownNameError: There is no such action.
    """
    given = (changes,) if isinstance(changes, Change) else tuple(changes)
    edit = Edit(given, model.spec, model.fingerprint)
    _plans(model.module, [edit], model)  # what can be said without running it
    seen = _observe(model, given)
    parts = _modules(model.module)
    made = []
    for change in given:
        _check_range(change, seen[change.site].units)
        dense = not isinstance(parts[split_call(change.site)[0]], LWTA)
        made.append(replace(change, channel_dim=seen[change.site].channel_dim) if dense else change)
    return replace(edit, changes=tuple(made))


@contextlib.contextmanager
def applied(model: LoadedModel | nn.Module, edit: Changes) -> Iterator[None]:
    """Edit a model inside the block; then, also after an error, it is as before.

    Blocks may be nested: the inner edit changes the edited network. Traces see the winners that
    really pass. Training mode, random winners, expectations and sparse layers work as without an
    edit. Copies and pickles made inside the block keep the edit.

    Args:
        model: Any module, or a loaded model, whose fingerprint must then be the edit's.
        edit: An edit, or changes.

    Raises:
        InputError: As :func:`make_edit`, or the edit is of another model or other weights. A unit
            that is out of range is found when the site is called.
    """
    module = model.module if isinstance(model, LoadedModel) else model
    made = as_edit(edit)
    known = model if isinstance(model, LoadedModel) else None
    if known is not None:
        check_made_from(known, made.provenance, what="the edit")
    with _attached(module, _plans(module, [made], known)):
        yield


def apply(model: LoadedModel, edit: Changes) -> LoadedModel:
    """Return an edited copy of a model, for good; the model itself is left as it is.

    The copy has the state dict of the model, with the same keys and values: the edit is not in
    it. Its fingerprint differs. See :func:`neuronym.models.save_edited` for a folder.

    Raises:
        InputError: As :func:`make_edit`, or the edit is of another model or other weights.
    """
    made = as_edit(edit)
    check_made_from(model, made.provenance, what="the edit")
    made = make_edit(model, made.changes)
    module = copy.deepcopy(model.module)
    _attach(module, _plans(module, [made], model))
    fingerprint = model_fingerprint(module, model.transform)
    return replace(model, module=module, fingerprint=fingerprint)


@torch.no_grad()
def variants(
    model: LoadedModel | nn.Module,
    inputs: Tensor,
    edits: Sequence[Changes],
    *,
    batch_size: int = 64,
    silent: bool = False,
) -> Tensor:
    """Run each image under each edit, the edits side by side in one batch.

    Each row of a batch is one image under one edit, so that many edits of one image take the
    time of a batch and not of as many passes. Evaluation mode, without gradients.

    Args:
        model: A model with one output tensor; with a loaded one, edits are checked as in
            :func:`applied`.
        inputs: ``(images, ...)``, preprocessed.
        edits: Edits, each of the model as it is.
        batch_size: Rows in one batch.
        silent: Whether a block may pass nothing at all, together with the edits that the model
            has already: for measuring; an edit to keep must leave each block something.

    Returns:
        ``(edits, images, classes)``.

    Raises:
        InputError: As :func:`applied`; or the model folds positions into the first dimension, so
            that rows are not images.
    """
    module = model.module if isinstance(model, LoadedModel) else model
    known = model if isinstance(model, LoadedModel) else None
    made = [as_edit(edit) for edit in edits]
    if not made or not len(inputs):
        raise InputError(f"nothing to run: {len(made)} edits of {len(inputs)} images")
    if known is not None:
        for edit in made:
            check_made_from(known, edit.provenance, what="the edit")
    inputs = inputs.to(device_of(module))
    rows = [(edit, image) for edit in range(len(made)) for image in range(len(inputs))]
    found = []
    with evaluation(module):
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            plans = _plans(module, [made[edit] for edit, _ in part], known, silent=silent)
            with _attached(module, plans):
                found.append(module(inputs[[image for _, image in part]]))
    logits = torch.cat(found)
    return logits.view(len(made), len(inputs), *logits.shape[1:])


@dataclass(frozen=True)
class _Plan:
    """What is done to one module: number of the call → rules of each row."""

    name: str
    rules: Mapping[int, Sequence[UnitRules]]
    channel_dims: tuple[int, ...]
    silent: bool


def as_edit(edit: Changes) -> Edit:
    """Return an edit as it is, and changes as an edit of any model."""
    if isinstance(edit, Edit):
        return edit
    return Edit((edit,) if isinstance(edit, Change) else tuple(edit))


def _modules(module: nn.Module) -> dict[str, nn.Module]:
    return {name: part for name, part in module.named_modules(remove_duplicate=False) if name}


def _plans(
    module: nn.Module,
    edits: Sequence[Edit],
    model: LoadedModel | None,
    *,
    silent: bool = False,
) -> list[tuple[nn.Module, _Plan]]:
    """Return what is done to which module; row r is under ``edits[r]``."""
    parts = _modules(module)
    sites = dict.fromkeys(change.site for edit in edits for change in edit.changes)
    dims = _channel_dims(parts, [change for edit in edits for change in edit.changes], model)
    plans: dict[int, tuple[nn.Module, _Plan]] = {}
    for site in sites:
        name, call = split_call(site)
        part = parts[name]
        competitors = part.competitors if isinstance(part, LWTA) else None
        rows = []
        for edit in edits:
            changes = [change for change in edit.changes if change.site == site]
            rules = UnitRules()
            if changes:
                rules = rules_of(changes, competitors=competitors, silent=silent)
            rows.append(rules)
        before = plans[id(part)][1] if id(part) in plans else _Plan(name, {}, (), silent)
        if call in before.rules:
            raise InputError(f"site {site!r} is edited under two names; use one of them")
        along = tuple(dict.fromkeys((*before.channel_dims, *dims.get(site, ()))))
        plans[id(part)] = (part, _Plan(name, {**before.rules, call: rows}, along, silent))
    return list(plans.values())


def _channel_dims(
    parts: Mapping[str, nn.Module], changes: Sequence[Change], model: LoadedModel | None
) -> dict[str, tuple[int, ...]]:
    """Return what holds the units of every dense site, checking that all sites exist.

    More than one dimension where changes give several, such as -1 and 1, that may be the same.
    """
    dims: dict[str, tuple[int, ...]] = {}
    unsure: list[Change] = []
    for change in changes:
        name, _ = split_call(change.site)
        if name not in parts:
            close = ", ".join(nearest(name, parts)) or ", ".join(list(parts)[:5])
            raise InputError(f"the model has no site {change.site!r}; nearest: {close}")
        part = parts[name]
        if isinstance(part, GradualLWTA) and part.share < 1:
            raise InputError(f"site {change.site!r} is not competing fully yet: finish it first")
        if isinstance(part, LWTA):
            continue
        if change.channel_dim is not None:
            dims[change.site] = (*dims.get(change.site, ()), change.channel_dim)
        else:
            unsure.append(change)
    unsure = [change for change in unsure if change.site not in dims]
    for change in unsure:
        own = _own_dim(parts[split_call(change.site)[0]])
        if own is not None:
            dims[change.site] = (own,)
    unsure = [change for change in unsure if change.site not in dims]
    if unsure and model is not None:
        seen = _observe(model, unsure)
        dims |= {change.site: (seen[change.site].channel_dim,) for change in unsure}
    elif unsure:
        raise InputError(
            f"which dimension of the output of {unsure[0].site!r} holds the units is not known; "
            "give the change a channel_dim"
        )
    return dims


def _own_dim(part: nn.Module) -> int | None:
    own = getattr(part, "channel_dim", None)
    if isinstance(own, int) and not isinstance(own, bool):
        return own
    if type(part) is nn.LayerNorm:  # a subclass may normalise the second dimension
        return -1 if len(part.normalized_shape) == 1 else None
    return -1 if isinstance(part, _LAST) else 1 if isinstance(part, _SECOND) else None


def _attach(module: nn.Module, plans: Sequence[tuple[nn.Module, _Plan]]) -> Callable[[], None]:
    """Put edits on their modules; return what takes them off again."""
    calls = Calls()
    undo = contextlib.ExitStack()
    with contextlib.ExitStack() as failing:
        failing.callback(undo.close)
        begin: Any = calls.begin
        end: Any = calls.end
        undo.callback(module.register_forward_pre_hook(begin, prepend=True).remove)
        undo.callback(module.register_forward_hook(end, always_call=True).remove)
        for part, plan in plans:
            layer = Layer(plan.name, plan.rules, calls, plan.channel_dims, plan.silent)
            _push(part, layer)
            undo.callback(_pop, part, layer)
        failing.pop_all()
    return undo.close


@contextlib.contextmanager
def _attached(module: nn.Module, plans: Sequence[tuple[nn.Module, _Plan]]) -> Iterator[None]:
    detach = _attach(module, plans)
    try:
        yield
    finally:
        detach()


def _push(part: nn.Module, layer: Layer) -> None:
    if isinstance(part, LWTA):
        editor = part.edit or Editor((), competitors=part.competitors)
        part.edit = editor.with_layer(layer)
        return
    hook = dense_edit_of(part)
    if hook is None:
        hook = DenseEdit(Editor((), competitors=None))
        part.register_forward_hook(hook, prepend=True)
    hook.editor = hook.editor.with_layer(layer)


def _pop(part: nn.Module, layer: Layer) -> None:
    if isinstance(part, LWTA):
        part.edit = part.edit.without(layer) if part.edit is not None else None
        return
    for key, hook in list(part._forward_hooks.items()):
        if isinstance(hook, DenseEdit):
            left = hook.editor.without(layer)
            if left is None:
                del part._forward_hooks[key]
            else:
                hook.editor = left


@dataclass(frozen=True)
class _Seen:
    """The output of a site: the dimension of its units, and how many there are."""

    channel_dim: int
    units: int


def _observe(model: LoadedModel, changes: Sequence[Change]) -> dict[str, _Seen]:
    """Run two blank images and return what the sites of ``changes`` gave.

    Raises:
        InputError: A site is not called, or which dimension holds its units cannot be known.
    """
    parts = _modules(model.module)
    declared = {c.site: _declared(c, changes, parts) for c in changes}
    wanted = {change.site: split_call(change.site) for change in changes}
    names = dict.fromkeys(name for name, _ in wanted.values())
    outputs: dict[tuple[str, int], _Seen] = {}
    counts: dict[str, int] = {}
    images = torch.zeros(2, *model.input_size, device=device_of(model.module))

    def note(name: str, output: object, tracker: ChannelTracker) -> None:
        call = counts.get(name, 0)
        counts[name] = call + 1
        site = f"{name}#{call}" if call else name
        if site in wanted:
            outputs[name, call] = _seen(site, parts[name], output, declared[site], tracker)

    with (
        evaluation(model.module),
        torch.no_grad(),
        ChannelTracker() as tracker,
        contextlib.ExitStack() as hooks,
    ):
        for name in names:
            handle = parts[name].register_forward_hook(
                lambda _, __, output, name=name: note(name, output, tracker)
            )
            hooks.callback(handle.remove)
        model.module(images)
    for site, (name, call) in wanted.items():
        if (name, call) not in outputs:
            raise InputError(f"site {site!r} is not called {call + 1} times in a forward pass")
    return {site: outputs[place] for site, place in wanted.items()}


def _declared(
    change: Change, changes: Sequence[Change], parts: Mapping[str, nn.Module]
) -> tuple[int, ...]:
    """Return the dimensions that changes to a site give, and edits that its module has already."""
    given = [c.channel_dim for c in changes if c.site == change.site and c.channel_dim is not None]
    hook = dense_edit_of(parts[split_call(change.site)[0]])
    return tuple(given) + (() if hook is None else hook.channel_dims)


def _seen(
    site: str, part: nn.Module, output: object, declared: Sequence[int], tracker: ChannelTracker
) -> _Seen:
    if not isinstance(output, Tensor):
        raise InputError(
            f"site {site!r} returns a {type(output).__name__}, not a tensor; choose a module inside"
        )
    if declared:
        common_axis(site, declared, output)
    dim = declared[0] if declared else _followed(part, output, tracker)
    if dim is None or not -output.dim() <= dim < output.dim():
        raise InputError(
            f"which dimension of the output of {site!r}, {tuple(output.shape)}, holds the units is "
            "not known; give the change a channel_dim"
        )
    return _Seen(dim, output.shape[dim])


def _followed(part: nn.Module, output: Tensor, tracker: ChannelTracker) -> int | None:
    """Return the dimension that a module declares, that its operations made, or of its type."""
    own = getattr(part, "channel_dim", None)
    origin = tracker.origin(output)
    if origin is None or origin.channel in (None, 0) or isinstance(own, int):
        return _own_dim(part)
    return -1 if origin.channel == output.dim() - 1 else origin.channel


def _check_range(change: Change, units: int) -> None:
    largest = max((*change.units, change.to or 0))
    if largest >= units:
        raise InputError(f"site {change.site!r} has units 0 to {units - 1}, not {largest}")
