"""Several processes on one machine, and several passes: the result is that of one batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from neuronym.errors import InputError
from neuronym.train import train
from neuronym.train.loop import _pieces
from neuronym.train.team import Team, open_team, share_of
from train.shared_run import RUNS, SETTINGS
from train.synthetic import Blobs

TESTS = Path(__file__).parents[1]


def environment(**more: str) -> dict[str, str]:
    paths = [str(TESTS), str(TESTS.parent / "src")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **more,
    }


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs that two processes shared."""
    folder = tmp_path_factory.mktemp("pair")
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "train.shared_run", str(folder)],
            env=environment(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE="2",
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=port,
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(outputs)
    return folder


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "last.safetensors")


def close(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=2e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("name", ["plain", "pieces", "mixed", "streamed"])
def test_two_processes_are_one_with_the_whole_batch(pair: Path, name: str, tmp_path: Path) -> None:
    settings, images = RUNS[name]
    train(settings, images, out=tmp_path / "alone")
    close(tensors(tmp_path / "alone"), tensors(pair / name))
    alone, both = (
        json.loads((folder / "metrics.json").read_text())
        for folder in (tmp_path / "alone", pair / name)
    )
    assert both["skipped"] == alone["skipped"]
    assert len(both["skipped"]) == len(images.broken)
    for mine, theirs in zip(both["history"], alone["history"], strict=True):
        for key in ("loss", "cross_entropy", "kl", "nll"):
            assert mine[key] == pytest.approx(theirs[key], rel=2e-3), key
    assert both["validation"]["images"] == alone["validation"]["images"]
    kl = alone["validation"]["kl_by_site"]
    assert both["validation"]["kl_by_site"] == pytest.approx(kl, rel=2e-3)
    assert both["validation"]["active_fraction"] == pytest.approx(0.25, abs=1e-3)


def test_the_result_depends_on_the_noise(pair: Path, tmp_path: Path) -> None:
    """The agreement above is not that of runs in which the winners' draws do not matter."""
    train(replace(SETTINGS, temperature=5.0), Blobs(), out=tmp_path / "other")
    with pytest.raises(AssertionError):
        close(tensors(tmp_path / "other"), tensors(pair / "plain"))


def test_batch_norms_are_of_the_own_share_on_the_cpu_and_learn(pair: Path) -> None:
    metrics = json.loads((pair / "norms" / "metrics.json").read_text())
    assert metrics["validation"]["accuracy"] > 0.9


@pytest.mark.parametrize("passes", [2, 5])
def test_passes_are_one_batch(passes: int, tmp_path: Path) -> None:
    train(SETTINGS, Blobs(), out=tmp_path / "one")
    train(replace(SETTINGS, accumulate=passes), Blobs(), out=tmp_path / "several")
    close(tensors(tmp_path / "one"), tensors(tmp_path / "several"))


def test_the_leader_writes_and_errors_reach_everybody(pair: Path) -> None:
    for rank in (0, 1):
        refused = (pair / f"plain-{rank}.txt").read_text()
        assert refused.startswith("FolderInUseError: ")
        diverged = (pair / f"diverging-{rank}.txt").read_text()
        assert diverged.startswith("DivergedError: the loss is nan at step 3 of 8: the first layer")
        assert "'hidden'" in diverged
    assert not (pair / "diverging" / "manifest.json").exists()


def test_a_stopped_run_of_two_goes_on_to_the_same_bits(pair: Path) -> None:
    assert [(pair / f"stopped-{rank}.txt").read_text() for rank in (0, 1)] == ["Stop: \ndone\n"] * 2
    first, second = tensors(pair / "plain"), tensors(pair / "stopped")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_number_of_processes_does_not_resume(pair: Path) -> None:
    with pytest.raises(InputError, match="cannot resume: processes was 2, now it is 1"):
        train(SETTINGS, Blobs(), out=pair / "plain", resume=True)


def test_the_command_line_under_a_launcher(tmp_path: Path) -> None:
    # `--multi_gpu` is accelerate's word for "start the processes", by torchrun; its --cpu leaves
    # that to mpirun. The device is ours to choose.
    begin = [
        *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
        *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
        *("--main_process_port", free_port()),
    ]
    command = [
        *(sys.executable, "-m", *begin, "-m", "neuronym", "train", "--data", "scenes:60"),
        *("--model", "neuronym.models.small:scene_net", "--competitors", "8", "--epochs", "1"),
        *("--batch-size", "20", "--set", "input_size=3,32,32", "--out", str(tmp_path / "run")),
    ]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(str(tmp_path / "run")) == 1
    assert done.stderr.count("best epoch 1") == 1
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["run"]["processes"] == 2


def test_shares_and_pieces_cover_the_batch() -> None:
    for count in (2, 15, 16):
        for size in (1, 2, 3):
            parts = [share_of(count, rank, size) for rank in range(size)]
            assert [each for part in parts for each in range(count)[part]] == list(range(count))
        for passes in (1, 2, 3, count):
            pieces = _pieces(count, passes)
            assert [each for part in pieces for each in range(count)[part]] == list(range(count))
            assert all(part.start % 2 == 0 for part in pieces)
            assert len(pieces) <= passes
    assert _pieces(0, 4) == [slice(0, 0)]


def test_one_process_is_a_team_without_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    team = open_team(device="cpu", precision="float32", accumulate=1)
    assert type(team) is Team
    assert (team.rank, team.size, team.leads) == (0, 1, True)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("ACCELERATE_MIXED_PRECISION", "bf16", "mixed precision 'bf16'.*set precision='bfloat16'"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "4 gradient accum.*set accumulate=4"),
    ],
)
def test_a_launcher_that_wants_something_else(
    name: str, value: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=text):
        open_team(device="cpu", precision="float32", accumulate=1)
