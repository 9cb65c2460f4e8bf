"""The bench commands."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

bench = typer.Typer(no_args_is_help=True, help="Measure.")


@bench.callback()
def group() -> None:
    """Keeps `handover` a command of its own while it is the only one."""


@bench.command()
def handover(
    fleet: Annotated[Path, typer.Option(help="Fleet file.")] = Path("deploy/local/demo.yaml"),
    requests: Annotated[int, typer.Option(help="Prompts, each sent to both.")] = 24,
    seed: Annotated[int, typer.Option(help="Of the prompts.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Argosy against a bare pair of vLLM engines with the same connector, interleaved.

    Example: argosy bench handover --json
    """
    from argosy.cli.bench.handover import run_handover

    asyncio.run(run_handover(fleet, requests, seed, as_json=json))
