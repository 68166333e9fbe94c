"""The application: its commands, and how errors become one line and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from neuronym._version import __version__
from neuronym.cli.ablate import ablate
from neuronym.cli.audit import audit
from neuronym.cli.bench import bench
from neuronym.cli.demo import demo
from neuronym.cli.dissect import dissect
from neuronym.cli.evaluate import evaluate
from neuronym.cli.explain import explain
from neuronym.cli.export import export
from neuronym.cli.fit_pocket import fit_pocket
from neuronym.cli.head import head
from neuronym.cli.record import merge, record
from neuronym.cli.report import report
from neuronym.cli.search import search
from neuronym.cli.train import train
from neuronym.errors import NeuronymError, nearest

__all__ = ["app", "main"]

_EXIT_FAILED = 1
_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130
# typer carries click in newer versions and imports it in older ones: reach its base classes
# through the exception that both publish.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="neuronym",
    help="Every neuron gets a name: make vision networks compete, and say what each neuron does.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS = (
    *(demo, train, head, record, merge, dissect),
    *(explain, search, ablate, audit, evaluate, report, export, bench),
)
for command in _COMMANDS:
    app.command()(command)
app.command("fit-pocket")(fit_pocket)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"neuronym {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


def _say(line: str) -> None:
    text = " ".join(str(line).split())
    typer.echo(f"neuronym: {text}", err=True)


def _usage_text(error: Exception) -> str:
    text: str = error.format_message()  # type: ignore[attr-defined]
    if text.startswith("No such command"):
        given = text.split("'")[1] if "'" in text else ""
        known = [info.name or info.callback.__name__ for info in app.registered_commands]  # type: ignore[union-attr]
        close = nearest(given, known, count=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"{text} Known: {', '.join(known)}.{hint}"
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Returns:
        0 only when the work was done, 2 for bad input (after one line on standard error), 1 where
        the machine refused (a full disk, a folder without permission), 130 when interrupted.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    command = typer.main.get_command(app)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = command.main(given, prog_name="neuronym", standalone_mode=False)
    except NeuronymError as error:
        _say(str(error))
        return _EXIT_BAD_INPUT
    except _ClickError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message())  # type: ignore[attr-defined]
        else:
            _say(_usage_text(error))
        return _EXIT_BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted; finished stages are kept")
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f" {str(error.filename)!r}" if error.filename else ""
        _say(f"the system refused{where}: {error.strerror or error}")
        return _EXIT_FAILED
    return status if isinstance(status, int) else 0
