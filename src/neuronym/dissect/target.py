"""The model that is dissected: loaded or plain, on its device, with a sample of its input."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from neuronym.devices import checked_device
from neuronym.errors import InputError
from neuronym.models import LoadedModel, model_fingerprint
from neuronym.probes import Pieces, ProbeSet, pieces_of

__all__ = ["Target", "on_device", "sample_of", "target_of"]

_FIXED_CODE = ("timm", "torchvision", "pocket")


@dataclass(frozen=True)
class Target:
    """A model with its transform.

    Attributes:
        module: The network.
        transform: One PIL image → one input tensor.
        spec: The SPEC that loads it, or the name of its class.
        fingerprint: Identifies structure, weights and transform.
        reusable: Whether the fingerprint says all: code that a person may edit has none.
    """

    module: nn.Module
    transform: Callable[[Image.Image], Tensor]
    spec: str
    fingerprint: str
    reusable: bool


def target_of(
    model: LoadedModel | nn.Module, transform: Callable[[Image.Image], Tensor] | None
) -> Target:
    """Return what is needed to run a model.

    Raises:
        InputError: A plain module comes without a transform.
    """
    if isinstance(model, LoadedModel):
        if transform is not None:
            raise InputError("a loaded model has its own transform; leave options.transform out")
        fixed = model.spec.partition(":")[0] in _FIXED_CODE or Path(model.spec).is_dir()
        return Target(model.module, model.transform, model.spec, model.fingerprint, fixed)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model must be a LoadedModel or a torch module, not {type(model).__name__}"
        )
    if transform is None:
        raise InputError(
            "a plain module needs DissectOptions(transform=...), which turns a PIL image into "
            "its input; or load it with neuronym.models.load"
        )
    fingerprint = model_fingerprint(model, transform)
    return Target(model, transform, type(model).__name__, fingerprint, reusable=False)


@contextlib.contextmanager
def on_device(module: nn.Module, name: str | None) -> Iterator[torch.device]:
    """Move a module to a device for the block, and back afterwards.

    Raises:
        InputError: The name is not of the form of a device, or the parameters of the module are
            on several devices.
        UnavailableError: There is no such device on this machine.
    """
    held = {tensor.device for tensor in [*module.parameters(), *module.buffers()]}
    before = next(iter(held), torch.device("cpu"))
    if name is None or held == {checked_device(name)}:
        yield before
        return
    device = checked_device(name)
    if len(held) > 1:
        raise InputError(f"the model is spread over {len(held)} devices; leave device out")
    module.to(device)
    try:
        yield device
    finally:
        module.to(before)


def sample_of(images: ProbeSet | Pieces, transform: Callable[[Image.Image], Tensor]) -> Tensor:
    """Return the first two images that can be read, as a batch of inputs.

    Raises:
        InputError: There are fewer than two readable images, or the transform does not give
            tensors of one size.
    """
    pieces = images if isinstance(images, Pieces) else pieces_of(images)
    tensors: list[Tensor] = []
    for piece in range(pieces.count):
        with pieces.open(piece, batch_size=2, workers=0) as stream:
            for batch in stream:
                tensors += [transform(image) for image in batch.images]
                if len(tensors) >= 2:
                    break
        if len(tensors) >= 2:
            break
    if len(tensors) < 2:
        raise InputError(
            f"{pieces.name!r} has fewer than 2 readable images; units can only be compared over "
            "several"
        )
    tensors = tensors[:2]
    for tensor in tensors:
        if not isinstance(tensor, Tensor) or tensor.shape != tensors[0].shape:
            kinds = " and ".join(str(getattr(t, "shape", type(t).__name__)) for t in tensors)
            raise InputError(f"the transform must give tensors of one size, not {kinds}")
    return torch.stack(tensors)
