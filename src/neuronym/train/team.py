"""The processes that share a run: one, or as many as ``accelerate launch`` or ``torchrun`` began.

A batch is the batch of the whole team. Every process takes a contiguous share of it, knows where
that share begins, and weighs its loss so that the averaged gradient is that of the batch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from neuronym.devices import checked_device
from neuronym.errors import InputError, NeuronymError

__all__ = ["Place", "Team", "close_team", "join_team", "open_team", "share_of"]

_Result = TypeVar("_Result")
_LAUNCHED = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Place:
    """Where some images stand within the batch: the number of the first, and the batch's size."""

    start: int
    total: int


def share_of(count: int, rank: int, size: int) -> slice:
    """Return the contiguous share of process ``rank`` of ``size`` in ``count`` images."""
    return slice(count * rank // size, count * (rank + 1) // size)


class Team:
    """One process that trains alone; the base of :class:`_Accelerated`.

    Attributes:
        rank: Number of this process, from 0; the process 0 writes the files.
        size: How many processes there are.
        device: Where this process computes.
    """

    rank = 0
    size = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module whose backward pass averages gradients over the team."""
        return module

    def synced_norms(self, module: nn.Module) -> nn.Module:
        """Let batch normalisations see the whole batch, where the device can."""
        return module

    def no_sync(self, wrapped: nn.Module) -> AbstractContextManager[Any]:
        """Leave the averaging of gradients to a later backward pass."""
        return contextlib.nullcontext()

    def counts(self, count: int) -> list[int]:
        """Return every process's ``count``, in the order of the processes."""
        return [count]

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over the team."""
        return list(values)

    def average(self, tensors: Sequence[Tensor], *, weight: float) -> None:
        """Replace each tensor by its mean over the team, weighted, in place."""

    def gather(self, value: _Result) -> list[_Result]:
        """Return every process's ``value``, in the order of the processes."""
        return [value]

    def led(self, action: Callable[[], _Result]) -> _Result:
        """Return what ``action`` gives in process 0, in every process; errors as well."""
        return action()


class _Accelerated(Team):
    """One of several processes, connected by accelerate."""

    def __init__(self, accelerator: Any) -> None:
        super().__init__(accelerator.device)
        self._accelerator = accelerator
        self.rank, self.size = accelerator.process_index, accelerator.num_processes

    def wrap(self, module: nn.Module) -> nn.Module:
        wrapped: nn.Module = self._accelerator.prepare_model(module, device_placement=False)
        return wrapped

    def synced_norms(self, module: nn.Module) -> nn.Module:
        if self.device.type != "cuda":
            return module
        synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return synced

    def no_sync(self, wrapped: nn.Module) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self._accelerator.no_sync(wrapped)
        return context

    def counts(self, count: int) -> list[int]:
        every = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        every[self.rank] = count
        return [int(value) for value in self._summed(every).tolist()]

    def sum(self, values: Sequence[float]) -> list[float]:
        given = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        return [float(value) for value in self._summed(given).tolist()]

    def average(self, tensors: Sequence[Tensor], *, weight: float) -> None:
        total = self.sum([weight])[0]
        for tensor in tensors:
            tensor.copy_(self._summed(tensor * (weight / total)) if total else tensor)

    def gather(self, value: _Result) -> list[_Result]:
        from accelerate.utils import gather_object

        every: list[_Result] = gather_object([value])
        return every

    def led(self, action: Callable[[], _Result]) -> _Result:
        from accelerate.utils import broadcast_object_list

        found: list[Any] = [None, None]
        if self.leads:
            try:
                found[0] = action()
            except NeuronymError as error:
                found[1] = error
        broadcast_object_list(found)
        if found[1] is not None:
            raise found[1]
        result: _Result = found[0]
        return result

    def _summed(self, tensor: Tensor) -> Tensor:
        summed: Tensor = self._accelerator.reduce(tensor, reduction="sum")
        return summed


def open_team(*, device: str, precision: str, accumulate: int) -> Team:
    """Join the processes that a launcher began; without one, return a team of one.

    Args:
        device: ``"cpu"``, or ``"cuda"``: then each process takes a device of its own.
        precision: Of the settings; the launcher must not ask for another one.
        accumulate: Of the settings; the launcher must not ask for another one.

    Raises:
        InputError: torch knows no such device; or the launcher asks for something that differs
            from the settings, or for a way of sharing other than one whole model per process.
        UnavailableError: The device is not on this machine.
    """
    if _launched():
        _check_launcher(precision, accumulate)
    return join_team(device)


def join_team(device: str | None, *, patience: timedelta = timedelta(days=7)) -> Team:
    """Join the processes that a launcher began; without one, return a team of one.

    Args:
        device: ``"cpu"``, or ``"cuda"``: then each process takes a device of its own. ``None``
            takes cuda where every process has one, else cpu.
        patience: How long a process may wait for the others.

    Raises:
        InputError: torch knows no such device; or the launcher asks for a way of sharing other
            than one whole model per process.
        UnavailableError: The device is not on this machine.
    """
    if device is None:
        device = "cuda" if _launched() and torch.cuda.is_available() else "cpu"
    found = checked_device(device)
    if not _launched():
        return Team(found)
    from accelerate import Accelerator
    from accelerate.utils import DistributedType, InitProcessGroupKwargs

    kind = found.type
    accelerator = Accelerator(
        cpu=kind == "cpu",
        mixed_precision="no",
        gradient_accumulation_steps=1,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=patience)],
    )
    allowed = (DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
    if accelerator.distributed_type not in allowed or accelerator.device.type != kind:
        raise InputError(
            f"the launcher shares the work as {accelerator.distributed_type.value} on "
            f"{accelerator.device.type}; here each process runs one whole model on cpu or cuda, "
            f"and device is {device!r}"
        )
    return _Accelerated(accelerator)


def _launched() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) >= 2


def _check_launcher(precision: str, accumulate: int) -> None:
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched != "no" and _LAUNCHED.get(launched) != precision:
        raise InputError(
            f"accelerate was launched with mixed precision {launched!r} and precision is "
            f"{precision!r}; set precision={_LAUNCHED.get(launched, 'float32')!r}, or launch "
            "without it"
        )
    steps = int(os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1"))
    if steps not in (1, accumulate):
        raise InputError(
            f"accelerate was launched with {steps} gradient accumulation steps and accumulate is "
            f"{accumulate}; set accumulate={steps}, or launch without it"
        )


def close_team() -> None:
    """Leave the team at the end of a program; nothing where there is none."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
