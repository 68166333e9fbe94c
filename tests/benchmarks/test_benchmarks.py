"""The benchmark's machinery, on small cases: ratios, verdicts, memory of a process."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch

from neuronym import benchmarks
from neuronym.benchmarks import dissect, explain, lwta, memory, registry
from neuronym.benchmarks.result import Row, race
from neuronym.cli import main
from neuronym.errors import InputError, MissingError, NeuronymError, UnknownNameError


def test_rows_say_whether_the_target_is_met() -> None:
    slow = Row.at_most("case", {"ours": 4.0, "gelu": 1.0}, "gelu", 3.0)
    assert (slow.ratio, slow.met, slow.target) == (4.0, False, "at most 3 x gelu")
    fast = Row.faster("case", {"ours": 2.0, "gelu": 3.0}, "gelu", 1.4)
    assert (fast.ratio, fast.met) == (1.5, True)


def test_a_race_takes_medians_and_warms_up() -> None:
    ticks = iter(range(100))
    calls: list[str] = []
    times = race(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        3,
        clock=lambda: float(next(ticks)),
    )
    assert times == {"a": 1e3, "b": 1e3}
    assert calls == ["a", "b"] * 4


def test_layers_and_blocks_are_measured() -> None:
    for row in (lwta.training_step(1), lwta.search(1), lwta.block(1, 48, 192, 24, 1.2)):
        assert row.ratio > 0
        assert {"ours", "gelu"} <= set(row.measured)


def test_naming_is_measured_and_equals_the_loop() -> None:
    sizes = dissect.Sizes(units=6, images=200, concepts=50, dim=8)
    for measure in (dissect.soft_from_scores, dissect.soft_from_embeddings, dissect.reorder):
        row = measure(1, sizes)
        assert row.ratio > 0
        assert {"ours"} < set(row.measured)
        if "equal to" in row.note:
            assert float(row.note.split()[3]) < 1e-3
    assert set(registry.BENCHMARKS) == {"lwta", "dissect", "explain"}


def test_an_explanation_is_measured_beside_its_twins() -> None:
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.ReLU(), torch.nn.Flatten()
    )
    case = explain.case_of("small", net, (3, 16, 16))
    assert [site.units for site in case.atlas.sites] == [8]
    late, early, naive = explain.compare(case, 1)
    assert late.ratio == late.measured["ours"] / late.measured["forward + backward"] > 0
    assert early.measured["ours"] > 0
    assert set(naive.measured) == {"ours", "ablation"}
    assert " winners" in naive.case


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    threads: list[int] = []

    def rows(rounds: int) -> list[Row]:
        threads.append(torch.get_num_threads())
        return [Row.at_most("a case", {"ours": 1.0, "gelu": 2.0}, "gelu", float(rounds))]

    monkeypatch.setitem(registry.BENCHMARKS, "lwta", rows)
    before = torch.get_num_threads()
    assert main(["bench", "lwta", "--rounds", "3", "--threads", "1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["ratio"], row["target"], row["met"]) == (0.5, "at most 3 x gelu", True)
    assert main(["bench", "lwta", "--threads", "1"]) == 0
    assert "ratio 0.50 (at most 7 x gelu: met)" in capsys.readouterr().out
    assert threads == [1, 1]
    assert torch.get_num_threads() == before
    assert main(["bench", "lwat"]) == 2
    assert "lwta" in capsys.readouterr().err


def test_bad_input() -> None:
    with pytest.raises(UnknownNameError, match="lwta"):
        benchmarks.run("lwat")
    with pytest.raises(InputError, match="rounds must be an int of at least 1, not 0"):
        benchmarks.run("lwta", rounds=0)


@pytest.mark.skipif(not memory.available(), reason="this system does not tell the peak")
def test_the_memory_of_a_process_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = memory.of_training_step("test_vit", competitors=8, batch=1, threads=1)
    assert 1 < peak < 2000
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(NeuronymError, match="the measurement of test_vit failed"):
        memory.of_training_step("test_vit", competitors=None, batch=1, threads=1)
    monkeypatch.setattr(memory, "available", lambda: False)
    with pytest.raises(MissingError, match="is not there"):
        memory.of_training_step("test_vit", competitors=None, batch=1, threads=1)
