"""Each equation that the docs map to code has that code, and has that test."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "equations.md"
FUNCTION = re.compile(r"neuronym(?:\.\w+)+")
TEST = re.compile(r"(tests/[\w/]+\.py)::(\w+(?:::\w+)?)")


def cells(line: str) -> list[str]:
    """Return the cells of a table row; a pipe inside a cell is written ``\\|``."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def rows(text: str) -> list[tuple[int, list[str]]]:
    """Return the body rows of a page's tables whose header ends with function and test."""
    found: list[tuple[int, list[str]]] = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if not line.lstrip().startswith("|"):
            inside = False
            continue
        row = cells(line)
        if [name.lower() for name in row[-2:]] == ["function", "test"]:
            inside = True
        elif inside and set(line) - set("|:- \t"):
            found.append((number, row))
    return found


def exists(dotted: str) -> bool:
    """Whether a dotted path leads to something: its longest module, then attributes of that."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if not _is_module(module):
            continue
        found: object = importlib.import_module(module)
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a parent is not a package
        return False


def has_test(path: Path, name: str) -> bool:
    """Whether a test file defines ``name``, or ``Class::name``."""
    nodes: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    for part in name.split("::"):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        match = [node for node in nodes if isinstance(node, kinds) and node.name == part]
        if not match:
            return False
        nodes = match[0].body
    return name.split("::")[-1].startswith("test")


def problems(text: str) -> list[str]:
    """Return what the tables of a page promise and does not exist."""
    wrong = []
    for number, row in rows(text):
        functions, tests = FUNCTION.findall(row[-2]), TEST.findall(row[-1])
        if not functions or not tests:
            wrong.append(f"line {number}: a row needs a dotted function and tests/FILE.py::NAME")
        missing = [dotted for dotted in functions if not exists(dotted)]
        wrong += [f"line {number}: {dotted} does not exist" for dotted in missing]
        for file, name in tests:
            path = ROOT / file
            if not path.is_file() or not has_test(path, name):
                wrong.append(f"line {number}: there is no test {file}::{name}")
    return wrong


TOLD = (
    *("winner probabilities", "straight-through", "divergence", "loss", "bias", "temperature"),
    *("cosine:", "cosine cubed", "rank reorder", "WPMI:", "SoftWPMI", "Jensen-Shannon", "AUROC"),
    *("image winner", "contribution", "completeness error", "p-value", "active fraction"),
)
"""What the design promises a row for."""


def test_every_function_and_test_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    equations = [row[0] for _, row in rows(text)]
    assert not [word for word in TOLD if not any(word in each for each in equations)]
    assert not problems(text), "\n".join(problems(text))


HEADER = "| equation | function | test |\n|---|---|---|\n"
GOOD = "| `a \\| b` | `neuronym.files.fingerprint`, `neuronym.results.Atlas.load` | {} |\n"
HERE = "`tests/docs/test_equations.py::test_what_is_missing_is_found`"


def test_a_good_row_passes() -> None:
    text = HEADER + GOOD.format(HERE)
    assert len(rows(text)) == 1
    assert len(rows(text)[0][1]) == 3
    assert problems(text) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD.format("later"), "line 3: a row needs a dotted function and tests/FILE"),
        (
            GOOD.format("tests/docs/test_equations.py::test_x"),
            "there is no test tests/docs/test_eq",
        ),
        (GOOD.format("tests/docs/none.py::test_x"), "there is no test tests/docs/none.py::test_x"),
        (GOOD.format("tests/docs/test_equations.py::problems"), "there is no test"),
        (f"| a | neuronym.files.nothing | {HERE} |", "neuronym.files.nothing does not exist"),
        (f"| a | neuronym.nothing.at_all | {HERE} |", "neuronym.nothing.at_all does not exist"),
    ],
)
def test_what_is_missing_is_found(row: str, message: str) -> None:
    found = problems(HEADER + row)
    assert len(found) == 1
    assert message in found[0]
