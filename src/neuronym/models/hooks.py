"""The hook by which the output of a site that does not compete is edited."""

from __future__ import annotations

from torch import Tensor, nn

from neuronym.errors import InputError
from neuronym.lwta import LWTA
from neuronym.lwta.edited import Editor

__all__ = ["DenseEdit", "dense_edit_of", "edits_on"]


class DenseEdit:
    """A forward hook that changes units of an output; it comes before every other hook."""

    def __init__(self, editor: Editor, channel_dim: int) -> None:
        self.editor = editor
        self.channel_dim = channel_dim

    def __call__(self, _: nn.Module, __: object, output: object) -> Tensor | None:
        if not isinstance(output, Tensor):
            raise InputError(
                f"site {self.editor.layers[0].name!r} returns a {type(output).__name__}, not a "
                "tensor; choose a module inside it"
            )
        if not -output.dim() <= self.channel_dim < output.dim():
            raise InputError(
                f"channel_dim {self.channel_dim} does not fit the output of "
                f"{self.editor.layers[0].name!r}, shape {tuple(output.shape)}"
            )
        axis = self.channel_dim % output.dim()
        handling = self.editor.handling(output, axis)
        return None if handling is None else handling.output(output, axis)


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
            found[name] = f"along {hook.channel_dim}: {hook.editor!r}"
    return found
