"""Sites: where units are recorded, found by name pattern and one forward pass of a sample."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import overload

import torch
from torch import Tensor, nn

from neuronym.calls import split_call
from neuronym.channels import ChannelTracker
from neuronym.errors import InputError, nearest
from neuronym.modes import evaluation

__all__ = ["Site", "Sites", "find_sites"]

LAYOUTS = ("image", "tokens", "map")
_CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")


@dataclass(frozen=True)
class Site:
    """A place in a model where units are recorded.

    Attributes:
        name: The module's name; ``"relu#1"`` is the second call of ``relu`` in a forward pass.
        module: Name of the module in the model.
        call: Which call of the module, from 0.
        channel_dim: The dimension of the output that holds the units; -1 where it is the last.
        units: K.
        positions: Positions per image: 1, or tokens, or pixels of the map.
        layout: ``"image"`` (one position), ``"tokens"`` (positions in one dimension before the
            units) or ``"map"``.
        class_token: Whether the first token is a class token.
        aliases: Other modules that returned this very tensor, such as the block around it.
    """

    name: str
    module: str
    call: int
    channel_dim: int
    units: int
    positions: int
    layout: str
    class_token: bool = False
    aliases: tuple[str, ...] = ()


class Sites(Sequence[Site]):
    """The sites found, in the order in which a forward pass meets them.

    Attributes:
        left_out: Name → reason, for what a wildcard matched and is no site: modules that were
            not called, or whose output is no tensor of units.
    """

    def __init__(self, sites: Sequence[Site], left_out: Mapping[str, str]) -> None:
        self._sites = tuple(sites)
        self.left_out = dict(left_out)

    @overload
    def __getitem__(self, index: int) -> Site: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Site, ...]: ...

    def __getitem__(self, index: int | slice) -> Site | tuple[Site, ...]:
        return self._sites[index]

    def __len__(self) -> int:
        return len(self._sites)

    def __repr__(self) -> str:
        return f"Sites({', '.join(site.name for site in self)})"


@dataclass
class _Output:
    """What one call of one module returned in the sample's forward pass."""

    module: str
    call: int
    kind: str
    shape: tuple[int, ...] = ()
    channel: int | None = None
    token: bool = False
    identity: tuple[int, int] | None = None  # which tensor, and in which state
    keep: Tensor | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return f"{self.module}#{self.call}" if self.call else self.module


def find_sites(
    module: nn.Module,
    patterns: str | Sequence[str],
    sample: Tensor,
    *,
    channel_dims: Mapping[str, int] | None = None,
    competitive: Sequence[str] = (),
) -> Sites:
    """Find the sites that match, by one forward pass of a sample in evaluation mode.

    Which dimension holds the units comes, in this order, from ``channel_dims``, from an int
    attribute ``channel_dim`` of the module, and from the operations that made the output
    (:mod:`neuronym.channels`); it is never guessed. Modules that return the very same
    tensor are one site, named by the competitive one, else by the outermost that matched. Each
    call of a module that a forward pass calls several times is a site of its own.

    Args:
        module: The model; its mode and hooks are as before afterwards.
        patterns: Names as in ``named_modules()``, with ``*``, ``?`` and ``[...]`` (``*`` crosses
            dots), several in a list or separated by commas.
        sample: ``(images, ...)`` an input of at least 2 images.
        channel_dims: Pattern → dimension, for outputs where it cannot be known otherwise.
        competitive: Names of the modules that compete.

    Raises:
        InputError: A pattern matches no module (the nearest names are shown), a module named in
            full is no site, or no match is one.
    """
    wanted = _split(patterns)
    if not isinstance(sample, Tensor) or sample.dim() < 2 or len(sample) < 2:
        raise InputError("find_sites needs a sample of at least 2 images, shape (images, ...)")
    names = [name for name, _ in module.named_modules() if name]
    matched = _matched(names, wanted)
    outputs, token_counts = _observe(module, sample, channel_dims or {})
    chosen, left_out = [], {}
    called = {output.module for output in outputs}
    for name in matched:
        if name not in called:
            left_out[name] = "it is not called in a forward pass"
    groups: dict[tuple[int, int], list[_Output]] = {}
    for output in outputs:
        if output.identity is not None:
            groups.setdefault(output.identity, []).append(output)
    seen: set[tuple[int, int]] = set()
    for output in outputs:
        if not _selects(wanted, output) or output.identity in seen:
            continue
        group = groups[output.identity] if output.identity is not None else [output]
        named = _name_giver(group, wanted, competitive)
        reason = _unfit(named, len(sample))
        if reason is None:
            chosen.append(_site(named, group, token_counts))
        else:
            left_out[named.name] = reason
        if output.identity is not None:
            seen.add(output.identity)
    _check_found(wanted, chosen, left_out)
    return Sites(chosen, left_out)


def _split(patterns: str | Sequence[str]) -> list[str]:
    given = [patterns] if isinstance(patterns, str) else list(patterns)
    wanted = [part.strip() for text in given for part in text.split(",") if part.strip()]
    if not wanted:
        raise InputError(f"no site pattern in {patterns!r}; give a module name such as 'layer4*'")
    return wanted


