"""Forecasts against what came, walking forward through a trace in virtual time.

Forecasters see a slot, say what is to come at every horizon, and are scored when it came:
WAPE is the sum of absolute errors over the sum of values. The first four sevenths (8 days of
14) are for learning; all that follows is scored, every window, those of outages and gaps in
collection too: a trace cannot tell them from zero traffic, and neither can an autoscaler.
Prophet is fitted anew every 6 hours, from two days on, on all that was seen by then.

A trace that only has offsets is taken to begin at midnight. coverage: the share of scored
slots that were not above the 90 % quantile. gain_from_3h: how much lower Argosy's WAPE is
than the last value's, at the horizon of 3 hours or more where it is least.
"""

import json
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.table import Table

from argosy.bench.scaling.forecast_trace import read_series
from argosy.bench.scaling.forecast_walk import OURS, RIVALS, fit_all, report_of, walk
from argosy.cli import console
from argosy.sim.traces.trace import TraceError


def run_forecast(trace: Path, *, as_json: bool) -> None:
    """Fit, walk, and report."""
    try:
        series = read_series(trace)
    except TraceError as error:
        console.fail(str(error))
    if len(series.values) < 2:
        console.fail(f"{trace} is shorter than two slots of {series.slot_s} s")
    with Progress(console=console.err, transient=True) as progress:
        task = progress.add_task("fitting Prophet", total=None)
        paths = fit_all(series, lambda done, of: progress.update(task, completed=done, total=of))
        progress.add_task("walking forward", total=None)
        scores = walk(series, paths)
    report = {"trace": trace.name, **report_of(series, scores)}
    if as_json:
        print(json.dumps(report))
    else:
        show(report)


def show(report: dict[str, Any]) -> None:
    """A row for each horizon, and the figures."""
    table = Table(box=None, title=f"WAPE on {report['trace']}, slots of {report['slot_s']} s")
    for name in ("ahead", OURS, *RIVALS, "coverage", "n"):
        table.add_column(name, justify="right")
    for row in report["horizons"]:
        table.add_row(
            _ahead(row["minutes"]),
            *(_share(row["wape"][name]) for name in (OURS, *RIVALS)),
            _share(row["coverage"]),
            str(row["n"]),
        )
    console.out.print(table)
    console.out.print(
        f"never_above_last: {report['never_above_last']}; "
        f"gain_from_3h: {_share(report['gain_from_3h'])}"
    )


def _ahead(minutes: float) -> str:
    return f"{minutes / 60:g} h" if minutes >= 60 else f"{minutes:g} min"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
