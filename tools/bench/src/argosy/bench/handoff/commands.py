"""The command that measures the handoff from prefill to decode."""

from pathlib import Path
from typing import Annotated

import typer

from argosy.bench.options import JsonOption, PromptSeedOption
from argosy.cli import console


def handoff(
    fleet: Annotated[Path, typer.Option(help="The fleet file to measure.")] = Path(
        "deploy/local/demo.yaml"
    ),
    requests: Annotated[int, typer.Option(help="How many prompts each side gets.")] = 24,
    seed: PromptSeedOption = 1,
    json: JsonOption = False,
) -> None:
    """Compare TTFT with that of a bare pair of vLLM engines with the same connector.

    The two serve the same prompts in turn.

    Example: argosy bench handoff --json
    """
    from argosy.bench.handoff.handoff import run_handoff

    console.run(run_handoff(fleet, requests, seed, as_json=json))
