"""The plan commands, and why."""

import asyncio
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from argosy.launcher.home import HOME, find_running

REPLICAS = 32

plan = typer.Typer(no_args_is_help=True, help="Tell the autoscaler what is to come; try it out.")

HomeOption = Annotated[Path, typer.Option("--home", help="Where fleets keep their things.")]
FleetOption = Annotated[str | None, typer.Option("--fleet", help="Which fleet, if several are up.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
PlansOption = Annotated[
    list[str] | None, typer.Option("--plan", help="An operational plan; may be given again.")
]


@plan.command()
def add(
    text: Annotated[str, typer.Argument(help="When, and how many; see the examples.")],
    name: Annotated[str, typer.Option(help="To remove it by; else made from the text.")] = "",
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Let an operational plan hold; times are of the fleet's time zone.

    Plans are such as `weekdays 08:00-18:00 at least 4 prefill`, `2026-12-24 18:00-23:00 at most
    2 decode`, `drain rack 3 at 02:00 for 2h` and `no scale-down until Monday`.

    Example: argosy plan add "Friday 20:00-23:00 at least 6" --name friday
    """
    from argosy.cli.plan.show import add as add_plan

    asyncio.run(add_plan(find_running(home, fleet)[1], text, name, as_json=json))


@plan.command("list")
def list_plans(
    home: HomeOption = HOME, fleet: FleetOption = None, json: JsonOption = False
) -> None:
    """Show operational plans, those of the fleet file too, and when they hold next.

    Example: argosy plan list
    """
    from argosy.cli.plan.show import show_plans

    asyncio.run(show_plans(find_running(home, fleet)[1], as_json=json))


@plan.command()
def remove(
    name: Annotated[str, typer.Argument(help="As `argosy plan list` shows it.")],
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Let a plan hold no more. Example: argosy plan remove friday"""
    from argosy.cli.plan.show import remove as remove_plan

    asyncio.run(remove_plan(find_running(home, fleet)[1], name, as_json=json))


@plan.command()
def simulate(
    trace: Annotated[
        Path | None, typer.Option(help="Rates (offset_s,req_per_s) or requests.")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Instead: what the running fleet was asked.")
    ] = False,
    days: Annotated[float, typer.Option(min=0.01, help="Of history, the latest.")] = 14,
    lengths: Annotated[
        Path | None, typer.Option(help="Trace whose lengths rates are given.")
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(min=2, help="Most used at once, both roles. [32; history: the fleet's]"),
    ] = None,
    policy: Annotated[str, typer.Option(help="Others beside argosy, with commas.")] = "argosy",
    warm_up_s: Annotated[float, typer.Option(min=0, help="Until a new one serves.")] = 100,
    wake_s: Annotated[
        float, typer.Option(min=0, help="Until one that sleeps serves; only argosy lets any.")
    ] = 6,
    plans: PlansOption = None,
    timezone: Annotated[str, typer.Option(help="Of plans' times.")] = "UTC",
    timing: Annotated[str | None, typer.Option(help="A profile's name or YAML file.")] = None,
    slo_ttft: Annotated[float, typer.Option(min=1, help="Milliseconds.")] = 2000,
    slo_tpot: Annotated[float, typer.Option(min=1, help="Milliseconds.")] = 50,
    seed: Annotated[int, typer.Option(help="Of arrivals and lengths.")] = 1,
    plot: Annotated[Path | None, typer.Option(help="Draw how it went into this SVG file.")] = None,
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """What the autoscaler would do on a trace, or on what a running fleet was asked.

    It is the autoscaler's own core, in virtual time, on requests as flows (see `argosy bench
    scale`). A trace runs at the rate whose peak needs --replicas and begins on a Monday at
    midnight; history runs as it was, with lengths of the same mean and spread.

    Example: argosy plan simulate --trace rates.csv --plan "Friday 20:00-23:00 at least 6"
    """
    check_source(trace, history=history)
    if plot is not None and plot.suffix != ".svg":
        hint = plot.with_suffix(".svg")
        raise typer.BadParameter(f"the picture is SVG: write --plot {hint}", param_hint="--plot")
    check_zone(timezone)
    # Slow to import, and only whoever simulates needs them.
    from argosy.cli.plan.simulate import chosen, run_simulation
    from argosy.cli.plan.source import fleet_source, trace_source
    from argosy.domain.demand import Slo
    from argosy.sim.scaling.experiment import ScaleOptions

    slo, policies = Slo(slo_ttft, slo_tpot), chosen(policy)
    if trace is not None:
        source = trace_source(trace, lengths, replicas or REPLICAS, timing, slo, seed)
    else:
        source = asyncio.run(fleet_source(find_running(home, fleet)[1], days, replicas, seed))
    options = ScaleOptions(
        trace, lengths, source.replicas, warm_up_s, wake_s, timing, slo, policies, seed
    )
    run_simulation(options, source, plans or [], timezone, as_json=json, plot=plot)


def check_source(trace: Path | None, *, history: bool) -> None:
    """One of them; else typer.BadParameter says what to write."""
    if (trace is None) != history:
        raise typer.BadParameter("write --trace FILE, or --history", param_hint="--trace")


def check_zone(name: str) -> None:
    """One there is; else typer.BadParameter says what to write."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f"no time zone {name}: write such as Europe/Berlin or UTC"
        raise typer.BadParameter(message, param_hint="--timezone") from error


def why(
    decision: Annotated[
        str, typer.Argument(metavar="[ID]", help="Of a decision, or its beginning; none: the last.")
    ] = "",
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Why the autoscaler decided what it did, and what else it could have done.

    Example: argosy why
    """
    from argosy.cli.plan.why import why as explain

    asyncio.run(explain(find_running(home, fleet)[1], decision, as_json=json))
