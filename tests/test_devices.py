"""Devices: what is here, what is not, and what is none."""

from __future__ import annotations

import pytest
import torch

from neuronym.devices import checked_device
from neuronym.errors import InputError, UnavailableError


def test_devices_that_are_here() -> None:
    assert checked_device("cpu") == torch.device("cpu")
    assert checked_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("foo", InputError, "unknown device 'foo'; use 'cpu', 'cuda', 'cuda:0' or 'mps'"),
        ("", InputError, "unknown device ''"),
        ("meta", InputError, "device 'meta' holds no numbers; use 'cpu'"),
        ("cuda:99", UnavailableError, "device 'cuda:99' is not on this machine; use 'cpu'"),
        ("xla", UnavailableError, "device 'xla' is not on this machine"),
    ],
)
def test_devices_that_are_not(name: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        checked_device(name)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without cuda")
def test_cuda_is_not_everywhere() -> None:
    with pytest.raises(UnavailableError, match="device 'cuda' is not on this machine"):
        checked_device("cuda")
