"""The commands that measure the router."""

from pathlib import Path
from typing import Annotated

import typer

from argosy.bench.options import JsonOption, PromptSeedOption
from argosy.cli import console


def router(seed: PromptSeedOption = 1, json: JsonOption = False) -> None:
    """Compare the router's CPU time and latency with an empty gRPC server and an empty relay.

    All get the same load, at 200 and at 500 requests per second.

    Example: argosy bench router --json
    """
    from argosy.bench.router.router import run_router

    console.run(run_router(seed, as_json=json))


def stagger(
    trace: Annotated[
        Path | None,
        typer.Option(help="Take the lengths from this trace instead of built-in quantiles."),
    ] = None,
    requests: Annotated[int, typer.Option(help="Requests for each policy at each load.")] = 2000,
    slo_ttft: Annotated[float, typer.Option(help="The TTFT objective in milliseconds.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of lengths and arrivals.")] = 1,
    json: JsonOption = False,
) -> None:
    """Compare staggered batches with immediate dispatch, in virtual time.

    The load goes from a tenth of capacity to beyond it.

    Example: argosy bench stagger --requests 500
    """
    from argosy.bench.router.stagger import run_stagger

    run_stagger(trace, requests, slo_ttft, seed, as_json=json)


def index(
    decisions: Annotated[int, typer.Option(help="Prompts to place in each fleet.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of prompts and blocks.")] = 1,
    json: JsonOption = False,
) -> None:
    """Measure a routing decision and the prefix index, for fleets of 16 and 256 instances.

    The prompts have 8,192 tokens.

    Example: argosy bench index --json
    """
    from argosy.bench.router.prefix_index import run_index

    run_index(decisions, seed, as_json=json)
