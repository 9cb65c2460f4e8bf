"""The command that measures sleep and wake."""

from pathlib import Path
from typing import Annotated

import typer

from argosy.bench.options import JsonOption, StoreFleetOption
from argosy.cli import console


def sleep(
    fleet: StoreFleetOption = Path("deploy/local/demo-sleep.yaml"),
    engine: Annotated[
        str, typer.Option(help="vllm measures real engines; sim runs in virtual time.")
    ] = "vllm",
    profile: Annotated[
        str, typer.Option(help="The timing profile of the sim engine.")
    ] = "trillion",
    cycles: Annotated[int, typer.Option(min=10, help="How often to sleep and wake.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of prompts and times.")] = 1,
    json: JsonOption = False,
) -> None:
    """Measure how long sleep and wake take, what memory they free, and what context they keep.

    Example: argosy bench sleep --engine sim --profile trillion
    """
    if engine == "sim":
        from argosy.bench.sleep.sleep_sim import run_sleep_sim

        run_sleep_sim(profile, as_json=json)
    elif engine == "vllm":
        from argosy.bench.sleep.sleep import run_sleep

        console.run(run_sleep(fleet, cycles, seed, as_json=json))
    else:
        raise typer.BadParameter(f"no engine '{engine}': write vllm or sim", param_hint="--engine")
