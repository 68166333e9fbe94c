"""Signed contributions of the units of one site to a logit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from neuronym.errors import InputError, nearest
from neuronym.modes import evaluation
from neuronym.record import positions_last

__all__ = [
    "Attribution",
    "Contributions",
    "attribution",
    "attributions",
    "baseline",
    "baselines",
    "check_images",
    "contributions",
    "replaced_output",
]

_MaybeTensor = TypeVar("_MaybeTensor", Tensor, Tensor | None)

Place = tuple[str, int]
"""A module's name and which of its calls."""

_ROWS = 64  # images times sites in one pass without the sites


@dataclass(frozen=True)
class Contributions:
    """What each unit of a site added to one logit per image.

    Attributes:
        logits: ``(images, classes)``.
        targets: ``(images,)`` int64, the class that each row is about.
        activations: ``(images, units, positions)``, the site's output; zero for a loser.
        values: ``(images, units, positions)``, activation × gradient of the explained logit at
            the site with winners fixed, in logits.
        baselines: ``(images,)`` the explained logit with the site's output set to zero.
        against: ``(images,)`` int64: where given, what is explained is the target's logit minus
            the logit of this class.
    """

    logits: Tensor
    targets: Tensor
    activations: Tensor
    values: Tensor
    baselines: Tensor
    against: Tensor | None = None

    @property
    def per_unit(self) -> Tensor:
        """``(images, units)`` float64: contributions summed over positions."""
        return self.values.double().sum(-1)

    @property
    def target_logits(self) -> Tensor:
        """``(images,)`` float64: what is explained, the target's logit or the difference."""
        return _explained(self.logits.double(), self.targets, self.against)

    @property
    def completeness_error(self) -> Tensor:
        """``(images,)`` float64: logit − baseline − Σ contributions, in logits."""
        return self.target_logits - self.baselines.double() - self.per_unit.sum(-1)


@dataclass(frozen=True)
class Attribution:
    """The pass whose logit is explained: the site's output and the logit's gradient there.

    Attributes:
        logits: ``(images, classes)``.
        targets: ``(images,)`` int64, the class that each row is about.
        activation: The site's output, in its own layout.
        gradient: Of what is explained, shaped like ``activation``.
        against: As in :class:`Contributions`.
    """

    logits: Tensor
    targets: Tensor
    activation: Tensor
    gradient: Tensor
    against: Tensor | None = None

    def beside(self, baselines: Tensor, *, channel_dim: int) -> Contributions:
        """Return the contributions, given the logits without the site."""
        return Contributions(
            logits=self.logits,
            targets=self.targets,
            activations=units_first(self.activation, channel_dim),
            values=units_first(self.activation * self.gradient, channel_dim),
            baselines=baselines,
            against=self.against,
        )


def contributions(
    module: nn.Module,
    inputs: Tensor,
    *,
    site: str,
    channel_dim: int,
    targets: Tensor | None = None,
    against: Tensor | None = None,
    call: int = 0,
) -> Contributions:
    """Attribute one logit per image to the units of a site, exactly where the path is linear.

    With the winners fixed, a competitive layer followed by linear maps (evaluation-mode batch
    normalisation and mean pooling included) is linear, so ``activation × gradient`` summed over
    units and positions equals the logit minus the logit with the site's output at zero.
    Elsewhere the difference is :attr:`Contributions.completeness_error`.

    The module runs twice in evaluation mode; its parameters, mode, hooks and the random state
    are as before afterwards, also after a failure.

    Args:
        module: A classifier whose output is ``(images, classes)``.
        inputs: ``(images, ...)``, already preprocessed.
        site: Name of the module whose output is the site.
        channel_dim: The dimension of that output that holds the units.
        targets: ``(images,)`` class indices; by default the predicted class of each image.
        against: ``(images,)`` class indices: explain the target's logit minus this one's.
        call: Which call of the site counts where one forward calls it several times.

    Raises:
        InputError: Unknown site or target, a site that is not called, or an output that is not a
            tensor or does not begin with the images; or a parameter of the module was made under
            ``torch.inference_mode``, so that it takes part in no gradient.
    """
    found = attribution(module, inputs, site=site, targets=targets, against=against, call=call)
    without = baseline(
        module, inputs, site=site, targets=found.targets, against=found.against, call=call
    )
    return found.beside(without, channel_dim=channel_dim)


