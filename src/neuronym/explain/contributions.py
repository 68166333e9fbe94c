"""Signed contributions of the units of one site to a logit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuronym.errors import InputError, nearest
from neuronym.modes import evaluation
from neuronym.record import positions_last

__all__ = ["Attribution", "Contributions", "attribution", "baseline", "contributions"]


@dataclass(frozen=True)
class Contributions:
    """What each unit of a site added to one logit per image.

    Attributes:
        logits: ``(images, classes)``.
        targets: ``(images,)`` int64, the class that each row is about.
        activations: ``(images, units, positions)``, the site's output; zero for a loser.
        values: ``(images, units, positions)``, activation × gradient of the target's logit at
            the site with winners fixed, in logits.
        baselines: ``(images,)`` the target's logit with the site's output set to zero.
    """

    logits: Tensor
    targets: Tensor
    activations: Tensor
    values: Tensor
    baselines: Tensor

    @property
    def per_unit(self) -> Tensor:
        """``(images, units)`` float64: contributions summed over positions."""
        return self.values.double().sum(-1)

    @property
    def target_logits(self) -> Tensor:
        """``(images,)`` float64: the logit that is explained."""
        return self.logits.double().gather(1, self.targets[:, None])[:, 0]

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
        gradient: Of the targets' logits, shaped like ``activation``.
    """

    logits: Tensor
    targets: Tensor
    activation: Tensor
    gradient: Tensor

    def beside(self, baselines: Tensor, *, channel_dim: int) -> Contributions:
        """Return the contributions, given the logits without the site."""
        return Contributions(
            logits=self.logits,
            targets=self.targets,
            activations=units_first(self.activation, channel_dim),
            values=units_first(self.activation * self.gradient, channel_dim),
            baselines=baselines,
        )


def contributions(
    module: nn.Module,
    inputs: Tensor,
    *,
    site: str,
    channel_dim: int,
    targets: Tensor | None = None,
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
        call: Which call of the site counts where one forward calls it several times.

    Raises:
        InputError: Unknown site or target, a site that is not called, or an output that is not a
            tensor.
    """
    found = attribution(module, inputs, site=site, targets=targets, call=call)
    baselines = baseline(module, inputs, site=site, targets=found.targets, call=call)
    return found.beside(baselines, channel_dim=channel_dim)


def attribution(
    module: nn.Module,
    inputs: Tensor,
    *,
    site: str,
    targets: Tensor | None = None,
    call: int = 0,
) -> Attribution:
    """Run the first of the two passes of :func:`contributions`; arguments and errors are its."""
    layer = _module(module, site)
    kept: list[Tensor] = []

    def capture(output: Tensor) -> Tensor:
        leaf = output.detach().clone().requires_grad_(True)
        kept.append(leaf)
        return leaf.clone()  # an in-place operation may follow; the leaf keeps its value

    with evaluation(module), torch.enable_grad(), _replace_output(layer, site, call, capture):
        logits = _logits(module(inputs))
        if not kept:
            raise InputError(f"site {site!r} was not called {call + 1} times in a forward pass")
        chosen = _targets(logits, targets)
        picked = logits.gather(1, chosen[:, None]).sum()
        (gradient,) = torch.autograd.grad(picked, kept[0], allow_unused=True)
    activation = kept[0].detach()
    gradient = torch.zeros_like(activation) if gradient is None else gradient
    return Attribution(logits.detach(), chosen, activation, gradient)


def baseline(
    module: nn.Module, inputs: Tensor, *, site: str, targets: Tensor, call: int = 0
) -> Tensor:
    """Return ``(images,)``, the targets' logits with the site's output set to zero."""
    layer = _module(module, site)
    with (
        evaluation(module),
        torch.no_grad(),
        _replace_output(layer, site, call, torch.zeros_like),
    ):
        return _logits(module(inputs)).gather(1, targets[:, None])[:, 0]


def units_first(output: Tensor, channel_dim: int) -> Tensor:
    """Reshape a site's output to ``(images, units, positions)``."""
    if output.dim() < 2 or not -output.dim() < channel_dim < output.dim() or channel_dim == 0:
        raise InputError(
            f"channel_dim {channel_dim} does not fit an output of shape {tuple(output.shape)}"
        )
    return positions_last(output, channel_dim)


@contextlib.contextmanager
def _replace_output(
    layer: nn.Module, site: str, call: int, replace: Callable[[Tensor], Tensor]
) -> Iterator[None]:
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
