"""Peak memory of a training step: each variant in a process of its own.

The figure is the highest resident memory during a step, above what the process held before the
model was made, libraries and compiled kernels included. The step that counts comes after two
others, when the optimiser has its state. The system's record of the peak is reset before it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from neuronym.errors import MissingError, NeuronymError

__all__ = ["available", "of_training_step"]

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def available() -> bool:
    """Whether this system tells a process its peak of resident memory."""
    return STATUS.is_file() and os.access(CLEAR, os.W_OK)


def of_training_step(model: str, *, competitors: int | None, batch: int, threads: int) -> float:
    """Return the peak of one SGD step in MiB, measured in a new process.

    Args:
        model: A timm name.
        competitors: U, or ``None`` for the dense model.
        batch: Number of images of 224 × 224 pixels.
        threads: Number of torch's threads.

    Raises:
        MissingError: This system does not tell a process its peak.
        NeuronymError: The process failed.
    """
    if not available():
        raise MissingError("peak memory is read from /proc/self/status, which is not there")
    code = (
        f"from neuronym.benchmarks import memory; memory._main({model!r}, {competitors}, {batch})"
    )
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        # so that freed memory is given back and the next step starts from the same place
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise NeuronymError(f"the measurement of {model} failed: {last[0]}")
    return float(done.stdout.split()[-1])


def _read(field: str) -> float:
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise MissingError(f"/proc/self/status has no {field}")


def _main(model: str, competitors: int | None, batch: int) -> None:
    import timm

    from neuronym.lwta import LWTA, convert

    for shape, dimension in (((8, 8), -1), ((2, 8, 16, 16), 1)):  # libraries and kernels are in
        z = torch.randn(shape).requires_grad_()
        LWTA(2, dimension)(z).sum().backward()
    warm = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 8))
    functional.cross_entropy(warm(torch.randn(2, 3, 8, 8)), torch.zeros(2).long()).backward()
    before = _read("VmRSS")
    net = timm.create_model(model).train()
    if competitors is not None:
        net, _ = convert(net, competitors, example=(3, 224, 224))
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, 224, 224, generator=generator)
    labels = torch.randint(1000, (batch,), generator=generator)
    for step in range(3):
        if step == 2:
            CLEAR.write_text("5", encoding="ascii")
        optimiser.zero_grad()
        functional.cross_entropy(net(images), labels).backward()
        optimiser.step()
    sys.stdout.write(f"{_read('VmHWM') - before}\n")
