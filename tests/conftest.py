"""Fixtures and guards that every test shares."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rich.console  # noqa: F401  (its import draws a random number, which no test may do)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of sample photos and CIFAR-10; skips where it is absent."""
    if not (SHARED / "imagenet-photos.parquet").is_file():
        pytest.skip("the sample data folder ../shared/data is not on this machine")
    return SHARED


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections to anything but this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in (
            "127.0.0.1",
            "localhost",
            "::1",
        ):
            raise OSError(f"network is off in tests: {address!r}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _random_state_is_untouched(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test whose code changes Python's or NumPy's global random state."""
    before = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    if request.node.get_closest_marker("hypothesis") or "hypothesis" in request.keywords:
        return
    assert random.getstate() == before[0], "the global state of `random` changed"
    assert (np.random.get_state()[1] == before[1]).all(), "NumPy's global state changed"  # noqa: NPY002
