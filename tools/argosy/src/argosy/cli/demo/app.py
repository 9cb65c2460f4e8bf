"""The command that shows everything once."""

from typing import Annotated

import typer

from argosy.cli import console
from argosy.cli.options import JsonOption


def demo(
    engine: Annotated[
        str, typer.Option(help="vllm serves a real model; sim needs neither vLLM nor a model.")
    ] = "vllm",
    json: JsonOption = False,
) -> None:
    """Start a fleet, hold a conversation, kill a decode instance, show a trace, stop the fleet.

    Example: argosy demo --engine sim
    """
    from argosy.cli.demo.run import run_demo

    raise typer.Exit(0 if console.run(run_demo(engine, as_json=json)) else 1)