def attribution(
    module: nn.Module,
    inputs: Tensor,
    *,
    site: str,
    targets: Tensor | None = None,
    against: Tensor | None = None,
    call: int = 0,
) -> Attribution:
    """Run the first of the two passes of :func:`contributions`; arguments and errors are its."""
    return attributions(module, inputs, [(site, call)], targets=targets, against=against)[0]


def attributions(
    module: nn.Module,
    inputs: Tensor,
    sites: Sequence[Place],
    *,
    targets: Tensor | None = None,
    against: Tensor | None = None,
) -> list[Attribution]:
    """Do as :func:`attribution` at several sites in one forward and one backward pass.

    The graph begins at the site that is called first: what comes before it needs no gradient.

    Args:
        module, inputs, targets, against: As in :func:`contributions`.
        sites: Names of modules, each with the number of its call.

    Returns:
        One attribution per site, in the order of ``sites``.
    """
    kept: dict[Place, Tensor] = {}

    def keeper(site: Place) -> Callable[[Tensor], Tensor]:
        def keep(output: Tensor) -> Tensor:
            # A copy of its own for the record and one to go on with, either of which an
            # operation in place might change. The gradient passes through both.
            torch.set_grad_enabled(True)
            check_images(site[0], output, len(inputs))
            own = output.clone() if output.requires_grad else output.detach().clone()
            kept[site] = own if own.requires_grad else own.requires_grad_(True)
            return kept[site].clone()

        return keep

    with _differentiable(module), evaluation(module), contextlib.ExitStack() as hooks:
        inputs, targets, against = _usable(inputs), _usable(targets), _usable(against)
        for name, call in sites:
            layer = _module(module, name)
            hooks.enter_context(replaced_output(layer, name, call, keeper((name, call))))
        logits = _logits(module(inputs))
        for name, call in sites:
            if (name, call) not in kept:
                raise InputError(f"site {name!r} was not called {call + 1} times in a forward pass")
        chosen = _targets(logits, targets)
        rival = None if against is None else _rivals(logits, chosen, against)
        with torch.enable_grad():
            picked = _explained(logits, chosen, rival).sum()
        outputs = [kept[site] for site in sites]
        gradients = torch.autograd.grad(picked, outputs, allow_unused=True)
    found = []
    for output, gradient in zip(outputs, gradients, strict=True):
        activation = output.detach()
        slope = torch.zeros_like(activation) if gradient is None else gradient
        found.append(Attribution(logits.detach(), chosen, activation, slope, rival))
    return found


def baseline(
    module: nn.Module,
    inputs: Tensor,
    *,
    site: str,
    targets: Tensor,
    against: Tensor | None = None,
    call: int = 0,
) -> Tensor:
    """Return ``(images,)``, what is explained with the site's output set to zero."""
    layer = _module(module, site)
    with (
        evaluation(module),
        torch.no_grad(),
        replaced_output(layer, site, call, partial(_zero, site=site, images=len(inputs))),
    ):
        return _explained(_logits(module(inputs)), targets, against)


