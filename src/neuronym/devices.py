"""Devices: a name that a person gives, and whether it is here."""

from __future__ import annotations

import torch
from torch import nn

from neuronym.errors import InputError, UnavailableError

__all__ = ["checked_device", "device_of"]


def checked_device(name: str | torch.device) -> torch.device:
    """Return a torch device that is on this machine and can compute.

    Raises:
        InputError: torch knows no such device, or it holds no numbers (``"meta"``).
        UnavailableError: torch knows it, and it is not here.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"unknown device {name!r}; use 'cpu', 'cuda', 'cuda:0' or 'mps'"
        ) from error
    if device.type == "meta":
        raise InputError("device 'meta' holds no numbers; use 'cpu', 'cuda', 'cuda:0' or 'mps'")
    if not _is_here(device):
        raise UnavailableError(f"device {str(name)!r} is not on this machine; use 'cpu'")
    return device


def _is_here(device: torch.device) -> bool:
    """Whether a device answers; where torch can tell, without starting it in this process."""
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        return False
    return True


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's first parameter; the CPU where it has none."""
    return next((each.device for each in module.parameters()), torch.device("cpu"))
