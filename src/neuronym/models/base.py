"""What loading a model gives, and how a model is identified by content."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from neuronym.errors import InputError
from neuronym.files import fingerprint
from neuronym.models.hooks import edits_on
from neuronym.models.preprocessing import Preprocessing, checked_input_size

__all__ = ["LoadOptions", "LoadedModel", "check_made_from", "model_fingerprint"]

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class LoadOptions:
    """What a caller asks of a loader.

    Attributes:
        num_classes: Outputs of a new head; ``None`` keeps the model's own.
        pretrained: Whether published weights are loaded.
        input_size: (C, H, W) in place of the model's own.
    """

    num_classes: int | None = None
    pretrained: bool = True
    input_size: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.num_classes is not None and self.num_classes < 1:
            raise InputError(f"num_classes must be at least 1, not {self.num_classes}")
        if self.input_size is not None:
            object.__setattr__(self, "input_size", checked_input_size(self.input_size))


@dataclass(frozen=True)
class LoadedModel:
    """A model with everything that is needed to run it on images.

    Attributes:
        module: The network in evaluation mode; (N, C, H, W) float32 → (N, classes) logits.
        transform: One PIL image → (C, H, W) float32.
        class_names: Name of each output, or ``None`` where nobody knows them.
        spec: The SPEC that loads it.
        input_size: (C, H, W) of what ``transform`` gives.
        fingerprint: 16 hexadecimal digits that identify structure, weights and preprocessing by
            content; computed where it is not given.
    """

    module: nn.Module
    transform: Callable[[Image.Image], Tensor]
    class_names: tuple[str, ...] | None
    spec: str
    input_size: tuple[int, int, int]
    fingerprint: str = field(default="")

    def __post_init__(self) -> None:
        self.module.eval()
        if not self.fingerprint:
            value = model_fingerprint(self.module, self.transform)
            object.__setattr__(self, "fingerprint", value)

    @property
    def preprocessing(self) -> Preprocessing:
        """The transform as data.

        Raises:
            InputError: The transform is another callable, whose steps cannot be saved.
        """
        if isinstance(self.transform, Preprocessing):
            return self.transform
        raise InputError(
            f"model {self.spec!r} brings its own transform, which cannot be saved with the model; "
            "give a neuronym.models.Preprocessing"
        )


def model_fingerprint(module: nn.Module, transform: object = None) -> str:
    """Return 16 hexadecimal digits that identify a model by content.

    They cover the printed structure (so a competitive network and its dense twin differ although
    their weights may be equal), every tensor of the state dict, the transform, and edits.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not isinstance(value, Tensor):
            continue
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    structure = _ADDRESS.sub("", repr(module))
    if edits := edits_on(module):
        structure += f"\nedited: {edits}"
    if isinstance(transform, Preprocessing):
        return fingerprint(structure, digest.digest(), transform.to_dict())
    return fingerprint(structure, digest.digest(), _ADDRESS.sub("", repr(transform)))


def check_made_from(model: LoadedModel, provenance: Mapping[str, Any], *, what: str) -> None:
    """Check that something saved was made from this model, with these weights.

    Args:
        model: The model that it is to be used with.
        provenance: Where it comes from; ``provenance["model"]`` holds SPEC and fingerprint.
        what: Names it in the message, e.g. ``"the atlas"``.

    Raises:
        InputError: It names another fingerprint; one that names none is accepted.
    """
    made_from = provenance.get("model") or {}
    expected = made_from.get("fingerprint")
    if expected is not None and expected != model.fingerprint:
        raise InputError(
            f"{what} was made from another model: its fingerprint is {expected} "
            f"({made_from.get('spec')!r}), this one's is {model.fingerprint} ({model.spec!r})"
        )
