"""The sim command. Its options are checked before anything slow begins."""

from pathlib import Path
from typing import Annotated

import typer

from argosy.cli.options import JsonOption, TimingOption
from argosy.domain.demand import Slo
from argosy.domain.errors import ArgosyError
from argosy.sim.traces.formats import TraceFormat

SLO = Slo()


def sim(
    trace: Annotated[Path, typer.Option(help="The trace file: requests with times and lengths.")],
    trace_format: Annotated[
        TraceFormat | None,
        typer.Option("--format", help="Format of the trace. Default: by its first line."),
    ] = None,
    aggregated: Annotated[
        int, typer.Option(min=0, help="Number of instances that prefill and decode.")
    ] = 0,
    prefill: Annotated[
        int, typer.Option(min=0, help="Number of prefill instances; needs --decode.")
    ] = 0,
    decode: Annotated[
        int, typer.Option(min=0, help="Number of decode instances; needs --prefill.")
    ] = 0,
    flexible: Annotated[
        int, typer.Option(min=0, help="Number of instances whose role the router chooses.")
    ] = 0,
    dp: Annotated[int, typer.Option(min=1, help="Data-parallel ranks of each instance.")] = 1,
    kv_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens that the KV cache of a rank holds.")
    ] = 1_048_576,
    block_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a KV block.")] = 64,
    store_dram_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens in DRAM of a shared KV store; 0: there is none.")
    ] = 0,
    store_ssd_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens on SSD of the shared KV store.")
    ] = 0,
    idle_sleep_after: Annotated[
        float, typer.Option(min=0, help="Seconds idle until instances sleep; 0: they never do.")
    ] = 0,
    sleep_level: Annotated[
        str, typer.Option(help="Where weights of sleeping instances stay: dram or disk.")
    ] = "dram",
    policy: Annotated[str, typer.Option(help="The router's placement policy.")] = "least_cost",
    timing: TimingOption = None,
    speedup: Annotated[
        float, typer.Option(min=0.001, help="Factor on the rate of arrivals.")
    ] = 1.0,
    slo_ttft: Annotated[
        float, typer.Option(min=1, help="TTFT objective in milliseconds, for router and report.")
    ] = SLO.ttft_ms,
    slo_itl: Annotated[
        float, typer.Option(min=1, help="TPOT objective in milliseconds, for router and report.")
    ] = SLO.tpot_ms,
    ttft_limit: Annotated[
        float,
        typer.Option(
            min=0, help="Refuse requests that would wait longer, in milliseconds; 0: never."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    json: JsonOption = False,
    plot: Annotated[Path | None, typer.Option(help="Draw TTFT into this SVG file.")] = None,
) -> None:
    """Serve a trace in virtual time, with the router's own core and simulated engines.

    Example: argosy sim --trace conversation_trace.jsonl --prefill 6 --decode 10 --speedup 6
    """
    check_shape(aggregated, prefill, decode, flexible)
    check_policy(policy)
    if store_ssd_tokens and not store_dram_tokens:
        raise typer.BadParameter(
            "a store with SSD needs DRAM, too: add --store-dram-tokens 3000000",
            param_hint="--store-ssd-tokens",
        )
    if idle_sleep_after and flexible:
        raise typer.BadParameter(
            "flexible instances cannot sleep: write --aggregated, or --prefill and --decode",
            param_hint="--idle-sleep-after",
        )
    if sleep_level not in ("dram", "disk"):
        raise typer.BadParameter("weights stay in dram or on disk", param_hint="--sleep-level")
    if plot is not None and plot.suffix != ".svg":
        hint = plot.with_suffix(".svg")
        raise typer.BadParameter(f"the picture is SVG: write --plot {hint}", param_hint="--plot")
    # Slow to import, so only when the command runs.
    from argosy.cli.sim.show import SimOptions, show_sim
    from argosy.engine.profile_files import load_profile
    from argosy.sim.fleet.spec import SimFleet

    fleet = SimFleet(
        aggregated=aggregated,
        prefill=prefill,
        decode=decode,
        flexible=flexible,
        dp_ranks=dp,
        kv_tokens=kv_tokens,
        block_tokens=block_tokens,
        policy=policy,
        profile=load_profile(timing),
        slo=Slo(slo_ttft, slo_itl),
        ttft_limit_ms=ttft_limit,
        seed=seed,
        store_dram_tokens=store_dram_tokens,
        store_ssd_tokens=store_ssd_tokens,
        idle_sleep_us=round(1e6 * idle_sleep_after),
        sleep_level=sleep_level,
    )
    show_sim(SimOptions(trace, trace_format, speedup, fleet), as_json=json, plot_path=plot)


def check_shape(aggregated: int, prefill: int, decode: int, flexible: int) -> None:
    """Check that the fleet has one kind, and all of it. Raises typer.BadParameter."""
    if prefill and not decode:
        raise typer.BadParameter(
            f"prefill instances alone cannot answer: write --prefill {prefill} --decode {prefill}"
        )
    if decode and not prefill:
        raise typer.BadParameter(
            f"decode without prefill has nothing to decode: write --prefill {decode} "
            f"--decode {decode}, or --aggregated {decode}"
        )
    shapes = {
        f"--aggregated {aggregated}": aggregated,
        f"--prefill {prefill} --decode {decode}": prefill,
        f"--flexible {flexible}": flexible,
    }
    chosen = [text for text, count in shapes.items() if count]
    if not chosen:
        raise typer.BadParameter(
            "the fleet is empty: write --aggregated 16, --prefill 6 --decode 10, or --flexible 16"
        )
    if len(chosen) > 1:
        raise typer.BadParameter(f"a fleet has one shape: write either {' or '.join(chosen)}")


def check_policy(name: str) -> None:
    """Check that such a policy is installed. Raises typer.BadParameter, which lists them."""
    from argosy.router import policies

    try:
        policies.check_policy(name)
    except ArgosyError as error:
        raise typer.BadParameter(error.message, param_hint="--policy") from None
