"""A run of the autoscaler in one picture: demand and forecast, instances, and the promise kept."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from argosy.cli.plan.scaler import iso
from argosy.cli.plan.source import Source
from argosy.cli.plan.watch import PlotSample
from argosy.sim.reports.plot import STYLE
from argosy.sim.scaling.policies.argosy_autoscaler import ForecastPoint
from argosy.sim.scaling.result import ScalingResult
from argosy.sim.scaling.workload import Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPAN_S = 60.0
SPANS_MAX = 500
"""More is more than a screen shows."""
HOUR_S = 3600.0
STATES = {
    "prefill awake": "#e08214",
    "decode awake": "#2b7bba",
    "starting or draining": "#999999",
    "silent": "#e8e8e8",
}
DEMAND_COLOUR, FORECAST_COLOUR = "#444444", "#7b3294"
LINES = ("--", "-.", ":")


def plot_run(
    source: Source,
    budget: int,
    moments: Sequence[PlotSample],
    foreseen: Sequence[ForecastPoint],
    results: dict[str, ScalingResult],
    path: Path,
) -> None:
    """The same run gives the same file. Raises OSError when it cannot be written."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    name, result = next(iter(results.items()))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 8), layout="constrained")
        figure.suptitle(
            f"{source.scenario.source}: {name}, {100 * result.attainment:.2f} % within the SLO, "
            f"{result.instance_hours:,.1f} instance-hours"
        )
        demand, instances, kept = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
        ends = span_ends(moments)
        _draw_demand(demand, ends, moments, foreseen)
        _draw_instances(instances, moments, budget, results)
        _draw_kept(kept, ends)
        for axes in (demand, instances):
            axes.legend(ncols=6, loc="lower left", bbox_to_anchor=(0, 1), handlelength=1.2)
        kept.set_xlabel(f"hours since {iso(source.began_us)}")
        figure.savefig(path, format="svg", dpi=150, metadata={"Date": None})


def span_ends(moments: Sequence[PlotSample]) -> list[PlotSample]:
    """About every minute, or less often where that would be too many."""
    if not moments:
        return []
    span_s = max(SPAN_S, moments[-1].at_s / SPANS_MAX)
    found, next_s = [moments[0]], moments[0].at_s + span_s
    for moment in moments:
        if moment.at_s >= next_s:
            found.append(moment)
            next_s = moment.at_s + span_s
    return found


def middles_h(ends: Sequence[PlotSample]) -> list[float]:
    """Of the spans between, in hours."""
    return [(one.at_s + other.at_s) / 2 / HOUR_S for one, other in pairwise(ends)]


def rate(ends: Sequence[PlotSample]) -> Numbers:
    """Requests per second of each span."""
    arrived = np.diff([moment.arrived for moment in ends])
    passed: Numbers = np.diff([moment.at_s for moment in ends])
    return np.asarray(arrived / passed, dtype=np.float64)


def kept_share(ends: Sequence[PlotSample]) -> Numbers:
    """Of what ended in each span, the share within the SLO; nan where nothing did."""
    finished = np.diff([moment.finished for moment in ends])
    attained = np.diff([moment.attained for moment in ends])
    found = np.full(len(finished), np.nan)
    np.divide(attained, finished, out=found, where=finished > 0)
    return found


def _draw_demand(
    axes: "Axes",
    ends: Sequence[PlotSample],
    moments: Sequence[PlotSample],
    foreseen: Sequence[ForecastPoint],
) -> None:
    axes.set_ylabel("requests/s")
    every = foreseen[:: max(1, len(foreseen) // SPANS_MAX)]
    until_s = moments[-1].at_s if moments else 0.0
    shown = [ahead for ahead in every if ahead.at_s <= until_s]
    hours = [ahead.at_s / HOUR_S for ahead in shown]
    means, uppers = [a.mean for a in shown], [a.upper for a in shown]
    axes.plot(hours, means, color=FORECAST_COLOUR, linewidth=1, label="forecast, one lead before")
    axes.fill_between(
        hours,
        means,
        uppers,
        color=FORECAST_COLOUR,
        alpha=0.2,
        linewidth=0,
        label="its 90 % quantile",
    )
    axes.plot(middles_h(ends), rate(ends), color=DEMAND_COLOUR, linewidth=1, label="demand")
    axes.set_ylim(bottom=0)


def _draw_instances(
    axes: "Axes", moments: Sequence[PlotSample], budget: int, results: dict[str, ScalingResult]
) -> None:
    axes.set_ylabel("instances")
    shown = moments[:: max(1, len(moments) // (4 * SPANS_MAX))]
    hours = [moment.at_s / HOUR_S for moment in shown]
    layers = [[m.prefill for m in shown], [m.decode for m in shown], [m.moving for m in shown]]
    layers.append([max(0, budget - m.prefill - m.decode - m.moving) for m in shown])
    axes.stackplot(hours, layers, labels=list(STATES), colors=list(STATES.values()), step="post")
    for number, (name, result) in enumerate(list(results.items())[1:]):
        samples = result.samples[:: max(1, len(result.samples) // (4 * SPANS_MAX))]
        axes.step(
            [sample.at_s / HOUR_S for sample in samples],
            [sample.used for sample in samples],
            where="post",
            color="black",
            linewidth=1,
            linestyle=LINES[number % len(LINES)],
            label=f"{name}, used",
        )
    axes.set_ylim(0, budget)


def _draw_kept(axes: "Axes", ends: Sequence[PlotSample]) -> None:
    axes.set_ylabel("within the SLO")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.plot(middles_h(ends), kept_share(ends), color="#1a9850", linewidth=1)
    axes.set_ylim(top=1.0)
