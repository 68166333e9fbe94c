"""The hook by which the output of a site that does not compete is edited."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from neuronym.errors import InputError
from neuronym.lwta import LWTA
from neuronym.lwta.edited import Editor

__all__ = ["DenseEdit", "common_axis", "dense_edit_of", "edits_on"]


class DenseEdit:
    """A forward hook that changes units of an output; it comes before every other hook."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor

    @property
    def channel_dims(self) -> tuple[int, ...]:
        """The dimensions that the edits give; -1 and 1 may turn out to be the same."""
        return tuple(dict.fromkeys(d for each in self.editor.layers for d in each.channel_dims))

    def __call__(self, _: nn.Module, __: object, output: object) -> Tensor | None:
        if not isinstance(output, Tensor):
            raise InputError(
                f"site {self.editor.layers[0].name!r} returns a {type(output).__name__}, not a "
                "tensor; choose a module inside it"
            )
        axis = common_axis(self.editor.layers[0].name, self.channel_dims, output)
        handling = self.editor.handling(output, axis)
        return None if handling is None else handling.output(output, axis)


def common_axis(site: str, channel_dims: Sequence[int], output: Tensor) -> int:
    """Return the dimension of ``output`` that all ``channel_dims`` are, counted from 0.

    Raises:
        InputError: One of them does not fit the output, or they are not the same dimension.
    """
    for dim in channel_dims:
        if not -output.dim() <= dim < output.dim():
            raise InputError(
                f"channel_dim {dim} does not fit the output of {site!r}, "
                f"shape {tuple(output.shape)}"
            )
    axes = {dim % output.dim() for dim in channel_dims}
    if len(axes) > 1:
        listed = " and ".join(str(dim) for dim in channel_dims)
        raise InputError(
            f"site {site!r} is edited along the dimensions {listed} of its output, "
            f"shape {tuple(output.shape)}: one of them holds the units; give all edits the same"
        )
    return axes.pop()


def dense_edit_of(part: nn.Module) -> DenseEdit | None:
    """Return the hook by which a module's output is edited, if it is."""
    for hook in part._forward_hooks.values():
        if isinstance(hook, DenseEdit):
            return hook
    return None


def edits_on(module: nn.Module) -> dict[str, str]:
    """Describe what edits do to the parts of a model, by name; empty where nothing is edited."""
    found = {}
    for name, part in module.named_modules():
        hook = dense_edit_of(part)
        if isinstance(part, LWTA) and part.edit is not None:
            found[name] = repr(part.edit)
        elif hook is not None:
            found[name] = f"along {hook.channel_dims[0]}: {hook.editor!r}"
    return found
