"""The bench commands."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

bench = typer.Typer(no_args_is_help=True, help="Measure.")


@bench.command()
def handoff(
    fleet: Annotated[Path, typer.Option(help="Fleet file.")] = Path("deploy/local/demo.yaml"),
    requests: Annotated[int, typer.Option(help="Prompts, each sent to both.")] = 24,
    seed: Annotated[int, typer.Option(help="Of the prompts.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Argosy against a bare pair of vLLM engines with the same connector, interleaved.

    Example: argosy bench handoff --json
    """
    from argosy.bench.handoff.handoff import run_handoff

    asyncio.run(run_handoff(fleet, requests, seed, as_json=json))


@bench.command()
def stagger(
    trace: Annotated[
        Path | None, typer.Option(help="Draw lengths from it; else from built-in quantiles.")
    ] = None,
    requests: Annotated[int, typer.Option(help="For each policy at each load.")] = 2000,
    slo_ttft: Annotated[float, typer.Option(help="Objective for TTFT, ms.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of lengths and arrivals.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Staggered batches against immediate dispatch, from a tenth of capacity to beyond it.

    Example: argosy bench stagger --requests 500
    """
    from argosy.bench.router.stagger import run_stagger

    run_stagger(trace, requests, slo_ttft, seed, as_json=json)


@bench.command()
def index(
    decisions: Annotated[int, typer.Option(help="Prompts placed, at each size of fleet.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of prompts and blocks.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """The router's decision and its prefix index: 8,192-token prompts, 16 and 256 instances.

    Example: argosy bench index --json
    """
    from argosy.bench.router.prefix_index import run_index

    run_index(decisions, seed, as_json=json)


@bench.command()
def router(
    seed: Annotated[int, typer.Option(help="Of the prompts and their arrivals.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """The router against an empty gRPC server and an empty relay, at 200 and 500 requests/s.

    Example: argosy bench router --json
    """
    from argosy.bench.router.router import run_router

    asyncio.run(run_router(seed, as_json=json))


@bench.command()
def kv(
    trace: Annotated[Path, typer.Option(help="Whose prompts share prefixes: Mooncake's format.")],
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What the KV store's eviction policies find again, from 0.5 to 20 M tokens.

    Example: argosy bench kv --trace conversation_trace.jsonl
    """
    from argosy.bench.kv.eviction import run_kv

    run_kv(trace, as_json=json)


@bench.command()
def turns(
    fleet: Annotated[Path, typer.Option(help="Fleet file with a kvStore.")] = Path(
        "deploy/local/demo-store.yaml"
    ),
    conversations: Annotated[int, typer.Option(min=1, help="Held one beside the other.")] = 3,
    turns: Annotated[int, typer.Option(min=2, help="Of each conversation.")] = 6,
    seed: Annotated[int, typer.Option(help="Of the prompts.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Conversations whose instances are restarted between turns, with and without a KV store.

    Example: argosy bench turns --json
    """
    from argosy.bench.kv.conversations import run_turns

    asyncio.run(run_turns(fleet, conversations, turns, seed, as_json=json))


@bench.command()
def kvpath(
    rounds: Annotated[int, typer.Option(min=2, help="Of each measurement.")] = 30,
    seed: Annotated[int, typer.Option(help="Of the blocks.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Put and get of a KV store against a bare NIXL copy, and its SSD tier against plain reads.

    Example: argosy bench kvpath --json
    """
    from argosy.bench.kv.kv_transfer import run_kvpath

    asyncio.run(run_kvpath(rounds, seed, as_json=json))


@bench.command()
def sleep(
    fleet: Annotated[Path, typer.Option(help="Fleet file with a kvStore.")] = Path(
        "deploy/local/demo-sleep.yaml"
    ),
    engine: Annotated[str, typer.Option(help="vllm, or sim: in virtual time.")] = "vllm",
    profile: Annotated[str, typer.Option(help="Timing of the sim engine.")] = "trillion",
    cycles: Annotated[int, typer.Option(min=10, help="To sleep and back.")] = 50,
    seed: Annotated[int, typer.Option(help="Of prompts and moments.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """To sleep and back again and again: what it takes, what it frees, what is kept.

    Example: argosy bench sleep --engine sim --profile trillion
    """
    if engine == "sim":
        from argosy.bench.sleep.sleep_sim import run_sleep_sim

        run_sleep_sim(profile, as_json=json)
    elif engine == "vllm":
        from argosy.bench.sleep.sleep import run_sleep

        asyncio.run(run_sleep(fleet, cycles, seed, as_json=json))
    else:
        raise typer.BadParameter("there are vllm and sim", param_hint="--engine")


@bench.command()
def kvtrouble(
    requests: Annotated[int, typer.Option(min=10, help="To each fleet.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the prompts.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What callers notice of a KV store that is stopped, gone or full.

    Example: argosy bench kvtrouble --json
    """
    from argosy.bench.kv.kv_faults import run_kvtrouble

    asyncio.run(run_kvtrouble(requests, seed, as_json=json))


@bench.command()
def forecast(
    trace: Annotated[Path, typer.Option(help="Rates (offset_s,req_per_s) or requests.")],
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """The autoscaler's forecasts against what came, and against simpler ones.

    Example: argosy bench forecast --trace aggregate_rate.csv
    """
    from argosy.bench.scaling.forecast import run_forecast

    run_forecast(trace, as_json=json)


@bench.command()
def scale(
    scenario: Annotated[str | None, typer.Option(help="ramp: llm-d's, 2 to 10 to 1.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Instead: rates (offset_s,req_per_s) or requests.")
    ] = None,
    lengths: Annotated[
        Path | None, typer.Option(help="Trace whose lengths rates are given.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=2, help="Most used at once, both roles. [8; traces: 32]")
    ] = None,
    warm_up_s: Annotated[float, typer.Option(min=0, help="Until a new one serves.")] = 100,
    wake_s: Annotated[
        float, typer.Option(min=0, help="Until one that sleeps serves; only argosy lets any.")
    ] = 6,
    timing: Annotated[str | None, typer.Option(help="A profile's name or YAML file.")] = None,
    slo_ttft: Annotated[float, typer.Option(min=1, help="Milliseconds.")] = 2000,
    slo_tpot: Annotated[float, typer.Option(min=1, help="Milliseconds.")] = 50,
    policies: Annotated[str | None, typer.Option(help="Some of all, with commas.")] = None,
    seed: Annotated[int, typer.Option(help="Of arrivals and lengths.")] = 1,
    plot: Annotated[Path | None, typer.Option(help="Draw instances into this SVG file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Scaling policies side by side: who kept the promise, with how many instances.

    All have the same callers, profile, SLO, warm-up and budget, and begin with what the first
    minutes need. `argosy` keeps those it does not need asleep, and wakes them in --wake-s (6 s: the
    slowest that is published of vLLM's first level); `argosy_cold` lets none sleep. Instances that
    start, wake or drain count as used. The ramp is llm-d's, with its stages (2, 4, 6, 8, 10, 4, 1
    requests/s; 41 minutes) and lengths (4,000 / 1,000 tokens)
    times 1.8, so that the built-in profile needs as much of 8 instances as its H100s did; it
    runs request by request on the router's own core, and as flows to tell how far these err.
    Traces run at the rate whose peak asks 85 % of what --replicas can do (a factor on the rate;
    time stays), as flows where they have more than 40,000 requests. Rates without --lengths
    have lognormal ones, mean 12,035 / 343 tokens before prompts are cut at 65,536. `oracle`
    knows the future and aims at 99 % within the SLO.

    Example: argosy bench scale --scenario ramp
    """
    # Slow to import, and only whoever measures needs them.
    from argosy.bench.scaling.scaling import run_scale
    from argosy.domain.demand import Slo
    from argosy.sim.scaling.experiment import ScaleOptions, policy_names

    if (scenario is None) == (trace is None) or scenario not in (None, "ramp"):
        raise typer.BadParameter("write --scenario ramp, or --trace FILE", param_hint="--scenario")
    known = policy_names()
    chosen = known if policies is None else policies.split(",")
    if unknown := [name for name in chosen if name not in known]:
        raise typer.BadParameter(
            f"no {', '.join(unknown)}: there are {', '.join(known)}", param_hint="--policies"
        )
    if plot is not None and plot.suffix != ".svg":
        hint = plot.with_suffix(".svg")
        raise typer.BadParameter(f"the picture is SVG: write --plot {hint}", param_hint="--plot")
    options = ScaleOptions(
        trace,
        lengths,
        replicas or (8 if trace is None else 32),
        warm_up_s,
        wake_s,
        timing,
        Slo(slo_ttft, slo_tpot),
        chosen,
        seed,
    )
    run_scale(options, as_json=json, plot=plot)


@bench.command()
def plan(
    quick: Annotated[bool, typer.Option("--quick", help="A few of the cases.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """The autoscaler: how long a plan takes, and how near its model is to the simulator.

    One plan of 64 + 64 instances for 4 hours of minutes, and TTFT p90 in closed form against
    `argosy sim` for 120 fleets, which takes a quarter of an hour; --quick: for 6.

    Example: argosy bench plan --quick
    """
    from argosy.bench.scaling.planner import run_plan

    run_plan(quick=quick, as_json=json)
