"""The commands that measure the autoscaler."""

from pathlib import Path
from typing import Annotated

import typer

from argosy.bench.options import JsonOption

DEFAULT_RAMP_REPLICAS, DEFAULT_TRACE_REPLICAS = 8, 32
"""llm-d's ramp was measured on at most 8 instances; traces of a day need room above their peak."""


def forecast(
    trace: Annotated[
        Path, typer.Option(help="Rates (offset_s,req_per_s as CSV) or a trace of requests.")
    ],
    json: JsonOption = False,
) -> None:
    """Compare the autoscaler's forecasts with what came, and with simpler forecasts.

    Example: argosy bench forecast --trace aggregate_rate.csv
    """
    from argosy.bench.scaling.forecast import run_forecast

    run_forecast(trace, as_json=json)


def plan(
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure 6 fleets instead of 120.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Measure how long a plan takes, and how near the capacity model is to the simulator.

    The plan is for 64 + 64 instances and 4 hours of minutes. TTFT p90 in closed form is compared
    with `argosy sim` for 120 fleets, which takes a quarter of an hour.

    Example: argosy bench plan --quick
    """
    from argosy.bench.scaling.planner import run_plan

    run_plan(quick=quick, as_json=json)


def scale(
    scenario: Annotated[
        str | None, typer.Option(help="ramp: llm-d's load, from 2 to 10 to 1 requests/s.")
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="Instead: rates (offset_s,req_per_s as CSV) or a trace of requests."),
    ] = None,
    lengths: Annotated[
        Path | None, typer.Option(help="Take the lengths for rates from this trace of requests.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=2, help="Instances at most, both roles. [8; traces: 32]")
    ] = None,
    warm_up_s: Annotated[
        float, typer.Option(min=0, help="Seconds until a new instance serves.")
    ] = 100,
    wake_s: Annotated[
        float,
        typer.Option(min=0, help="Seconds until a sleeping instance serves. Only argosy uses it."),
    ] = 6,
    timing: Annotated[
        str | None, typer.Option(help="A timing profile: its name or a YAML file.")
    ] = None,
    slo_ttft: Annotated[float, typer.Option(min=1, help="TTFT objective in milliseconds.")] = 2000,
    slo_tpot: Annotated[float, typer.Option(min=1, help="TPOT objective in milliseconds.")] = 50,
    policies: Annotated[
        str | None, typer.Option(help="Compare these, separated by commas, instead of all.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of arrivals and lengths.")] = 1,
    plot: Annotated[Path | None, typer.Option(help="Draw instances into this SVG file.")] = None,
    json: JsonOption = False,
) -> None:
    """Compare scaling policies: which keeps the SLO, and with how many instances.

    All policies get the same requests, profile, SLO, warm-up and budget, and begin with the
    instances that the first minutes need. `argosy` puts instances it does not need to sleep and
    wakes them in --wake-s (6 s is the slowest wake published for vLLM's first sleep level);
    `argosy_cold` stops them. `oracle` knows the future and aims at 99 % within the SLO.
    Instances that start, wake or drain count as used.

    The ramp is llm-d's: stages of 2, 4, 6, 8, 10, 4 and 1 requests/s in 41 minutes. Its lengths
    (4,000 / 1,000 tokens) are multiplied by 1.8, so that the built-in profile needs as much of 8
    instances as llm-d's H100s did. It is simulated request by request with the router's own
    core, and as flows, too, to tell how far these err.

    A trace is scaled so that its peak needs 85 % of what --replicas can do. One with more than
    40,000 requests is simulated as flows. Rates without --lengths get lognormal lengths with
    means of 12,035 / 343 tokens; prompts are cut at 65,536.

    Example: argosy bench scale --scenario ramp
    """
    # Slow to import, so only when the command runs.
    from argosy.bench.scaling.scaling import run_scale
    from argosy.domain.demand import Slo
    from argosy.sim.scaling.experiment import ScaleOptions

    if (scenario is None) == (trace is None) or scenario not in (None, "ramp"):
        raise typer.BadParameter("write --scenario ramp, or --trace FILE", param_hint="--scenario")
    if plot is not None and plot.suffix != ".svg":
        hint = plot.with_suffix(".svg")
        raise typer.BadParameter(f"the picture is SVG: write --plot {hint}", param_hint="--plot")
    default_replicas = DEFAULT_RAMP_REPLICAS if trace is None else DEFAULT_TRACE_REPLICAS
    options = ScaleOptions(
        trace,
        lengths,
        replicas or default_replicas,
        warm_up_s,
        wake_s,
        timing,
        Slo(slo_ttft, slo_tpot),
        chosen_policies(policies),
        seed,
    )
    run_scale(options, as_json=json, plot=plot)


def chosen_policies(names: str | None) -> list[str]:
    """The named scaling policies; else typer.BadParameter lists those that there are."""
    from argosy.sim.scaling.experiment import policy_names

    known = policy_names()
    chosen = list(known) if names is None else names.split(",")
    if unknown := [name for name in chosen if name not in known]:
        raise typer.BadParameter(
            f"no policy {', '.join(unknown)}: write some of {', '.join(known)}",
            param_hint="--policies",
        )
    return chosen