def _has_wildcard(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def _matched(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    for pattern in wanted:
        if not any(fnmatchcase(name, split_call(pattern)[0]) for name in names):
            stem = pattern.rstrip("*?.")
            close = ", ".join(nearest(stem, names, count=5)) or ", ".join(names[:5])
            raise InputError(f"site pattern {pattern!r} matches no module; nearest: {close}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in wanted)]


def _selects(wanted: Sequence[str], output: _Output) -> bool:
    return any(
        fnmatchcase(output.module, pattern) or fnmatchcase(output.name, pattern)
        for pattern in wanted
    )


def _name_giver(group: list[_Output], wanted: Sequence[str], competitive: Sequence[str]) -> _Output:
    for output in group:
        if output.module in competitive:
            return output
    matching = [output for output in group if _selects(wanted, output)]
    exact = [output for output in matching if {output.module, output.name} & set(wanted)]
    return min(exact or matching, key=lambda output: output.module.count("."))


def _observe(
    module: nn.Module, sample: Tensor, channel_dims: Mapping[str, int]
) -> tuple[list[_Output], set[int]]:
    """Run the sample once and note what every call of every module returned."""
    outputs: list[_Output] = []
    calls: dict[str, int] = {}
    tokens = [
        parameter
        for name, parameter in module.named_parameters()
        if name.split(".")[-1] in _CLASS_TOKENS
    ]
    used: set[str] = set()

    def note(name: str, part: nn.Module, output: object, tracker: ChannelTracker) -> None:
        call = calls.get(name, 0)
        calls[name] = call + 1
        noted = _Output(name, call, type(output).__name__)
        outputs.append(noted)
        if not isinstance(output, Tensor):
            return
        declared = [key for key in channel_dims if fnmatchcase(name, key) or key == noted.name]
        used.update(declared)
        own = getattr(part, "channel_dim", None)
        if declared:
            tracker.declare(output, _axis(channel_dims[declared[0]], output, name))
        elif isinstance(own, int) and -output.dim() <= own < output.dim():
            tracker.declare(output, own)
        known = tracker.origin(output)
        noted.shape, noted.keep = tuple(output.shape), output
        noted.identity = (id(output), output._version)
        noted.channel = known.channel if known else None
        noted.token = known is not None and known.token

    with evaluation(module), torch.no_grad(), ChannelTracker(tokens) as tracker, _hooks() as hooks:
        for name, part in module.named_modules():
            if name:
                hooks.append(
                    part.register_forward_hook(
                        lambda part, _, output, name=name: note(name, part, output, tracker)
                    )
                )
        module(sample)
    for key in channel_dims:
        if key not in used:
            raise InputError(
                f"channel_dims names {key!r}, which is no module that returns a tensor"
            )
    return outputs, {out.shape[1] for out in outputs if out.token and len(out.shape) == 3}


def _axis(channel_dim: int, output: Tensor, name: str) -> int:
    if not -output.dim() <= channel_dim < output.dim() or channel_dim % output.dim() == 0:
        raise InputError(
            f"channel_dim {channel_dim} does not fit the output of {name!r}, "
            f"shape {tuple(output.shape)}"
        )
    return channel_dim


def _unfit(output: _Output, images: int) -> str | None:
    """Say why a call's output cannot be a site, or return ``None``."""
    if output.keep is None:
        return f"it returns a {output.kind}, not a tensor; choose a module inside it"
    if not output.keep.is_floating_point() or len(output.shape) < 2:
        return f"its output, {output.keep.dtype} {output.shape}, holds no units per image"
    if output.shape[0] != images:
        return f"its output {output.shape} does not begin with the {images} images"
    if output.channel is None or output.channel == 0:
        return (
            f"which dimension of its output {output.shape} holds the units is not known; "
            f"declare it, e.g. channel_dims={{{output.module!r}: 1}}"
        )
    return None


def _site(output: _Output, group: list[_Output], token_counts: set[int]) -> Site:
    channel = output.channel or 0
    last = channel == len(output.shape) - 1
    positions = 1
    for dim, size in enumerate(output.shape):
        positions *= size if dim not in (0, channel) else 1
    layout = "image" if len(output.shape) == 2 else "map"
    if last and len(output.shape) == 3:
        layout = "tokens"
    # Attention hides where its tokens come from; as many tokens as there are elsewhere behind a
    # class token begin with it too.
    token = layout == "tokens" and (output.token or output.shape[1] in token_counts)
    return Site(
        name=output.name,
        module=output.module,
        call=output.call,
        channel_dim=-1 if last else channel,
        units=output.shape[channel],
        positions=positions,
        layout=layout,
        class_token=token,
        aliases=tuple(other.name for other in group if other is not output),
    )


def _check_found(
    wanted: Sequence[str], chosen: Sequence[Site], left_out: Mapping[str, str]
) -> None:
    for pattern in wanted:
        if not _has_wildcard(pattern) and pattern in left_out:
            raise InputError(f"{pattern!r} cannot be a site: {left_out[pattern]}")
        found = [n for s in chosen for n in (s.name, s.module, *s.aliases)]
        if not _has_wildcard(pattern) and pattern not in found:
            raise InputError(f"{pattern!r} cannot be a site: it is not called that often")
    if not chosen:
        name, reason = next(iter(left_out.items()))
        raise InputError(
            f"none of the {len(left_out)} modules that match {', '.join(wanted)!r} can be a "
            f"site; {name!r}: {reason}"
        )


@contextlib.contextmanager
def _hooks() -> Iterator[list[torch.utils.hooks.RemovableHandle]]:
    """Yield a list for hooks that are removed when the block ends, also by an error."""
    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()
