"""The ladder of the design: imports only go down, and the command line starts light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "neuronym"

# Rung of every module directly below the package. An import may only go to a lower rung, or
# stay inside its own module. Rung 0 may import `errors`, which is open to all.
LADDER = {
    "cli": 7,
    "report": 6,
    "benchmarks": 6,
    "evaluate": 5,
    "dissect": 4,
    "audit": 4,
    "explain": 4,
    "intervene": 4,
    "train": 3,
    "embed": 2,
    "fit_pocket": 3,
    "search": 3,
    "record": 2,
    "models": 2,
    "lwta": 1,
    "concepts": 1,
    "probes": 1,
    "similarity": 1,
    "vision_text": 1,
    "results": 1,
    "devices": 0,
    "modes": 0,
    "activity": 0,
    "calls": 0,
    "channels": 0,
    "false_discovery": 0,
    "files": 0,
    "masks": 0,
    "priority": 0,
    "spread": 0,
    "store": 0,
    "errors": -1,
    "_version": -1,
}
ALSO = {("audit", "explain"), ("audit", "intervene")}  # of one rung, and allowed by the design
FORBIDDEN = {  # module -> outside packages that it must not import, anywhere in it
    "results": {"torch", "torchvision", "timm"},
    "report": {"torch", "torchvision", "timm"},
}
ONLY_IN_VISION_TEXT = {"open_clip", "transformers"}


def top_modules() -> list[str]:
    found = {path.stem for path in SOURCE.glob("*.py")} | {
        path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()
    }
    return sorted(found - {"__init__", "__main__"})


def imports_of(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def files_of(module: str) -> list[Path]:
    single = SOURCE / f"{module}.py"
    return [single] if single.is_file() else sorted((SOURCE / module).rglob("*.py"))


def test_every_module_has_a_rung() -> None:
    assert set(top_modules()) == set(LADDER)


@pytest.mark.parametrize("module", sorted(LADDER))
def test_imports_go_down(module: str) -> None:
    wrong = []
    for path in files_of(module):
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] != "neuronym" or len(parts) == 1:
                continue
            target = parts[1] if parts[1] in LADDER else "_version"
            if target == module or (module, target) in ALSO:
                continue
            if LADDER[target] >= LADDER[module]:
                wrong.append(f"{path.name}: {module} (rung {LADDER[module]}) imports {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", sorted(LADDER))
def test_outside_imports(module: str) -> None:
    banned = set(FORBIDDEN.get(module, ()))
    if module != "vision_text":
        banned |= ONLY_IN_VISION_TEXT
    wrong = [
        f"{path.name}: {name}"
        for path in files_of(module)
        for name in imports_of(path)
        if name.split(".")[0] in banned
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.name)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 420


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.name)
def test_functions_stay_short(path: Path) -> None:
    """Docstrings do not count; a command of the command line may be as long as its options."""
    if "cli" in path.relative_to(SOURCE).parts:
        return
    long = [f"{name}: {lines} lines" for name, lines in bodies(path) if lines > 60]
    assert not long, f"{path}: {', '.join(long)}"


def bodies(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function's name and the lines of its body without the docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_bodies_are_measured_without_the_docstring(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('def one():\n    """Text.\n\n    More.\n    """\n    a = 1\n    return a\n')
    assert list(bodies(path)) == [("one", 2)]


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["dissect", "--help"]])
def test_help_is_light(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from neuronym.cli import main\n"
        f"sys.argv = ['neuronym', *{arguments!r}]\n"
        "assert main() == 0\n"
        "heavy = {'torch', 'timm', 'transformers', 'numba', 'pyarrow', 'sklearn'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_is_light() -> None:
    code = "import neuronym, sys; assert not {'torch', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
