"""The plan commands, and why."""

from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from argosy.cli import console
from argosy.cli.options import FleetOption, HomeOption, JsonOption, TimingOption
from argosy.launcher.home import HOME, find_running

REPLICAS = 32
"""A trace is scaled to this: large enough that one instance more or less matters little."""

plan = typer.Typer(
    no_args_is_help=True,
    help="Give the autoscaler operational plans, and simulate it.\n\nExample: argosy plan list",
)

PlansOption = Annotated[
    list[str] | None,
    typer.Option("--plan", help="An operational plan. The option can be repeated."),
]


@plan.command()
def add(
    text: Annotated[str, typer.Argument(help="When, and how many instances: see the examples.")],
    name: Annotated[
        str, typer.Option(help="A name to remove it by. Default: made from the text.")
    ] = "",
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Add an operational plan. Its times are in the time zone of the fleet.

    Examples of plans: `weekdays 08:00-18:00 at least 4 prefill`, `2026-12-24 18:00-23:00 at most
    2 decode`, `drain rack 3 at 02:00 for 2h` and `no scale-down until Monday`.

    Example: argosy plan add "Friday 20:00-23:00 at least 6" --name friday
    """
    from argosy.cli.plan.show import add as add_plan

    console.run(add_plan(find_running(home, fleet)[1], text, name, as_json=json))


@plan.command("list")
def list_plans(
    home: HomeOption = HOME, fleet: FleetOption = None, json: JsonOption = False
) -> None:
    """Show all operational plans, including those of the fleet file, and when each holds next.

    Example: argosy plan list
    """
    from argosy.cli.plan.show import show_plans

    console.run(show_plans(find_running(home, fleet)[1], as_json=json))


@plan.command()
def remove(
    name: Annotated[str, typer.Argument(help="The name that `argosy plan list` shows.")],
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Remove an operational plan.

    Example: argosy plan remove friday
    """
    from argosy.cli.plan.show import remove as remove_plan

    console.run(remove_plan(find_running(home, fleet)[1], name, as_json=json))


@plan.command()
def simulate(
    trace: Annotated[
        Path | None, typer.Option(help="Rates (offset_s,req_per_s as CSV) or a trace of requests.")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Instead: the requests that the running fleet got.")
    ] = False,
    days: Annotated[
        float, typer.Option(min=0.01, help="Days of history to take, the latest.")
    ] = 14,
    lengths: Annotated[
        Path | None, typer.Option(help="Take the lengths for rates from this trace of requests.")
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(min=2, help="Instances at most, both roles. [32; history: as the fleet]"),
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Policies to compare, separated by commas.")
    ] = "argosy",
    warm_up_s: Annotated[
        float, typer.Option(min=0, help="Seconds until a new instance serves.")
    ] = 100,
    wake_s: Annotated[
        float,
        typer.Option(min=0, help="Seconds until a sleeping instance serves. Only argosy uses it."),
    ] = 6,
    plans: PlansOption = None,
    timezone: Annotated[str, typer.Option(help="Time zone of the plans.")] = "UTC",
    timing: TimingOption = None,
    slo_ttft: Annotated[float, typer.Option(min=1, help="TTFT objective in milliseconds.")] = 2000,
    slo_tpot: Annotated[float, typer.Option(min=1, help="TPOT objective in milliseconds.")] = 50,
    seed: Annotated[int, typer.Option(help="Seed of arrivals and lengths.")] = 1,
    plot: Annotated[Path | None, typer.Option(help="Draw the run into this SVG file.")] = None,
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Simulate the autoscaler on a trace, or on the history of the running fleet.

    The autoscaler's own core decides, in virtual time; requests are simulated as flows. A trace
    is scaled so that its peak needs --replicas, and begins on a Monday at midnight. History runs
    at its own rate, with lengths of the same mean and spread.

    Example: argosy plan simulate --trace rates.csv --plan "Friday 20:00-23:00 at least 6"
    """
    check_source(trace, history=history)
    if plot is not None and plot.suffix != ".svg":
        hint = plot.with_suffix(".svg")
        raise typer.BadParameter(f"the picture is SVG: write --plot {hint}", param_hint="--plot")
    check_zone(timezone)
    # Slow to import, so only when the command runs.
    from argosy.cli.plan.simulate import chosen, run_simulation
    from argosy.cli.plan.source import fleet_source, trace_source
    from argosy.domain.demand import Slo
    from argosy.sim.scaling.experiment import ScaleOptions

    slo, policies = Slo(slo_ttft, slo_tpot), chosen(policy)
    if trace is not None:
        source = trace_source(trace, lengths, replicas or REPLICAS, timing, slo, seed)
    else:
        source = console.run(fleet_source(find_running(home, fleet)[1], days, replicas, seed))
    options = ScaleOptions(
        trace, lengths, source.replicas, warm_up_s, wake_s, timing, slo, policies, seed
    )
    run_simulation(options, source, plans or [], timezone, as_json=json, plot=plot)


def check_source(trace: Path | None, *, history: bool) -> None:
    """Check that there is one source. Raises typer.BadParameter."""
    if (trace is None) != history:
        raise typer.BadParameter("write --trace FILE, or --history", param_hint="--trace")


def check_zone(name: str) -> None:
    """Check that the time zone exists. Raises typer.BadParameter."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        message = f"no time zone {name}: write such as Europe/Berlin or UTC"
        raise typer.BadParameter(message, param_hint="--timezone") from error


def why(
    decision: Annotated[
        str,
        typer.Argument(
            metavar="[ID]", help="A decision's id or the beginning of it. Default: the last."
        ),
    ] = "",
    home: HomeOption = HOME,
    fleet: FleetOption = None,
    json: JsonOption = False,
) -> None:
    """Explain a decision of the autoscaler, and the alternatives it rejected.

    Example: argosy why
    """
    from argosy.cli.plan.why import why as explain

    console.run(explain(find_running(home, fleet)[1], decision, as_json=json))
