"""The sim command: it reads a trace and prints a report."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich.progress import Progress

from argosy.cli import console
from argosy.cli.sim.table import table_of
from argosy.sim.fleet.simulation import simulate
from argosy.sim.fleet.spec import SimFleet
from argosy.sim.reports.plot import plot
from argosy.sim.reports.report import report_of, rest_of
from argosy.sim.traces.formats import TraceFormat
from argosy.sim.traces.trace import TraceError, read_trace

BAR_AFTER_S = 1.0
"""Runs shorter than this show no progress bar."""
BAR_STEP_S = 0.1


@dataclass(frozen=True)
class SimOptions:
    """What to simulate."""

    trace: Path
    trace_format: TraceFormat | None
    speedup: float
    fleet: SimFleet


class Bar:
    """A progress bar on stderr, which appears in long runs only."""

    def __init__(self) -> None:
        self._progress = Progress(console=console.err, transient=True)
        self._task = self._progress.add_task("simulating", total=None)
        self._next_s = time.monotonic() + BAR_AFTER_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # One that never started would still end its line.
        if self._progress.live.is_started:
            self._progress.stop()

    def __call__(self, ended: int, total: int) -> None:
        """`ended` of `total` requests have ended. Cheap enough to be called for each."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + BAR_STEP_S
        self._progress.update(self._task, completed=ended, total=total)
        self._progress.start()


def show_sim(options: SimOptions, *, as_json: bool, plot_path: Path | None) -> None:
    """Simulate, print the report, draw the picture if there is a path for it.

    Ends with a message and exit code 1 where the trace cannot be read or the picture written.
    """
    fleet = options.fleet
    try:
        trace = read_trace(options.trace, options.trace_format, fleet.block_tokens, options.speedup)
    except TraceError as error:
        console.fail(str(error))
    began_s = time.monotonic()
    with Bar() as bar:
        simulated = simulate(trace, fleet, bar)
    report = report_of(
        simulated.outcomes,
        slo_ttft_ms=fleet.slo.ttft_ms,
        slo_itl_ms=fleet.slo.tpot_ms,
        instance_seconds=simulated.instance_seconds,
        virtual_us=simulated.virtual_us,
        wall_s=time.monotonic() - began_s,
    )
    if fleet.idle_sleep_us:
        report["rest"] = rest_of(simulated.sleep_records)
    # Before the picture: where that cannot be written, the run was not for nothing.
    if as_json:
        print(json.dumps(report), flush=True)
    else:
        console.out.print(table_of(report))
    if plot_path is not None:
        try:
            plot(simulated.outcomes, plot_path, title_of(options), fleet.slo.ttft_ms)
        except OSError as error:
            console.fail(f"cannot write the picture {plot_path}: {error.strerror}")


def title_of(options: SimOptions) -> str:
    """The title of the picture: what was simulated."""
    fleet = options.fleet
    counts = {
        "aggregated": fleet.aggregated,
        "prefill": fleet.prefill,
        "decode": fleet.decode,
        "flexible": fleet.flexible,
    }
    shape = " + ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{options.trace.name} at {options.speedup:g}×: {shape}, {fleet.policy}"
