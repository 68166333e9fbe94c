"""``neuronym bench``: speed and memory against the usual twins."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["bench"]


def bench(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The benchmark: lwta, dissect, explain.")
    ],
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Turns of each contestant; the median counts.")
    ] = 7,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of torch.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure ratios against dense and naive twins, all in one process (memory: one each)."""
    from neuronym.benchmarks import run

    found = run(name, rounds=rounds, threads=threads)
    if as_json:
        import json

        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        typer.echo(str(found))