def baselines(
    module: nn.Module,
    inputs: Tensor,
    sites: Sequence[Place],
    *,
    targets: Tensor,
    against: Tensor | None = None,
) -> Tensor:
    """Return ``(sites, images)``, what is explained with each site alone set to zero.

    The images go through once per site, as rows of few batches.
    """
    images = len(inputs)
    step = max(1, _ROWS // max(1, images))
    found = []
    for start in range(0, len(sites), step):
        part = sites[start : start + step]
        with evaluation(module), torch.no_grad(), contextlib.ExitStack() as hooks:
            for row, (name, call) in enumerate(part):
                rows = slice(row * images, (row + 1) * images)
                clear = partial(_cleared, site=name, rows=rows, images=len(part) * images)
                layer = _module(module, name)
                hooks.enter_context(replaced_output(layer, name, call, clear))
            logits = _logits(module(inputs.repeat(len(part), *[1] * (inputs.dim() - 1))))
        found += [_explained(each, targets, against) for each in logits.split(images)]
    return torch.stack(found)


def check_images(site: str, output: Tensor, images: int) -> None:
    """Refuse an output whose first dimension is not the images.

    Raises:
        InputError: Its size is another one: the module folds windows into it, or puts it last.
    """
    if output.dim() < 1 or output.shape[0] != images:
        raise InputError(
            f"the output of site {site!r}, shape {tuple(output.shape)}, does not begin with the "
            f"{images} images; choose a module whose output does"
        )


def _zero(output: Tensor, *, site: str, images: int) -> Tensor:
    check_images(site, output, images)
    return torch.zeros_like(output)


def _cleared(output: Tensor, *, site: str, rows: slice, images: int) -> Tensor:
    check_images(site, output, images)
    cleared = output.clone()
    cleared[rows] = 0
    return cleared


@contextlib.contextmanager
def _differentiable(module: nn.Module) -> Iterator[None]:
    """Run without gradients in a way that lets a part of the block take them.

    Also inside ``torch.inference_mode``, whose tensors never can; it is as before afterwards.
    """
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_inference():
            raise InputError(
                f"{name!r} of the model was made under torch.inference_mode, so that no gradient "
                "can be taken; load the model outside of it"
            )
    with torch.inference_mode(False), torch.no_grad():
        yield


def _usable(tensor: _MaybeTensor) -> _MaybeTensor:
    """Return a copy that a gradient may go past, of a tensor of ``torch.inference_mode``."""
    return tensor.clone() if tensor is not None and tensor.is_inference() else tensor


def _explained(logits: Tensor, targets: Tensor, against: Tensor | None) -> Tensor:
    """Return ``(images,)``: the targets' logits, or how far they lie above those of ``against``."""
    picked = logits.gather(1, targets[:, None])[:, 0]
    return picked if against is None else picked - logits.gather(1, against[:, None])[:, 0]


def units_first(output: Tensor, channel_dim: int) -> Tensor:
    """Reshape a site's output to ``(images, units, positions)``."""
    if output.dim() < 2 or not -output.dim() < channel_dim < output.dim() or channel_dim == 0:
        raise InputError(
            f"channel_dim {channel_dim} does not fit an output of shape {tuple(output.shape)}"
        )
    return positions_last(output, channel_dim)


@contextlib.contextmanager
def replaced_output(
    layer: nn.Module, site: str, call: int, replace: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Put another output in place of a module's inside the block; the hook is gone afterwards.

    Args:
        layer: The module.
        site: Its name, for messages.
        call: Which of its calls counts, from 0.
        replace: Output → the one to go on with.

    Raises:
        InputError: The output is not a tensor.
    """
    calls = 0

    def hook(_: nn.Module, __: object, output: object) -> Tensor | None:
        nonlocal calls
        calls += 1
        if calls - 1 != call:
            return None
        if not isinstance(output, Tensor):
            raise InputError(
                f"site {site!r} returns a {type(output).__name__}, not a tensor; "
                "choose a module inside it"
            )
        return replace(output)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _module(module: nn.Module, site: str) -> nn.Module:
    known: dict[str, nn.Module] = dict(module.named_modules())
    if site not in known:
        close = ", ".join(nearest(site, known)) or ", ".join(list(known)[1:6])
        raise InputError(f"the model has no module {site!r}; nearest: {close}")
    return known[site]


def _logits(output: object) -> Tensor:
    if not isinstance(output, Tensor) or output.dim() != 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(f"a classifier must return (images, classes) logits, not {shape}")
    return output


def _targets(logits: Tensor, targets: Tensor | None) -> Tensor:
    if targets is None:
        return logits.detach().argmax(1)
    classes = logits.shape[1]
    if targets.shape != logits.shape[:1]:
        raise InputError(f"{len(targets)} targets for {len(logits)} images")
    if bool(((targets < 0) | (targets >= classes)).any()):
        raise InputError(f"target classes must be 0 to {classes - 1}, not {targets.tolist()}")
    return targets.to(logits.device, torch.int64)


def _rivals(logits: Tensor, targets: Tensor, against: Tensor) -> Tensor:
    rivals = _targets(logits, against)
    if bool((rivals == targets).any()):
        raise InputError(
            f"the logit of class {int(targets[rivals == targets][0])} minus itself is nothing to "
            "explain; give two classes"
        )
    return rivals
