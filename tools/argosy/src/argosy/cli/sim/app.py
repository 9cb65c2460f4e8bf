"""The sim command's options, checked before anything slow begins."""

from pathlib import Path
from typing import Annotated

import typer

from argosy.sim.traces.trace import TraceFormat


def sim(
    trace: Annotated[Path, typer.Option(help="Who arrives when: a trace file.")],
    trace_format: Annotated[
        TraceFormat | None, typer.Option("--format", help="Of the trace; else guessed.")
    ] = None,
    aggregated: Annotated[int, typer.Option(min=0, help="Instances that do both.")] = 0,
    prefill: Annotated[int, typer.Option(min=0, help="Prefill instances; needs --decode.")] = 0,
    decode: Annotated[int, typer.Option(min=0, help="Decode instances; needs --prefill.")] = 0,
    flexible: Annotated[int, typer.Option(min=0, help="Instances whose role Argosy chooses.")] = 0,
    dp: Annotated[int, typer.Option(min=1, help="Data-parallel ranks of an instance.")] = 1,
    kv_tokens: Annotated[int, typer.Option(min=1, help="KV cache of a rank.")] = 1_048_576,
    block_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a KV block.")] = 64,
    store_dram_tokens: Annotated[
        int, typer.Option(min=0, help="DRAM of a KV store shared by all; 0: there is none.")
    ] = 0,
    store_ssd_tokens: Annotated[int, typer.Option(min=0, help="SSD of that store.")] = 0,
    idle_sleep_after: Annotated[
        float, typer.Option(min=0, help="Seconds idle until all sleep; 0: nobody ever does.")
    ] = 0,
    sleep_level: Annotated[str, typer.Option(help="Weights meanwhile: dram or disk.")] = "dram",
    policy: Annotated[str, typer.Option(help="Who decides where requests go.")] = "argosy",
    timing: Annotated[str | None, typer.Option(help="A profile's name or YAML file.")] = None,
    speedup: Annotated[float, typer.Option(min=0.001, help="Arrivals so much denser.")] = 1.0,
    slo_ttft: Annotated[float | None, typer.Option(help="Milliseconds to aim at.")] = None,
    slo_itl: Annotated[float | None, typer.Option(help="Milliseconds to aim at.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything left to chance.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw TTFT into this SVG file.")] = None,
) -> None:
    """Serve a trace in virtual time: the router's own decisions, simulated engines.

    Example: argosy sim --trace conversation_trace.jsonl --prefill 6 --decode 10 --speedup 6
    """
    check_shape(aggregated, prefill, decode, flexible)
    check_policy(policy)
    if store_ssd_tokens and not store_dram_tokens:
        raise typer.BadParameter(
            "what comes from SSD goes through DRAM: add --store-dram-tokens 3000000",
            param_hint="--store-ssd-tokens",
        )
    if idle_sleep_after and flexible:
        raise typer.BadParameter(
            "write --aggregated or --prefill and --decode: flexible ones stay up",
            param_hint="--idle-sleep-after",
        )
    if sleep_level not in ("dram", "disk"):
        raise typer.BadParameter("weights stay in dram or on disk", param_hint="--sleep-level")
    if plot is not None and plot.suffix != ".svg":
        hint = plot.with_suffix(".svg")
        raise typer.BadParameter(f"the picture is SVG: write --plot {hint}", param_hint="--plot")
    # Slow to import, and only whoever simulates needs them.
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
        slo_ttft_ms=slo_ttft,
        slo_itl_ms=slo_itl,
        seed=seed,
        store_dram_tokens=store_dram_tokens,
        store_ssd_tokens=store_ssd_tokens,
        idle_sleep_us=round(1e6 * idle_sleep_after),
        sleep_level=sleep_level,
    )
    show_sim(SimOptions(trace, trace_format, speedup, fleet), as_json=json, plot_path=plot)


def check_shape(aggregated: int, prefill: int, decode: int, flexible: int) -> None:
    """Exactly one kind of fleet, and a whole one; else typer.BadParameter says what to write."""
    if prefill and not decode:
        raise typer.BadParameter(
            f"prefill without decode answers nobody: write --prefill {prefill} --decode {prefill}"
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
            "nobody serves: write --aggregated 16, or --prefill 6 --decode 10, or --flexible 16"
        )
    if len(chosen) > 1:
        raise typer.BadParameter(f"a fleet has one shape: write either {' or '.join(chosen)}")


def check_policy(name: str) -> None:
    """Known to the router; else typer.BadParameter lists those that are."""
    from argosy.router.core.placement.policies import POLICIES

    if name not in POLICIES:
        known = ", ".join(sorted(POLICIES))
        raise typer.BadParameter(f"no policy '{name}': write one of {known}", param_hint="--policy")
