"""Every Python snippet of the README and the docs runs; every command shown exists.

A page is run as one script: its blocks share a namespace, in a new temporary folder. A block
below ``<!-- no-run: reason -->`` is skipped; a text block below ``<!-- prints -->`` must equal
what the Python block before it printed.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from markdown_blocks import Block, blocks

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = {"bash", "sh", "shell", "console"}


def label(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run_page(text: str, *, name: str, capture: pytest.CaptureFixture[str]) -> int:
    """Run the Python blocks of a page and return how many ran."""
    namespace: dict[str, Any] = {"__name__": "__snippet__"}
    ran = 0
    printed: str | None = None
    capture.readouterr()
    for block in blocks(text):
        if block.language == "python" and block.no_run is None:
            padding = "\n" * (block.line - 1)  # so that a traceback shows the page's line numbers
            exec(compile(padding + block.code, name, "exec"), namespace)
            printed = capture.readouterr().out
            ran += 1
        elif block.prints:
            assert printed is not None, f"{name}:{block.line}: no Python block ran before this"
            assert printed == block.code, f"{name}:{block.line}: it printed\n{printed}"
    return ran


def runnable(page: Path) -> bool:
    found = blocks(page.read_text(encoding="utf-8"))
    return any(block.language == "python" and block.no_run is None for block in found)


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=label)
def test_python_of(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(page.read_text(encoding="utf-8"), name=label(page), capture=capsys)


def commands(page: Path) -> list[tuple[str, int]]:
    """Return each ``neuronym …`` command line of a page's shell blocks, with its line number."""
    found = []
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language in SHELL:
            joined = block.code.replace("\\\n", " ")
            found += [
                (line.strip().removeprefix("$ "), block.line)
                for line in joined.splitlines()
                if line.strip().removeprefix("$ ").startswith("neuronym ")
            ]
    return found


def complaint(command: str) -> str | None:
    """Say what of a command line the application does not know, or ``None``."""
    import typer

    from neuronym.cli.app import app

    words = shlex.split(command, comments=True)[1:]
    group: Any = typer.main.get_command(app)
    if not words:
        return "no command"
    target = group if words[0].startswith("-") else group.commands.get(words[0])
    if target is None:
        return f"there is no command {words[0]!r}"
    known = {option for item in target.params for option in (*item.opts, *item.secondary_opts)}
    given = {word.split("=")[0] for word in words if word.startswith("-") and len(word) > 1}
    unknown = given - known - {"-h", "--help"}
    return f"unknown options {sorted(unknown)}" if unknown else None


def test_commands_that_are_shown_exist() -> None:
    shown = [(page, line, command) for page in PAGES for command, line in commands(page)]
    assert shown, "the README shows no command"
    wrong = [
        f"{label(page)}:{line}: {command}: {what}"
        for page, line, command in shown
        if (what := complaint(command)) is not None
    ]
    assert not wrong, "\n".join(wrong)


def test_a_command_that_is_wrong_is_found() -> None:
    assert complaint("neuronym") == "no command"
    assert complaint("neuronym dmo --out x") == "there is no command 'dmo'"
    assert complaint("neuronym demo --ouput=x") == "unknown options ['--ouput']"
    assert complaint("neuronym demo --out x  # comment --nothing") is None
    assert complaint("neuronym --version") is None


def test_pages_are_found() -> None:
    assert {"README.md", "docs/vision_text.md", "docs/errors.md"} <= {label(page) for page in PAGES}


# The reader of pages itself


PAGE = """
# Title

```python
value = 1
```

Text with `code` and ```three ticks``` in a line.

<!-- no-run: needs the moon -->

```python
raise SystemExit
```

<!-- no-run: does not count, text follows -->
And a paragraph.

1. A list

   ~~~python title="x"
   if value:
       value += 1
   ~~~

```bash
neuronym demo
```

<!-- prints -->
```text
out
```
"""


def test_blocks_of_a_page() -> None:
    found = blocks(PAGE)
    assert [block.language for block in found] == ["python", "python", "python", "bash", "text"]
    assert [block.no_run for block in found] == [None, "needs the moon", None, None, None]
    assert found[2] == Block("python", "if value:\n    value += 1\n", 22, None, False)
    assert [block.prints for block in found] == [False, False, False, False, True]
    lines = PAGE.splitlines()
    assert all(lines[block.line - 1].strip() in block.code for block in found)


def test_page_that_is_wrong() -> None:
    with pytest.raises(ValueError, match="line 1: the fence ``` is not closed"):
        blocks("```python\nvalue = 1\n")
    with pytest.raises(ValueError, match="line 2: no-run gives no reason"):
        blocks("<!-- no-run: -->\n```python\n```\n")


def test_blocks_share_a_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    page = "```python\na = 1\n```\n```python\nprint(a + 1)\n```\n<!-- prints -->\n```text\n2\n```\n"
    assert run_page(page, name="page", capture=capsys) == 2


def test_a_snippet_that_fails_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        run_page("# Page\n\n```python\na = 1\na / 0\n```\n", name="page.md", capture=capsys)
    assert raised.traceback[-1].lineno + 1 == 5
    wrong = "```python\nprint(1)\n```\n<!-- prints -->\n```text\n2\n```\n"
    with pytest.raises(AssertionError, match=r"page:6: it printed\n\s*1"):
        run_page(wrong, name="page", capture=capsys)
