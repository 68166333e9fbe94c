"""The command line: bad input gets one line and status 2, and loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuronym import __version__
from neuronym.cli import main


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail and return its one line."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("neuronym: ")
    return lines[0]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"neuronym {__version__}\n"


@pytest.mark.parametrize(
    "command",
    ["demo", "train", "head", "dissect", "explain", "report", "export", "bench", "fit-pocket"],
)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert command in capsys.readouterr().out


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "disect")
    assert "Did you mean 'dissect'?" in line


def test_a_missing_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out" in refused(capsys, "demo")


def test_an_output_folder_with_other_files_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "thesis.tex"
    kept.write_text("years of work")
    line = refused(capsys, "demo", "--out", str(tmp_path), "--overwrite", "--quiet")
    assert "files that are not a neuronym run" in line
    assert kept.read_text() == "years of work"


def test_an_output_folder_of_another_run_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from neuronym.files import output_folder

    output_folder(tmp_path / "run", kind="atlas")
    line = refused(capsys, "demo", "--out", str(tmp_path / "run"), "--overwrite", "--quiet")
    assert "holds a run of 'atlas'" in line


def test_demo_keeps_an_earlier_run_where_the_new_request_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from neuronym.files import output_folder, write_manifest

    folder = output_folder(tmp_path / "run", kind="demo")
    write_manifest(folder, kind="demo", schema=1)
    command = ("demo", "--out", str(folder), "--overwrite", "--quiet", "--scenes", "200")
    assert "seed must be" in refused(capsys, *command, "--seed", "-1")
    assert (folder / "manifest.json").is_file()


def test_train_says_what_is_missing_or_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("train", "--data", "scenes:200", "--out", str(tmp_path / "out"))
    small = ("--model", "neuronym.models.small:mlp")
    assert "--model" in refused(capsys, *common)
    assert "competitors must be given" in refused(capsys, *common, *small)
    assert "dense=True" in refused(capsys, *common, *small, "--competitors", "1")
    assert "Did you mean" in refused(
        capsys, *common, *small, "--competitors", "8", "--set", "augmnt=none"
    )
    assert "NAME=VALUE" in refused(capsys, *common, *small, "--dense", "--set", "augment")
    assert "do not divide" in refused(capsys, *common, *small, "--competitors", "7", "--quiet")
    assert "scenes" in refused(capsys, *common, "--preset", "scnes")


def test_explain_and_report_want_a_finished_atlas(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "nowhere")
    assert "does not exist" in refused(capsys, "explain", "--atlas", missing, "--image", "a.jpg")
    (tmp_path / "unfinished").mkdir()
    line = refused(
        capsys, "report", "--atlas", str(tmp_path / "unfinished"), "--out", str(tmp_path / "page")
    )
    assert "not a finished atlas folder" in line
    assert not (tmp_path / "page").exists()


def test_dissect_names_what_is_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(**changed: str) -> str:
        options = {
            "model": "pocket:efficientnet_lite0",
            "images": "scenes:20",
            "sites": "blocks.6*",
            "out": str(tmp_path / "atlas"),
            "concepts": "attributes",
        } | changed
        flat = [text for name, value in options.items() for text in (f"--{name}", value)]
        return refused(capsys, "dissect", *flat, "--quiet")

    (tmp_path / "empty").mkdir()
    assert "no image" in run(images=str(tmp_path / "empty"))
    (tmp_path / "empty.txt").write_text("\n \n")
    assert "hold no word" in run(concepts=str(tmp_path / "empty.txt"))
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    assert "UTF-8" in run(concepts=str(tmp_path / "latin.txt"))
    assert "nearest" in run(sites="blokcs.6")
    assert "Did you mean 'cosine'" in run(similarity="cosin")
    assert "efficientnet_lite0" in run(model="pocket:efficientnet_lite9")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    assert "is not the configuration" in run(model=str(tmp_path / "weights"))
    assert not (tmp_path / "atlas" / "manifest.json").exists()
