"""The fused kernels against plain operations: values, gradients, layouts, threads."""

from __future__ import annotations

import concurrent.futures
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit

from neuronym.errors import UnknownNameError
from neuronym.lwta import engine, fused, noise, plain, threads
from neuronym.lwta.kernels import entries, vector
from neuronym.lwta.kernels import job as slots
from neuronym.lwta.plain import Rule

SHAPES = [  # (shape, axis): rows, planes, planes too small for vectors, odd sizes
    ((7, 60), 1),
    ((3, 5, 60), 2),
    ((60,), 0),
    ((2, 60, 5, 7), 1),
    ((2, 60, 9, 11), 1),
    ((1, 60, 17, 13), 1),  # more positions than a task takes with many competitors
    ((2, 60, 1, 1), 1),
    ((2, 60, 3, 5, 7), 1),
]
COMPETITORS = [2, 3, 4, 5, 12, 30, 60]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def layouts(shape: tuple[int, ...], seed: int) -> list[torch.Tensor]:
    z = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3
    return [z, z.to(memory_format=torch.channels_last)] if len(shape) == 4 else [z]


@pytest.mark.parametrize("competitors", COMPETITORS)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("key", [None, 12345])
def test_values_and_gradients(
    shape: tuple[int, ...], axis: int, competitors: int, key: int | None
) -> None:
    """Kernels against plain float64 from the same float32 input, in every memory layout."""
    rule = Rule(competitors, axis, 0.67, key, kl=True)
    for z in layouts(shape, competitors):
        assert fused.supports(z, rule)
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(9))
        leaf = z.clone().requires_grad_()
        outcome = engine.run(leaf, rule)
        assert outcome.kl is not None
        assert outcome.y.stride() == z.stride()
        wide = z.double().requires_grad_()
        expected = engine.run(wide, rule)
        assert expected.kl is not None
        assert torch.equal(outcome.winners, expected.winners)
        assert torch.equal(outcome.y.double(), expected.y)
        assert float(outcome.kl.detach()) == pytest.approx(float(expected.kl.detach()), rel=2e-6)
        for weight in (0.0, 0.3):
            (found,) = torch.autograd.grad(
                (outcome.y * grad).sum() + weight * outcome.kl, leaf, retain_graph=True
            )
            (right,) = torch.autograd.grad(
                (expected.y * grad.double()).sum() + weight * expected.kl, wide, retain_graph=True
            )
            assert torch.allclose(found.double(), right, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("competitors", [7, 8, 11, 16, 24, 35, 64, 128, 243, 256])
@pytest.mark.parametrize("plane", [(), (8, 9)])
def test_other_factors(competitors: int, plane: tuple[int, ...]) -> None:
    z = torch.randn(3, 2 * competitors, *plane).requires_grad_()
    rule = Rule(competitors, 1, 0.67, 8, kl=True)
    outcome = engine.run(z, rule)
    expected = plain.literal(z, rule)
    assert torch.equal(outcome.winners, expected.winners)
    loss, right = ((each.y.square().sum() + each.kl) for each in (outcome, expected))
    found = torch.autograd.grad(loss, z)[0]
    assert torch.allclose(found, torch.autograd.grad(right, z)[0], rtol=1e-4, atol=1e-5)


def test_gradient_of_the_kl_alone_and_of_nothing() -> None:
    z = torch.randn(40, 24).requires_grad_()
    rule = Rule(8, 1, 0.67, 5, kl=True)
    outcome = engine.run(z, rule)
    assert outcome.kl is not None
    (found,) = torch.autograd.grad(outcome.kl, z, retain_graph=True)
    (expected,) = torch.autograd.grad(plain.literal(z, rule).kl, z)  # type: ignore[arg-type]
    assert torch.allclose(found, expected, atol=1e-6)
    (expanded,) = torch.autograd.grad(outcome.y.sum(), z)  # a gradient without memory of its own
    (expected,) = torch.autograd.grad(plain.literal(z, rule).y.sum(), z)
    assert torch.allclose(expanded, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_only_activations_and_a_byte_per_block_are_kept(dtype: torch.dtype) -> None:
    z = torch.randn(64, 240, 4, 4, dtype=dtype).requires_grad_()
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        engine.run(z, Rule(8, 1, 0.67, 3, kl=True))
    assert sum(kept.values()) == z.numel() * z.element_size() + z.numel() // 8


def test_what_the_kernels_leave_to_plain_operations() -> None:
    rule = Rule(2, 1, 0.67, None, kl=False)
    z = torch.zeros(2, 600)
    assert fused.supports(z, rule)
    assert not fused.supports(z.double(), rule)
    assert not fused.supports(z.to("meta"), rule)
    assert not fused.supports(z[:0], rule)
    assert not fused.supports(z, Rule(300, 1, 0.67, None, kl=False))
    many = torch.randn(2, 600)
    y = engine.run(many, Rule(300, 1, 0.67, None, kl=False)).y
    assert int((y != 0).sum()) == 4


@pytest.mark.parametrize("hidden", [-math.inf, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("competitors", [2, 3, 5])
@pytest.mark.parametrize(("shape", "axis"), [((7, 60), 1), ((2, 60, 9, 11), 1)])
@pytest.mark.parametrize("key", [None, 12345])
def test_units_that_are_masked_out(
    shape: tuple[int, ...], axis: int, competitors: int, key: int | None, hidden: float
) -> None:
    """Every path gives what it gives for a unit that is merely far below, in float64."""
    rule = Rule(competitors, axis, 0.67, key, kl=True)
    z = layouts(shape, competitors)[0]
    masked = torch.zeros(shape, dtype=torch.bool)
    masked[:, competitors - 1 :: competitors] = True
    masked[0] = False
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(9))

    def run(path: Any, values: torch.Tensor) -> list[torch.Tensor]:
        leaf = values.clone().requires_grad_()
        y, winners, kl = path(leaf, rule)
        loss = (y * grad.to(y.dtype)).sum() + 0.3 * kl
        return [y.detach(), winners, kl.detach(), *torch.autograd.grad(loss, leaf)]

    expected = run(engine.run, z.double().masked_fill(masked, -1e4))
    assert not expected[3][masked].any()
    given = z.masked_fill(masked, hidden)
    assert fused.supports(given, rule)
    paths = [(engine.run, given), (engine.run, given.double()), (plain.literal, given)]
    for path, values in paths:
        found = run(path, values)
        assert torch.equal(found[1], expected[1])
        for one, other in zip((found[0], *found[2:]), (expected[0], *expected[2:]), strict=True):
            torch.testing.assert_close(one.double(), other.double(), rtol=2e-5, atol=2e-5)


def test_the_number_of_threads_changes_nothing() -> None:
    z = torch.randn(64, 48, 20, 20)
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for values in (z, z.to(memory_format=torch.channels_last)):
            leaf = values.clone().requires_grad_()
            outcome = engine.run(leaf, Rule(8, 1, 0.67, 1, kl=True))
            (grad,) = torch.autograd.grad(outcome.y.square().sum(), leaf)
            found.append((outcome.winners, outcome.y, grad))
    for winners, y, grad in found[1:]:
        assert torch.equal(winners, found[0][0])
        assert torch.equal(y, found[0][1])
        assert torch.allclose(grad, found[0][2], atol=1e-5)
    for first, later in ((0, 2), (1, 3)):  # the same layout with another number of threads
        assert torch.equal(found[first][2], found[later][2])


def test_several_python_threads_at_once() -> None:
    z = torch.randn(500, 480)
    expected = [engine.run(z, Rule(8, 1, 0.67, key, kl=False)).winners for key in range(8)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda key: engine.run(z, Rule(8, 1, 0.67, key % 8, kl=False)), range(32))
    for key, outcome in enumerate(found):
        assert torch.equal(outcome.winners, expected[key % 8])


def test_threads_beyond_what_the_work_is_worth_are_sent_away() -> None:
    torch.set_num_threads(4)
    z = torch.randn(100, 480)  # 48000 elements: worth three threads, of the four of the team
    out, winners = torch.zeros_like(z), torch.zeros(100, 60, dtype=torch.uint8)
    job = fused._job(z, Rule(8, 1, 0.67, None, kl=False))[1]
    job[slots.OUT], job[slots.WINNERS] = out.data_ptr(), winners.data_ptr()
    fused.run("rows_forward", job, z.numel())
    assert (job[slots.THREADS], job[slots.ENTERED]) == (3, 4)
    assert job[slots.COUNTER] == job[slots.TASKS] + 3  # three found that nothing was left
    assert torch.equal(out, z.where(out != 0, torch.zeros(())))
    job[slots.COUNTER], before = 0, out.clone()
    out.zero_()
    entries.compile_entry("rows_forward").ctypes(job.ctypes.data)  # a fifth thread comes
    assert job[slots.COUNTER] == 0
    assert not out.any()
    assert before.any()


def test_the_teams_threads_live_on() -> None:
    """A team that shrank would end threads that torch has to start again."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir() or threads._team() is None:
        pytest.skip("needs Linux and OpenMP")
    torch.set_num_threads(4)
    torch.randn(4000, 500).add_(1)
    before = {path.name for path in tasks.iterdir()}
    engine.run(torch.randn(40, 480), Rule(8, 1, 0.67, None, kl=False))  # worth two threads
    torch.randn(4000, 500).add_(1)
    assert {path.name for path in tasks.iterdir()} >= before


def test_without_torchs_team_a_pool_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    z = torch.randn(500, 480)
    rule = Rule(8, 1, 0.67, 3, kl=True)
    expected = engine.run(z, rule)
    used = []
    pool = threads._pool
    monkeypatch.setattr(threads, "_team", lambda: None)
    monkeypatch.setattr(threads, "_pool", lambda count: used.append(count) or pool(count))
    torch.set_num_threads(3)
    found = engine.run(z, rule)
    assert used == [2, 2]
    assert torch.equal(found.winners, expected.winners)
    assert torch.equal(found.y, expected.y)


FORKED = """
import os, torch
from neuronym.lwta import functional
torch.set_num_threads(2)
z = torch.randn(400, 480)
first = functional.compete(z, 8, mode="argmax")
pid = os.fork()
if pid == 0:
    again = functional.compete(z, 8, mode="argmax")
    os._exit(0 if (again.numpy() == first.numpy()).all() else 3)
status = os.waitpid(pid, 0)[1]
raise SystemExit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_a_forked_process_does_not_hang() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], timeout=120, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_without_numba_plain_operations_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    fused._entries.cache_clear()
    monkeypatch.setitem(sys.modules, "neuronym.lwta.kernels.entries", None)
    monkeypatch.delattr("neuronym.lwta.kernels.entries")
    try:
        with pytest.warns(RuntimeWarning, match="LWTA kernels are off, plain torch is used"):
            assert not fused.available()
        y = engine.run(torch.tensor([[1.0, 2.0]]), Rule(2, 1, 0.67, None, kl=False)).y
        assert y.tolist() == [[0.0, 2.0]]
    finally:
        fused._entries.cache_clear()


def test_where_no_cache_can_be_written_kernels_compile_for_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def cfunc(signature: str, *, cache: bool, fastmath: Any) -> Any:
        def compiled(function: Any) -> Any:
            tried.append(cache)
            if cache:
                raise RuntimeError("cannot cache function: no locator available")
            return function

        return compiled

    monkeypatch.setattr(entries, "cfunc", cfunc)
    assert callable(entries.compile_entry("rows_forward"))
    assert tried == [True, False]


def test_a_change_of_the_sources_changes_the_caches_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "cfunc", lambda *_, **__: lambda function: function)
    cells = entries.compile_entry("planes_backward").__closure__
    assert [cell.cell_contents for cell in cells] == [entries._stamp()]
    with pytest.raises(UnknownNameError, match="Did you mean 'rows_forward'"):
        entries.compile_entry("row_forward")


@njit
def many(function: Any, values: Any, out: Any) -> None:
    for index in range(values.size):
        out[index] = function(values[index])


def test_error_of_log_and_exp() -> None:
    """The documented bound of 1e-6 on the relative error, over the ranges that are used."""
    near_one = (1 - np.arange(1, 200_000) * 2.0**-24).astype(np.float32)
    wide = np.exp(np.linspace(math.log(2.0**-24), math.log(1e6), 500_000)).astype(np.float32)
    values = np.concatenate([near_one, wide[wide != 1]])
    found = np.empty_like(values)
    many(vector.log, values, found)
    right = np.log(values.astype(np.float64))
    assert np.abs(found / right - 1).max() < 1e-6
    values = np.linspace(-86, 0, 1_000_000, dtype=np.float32)
    found = np.empty_like(values)
    many(vector.exp, values, found)
    assert np.abs(found / np.exp(values.astype(np.float64)) - 1).max() < 1e-6


def test_kernel_noise_is_the_documented_noise() -> None:
    key = 2**62 + 12345
    words = [np.uint32(word) for word in noise.key_words(key)]
    expected = noise.gumbel((4096,), key=key, dtype=torch.float64).numpy()
    found = np.zeros(4096, np.float32)

    @njit
    def fill(out: Any, first: Any, second: Any) -> None:
        for index in range(out.size):
            out[index] = vector.gumbel(np.uint32(index), first, second)

    fill(found, *words)
    assert np.abs(found - expected).max() < 4e-6
