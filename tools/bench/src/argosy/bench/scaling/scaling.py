"""Scaling policies side by side: the same callers, profile, promise, warm-up and budget."""

import time
from pathlib import Path
from typing import Any

import msgspec

from argosy.cli.console import err, fail, out
from argosy.cli.plan.comparison import RunBars, show
from argosy.domain.demand import Demand, Machine
from argosy.engine.profile_files import load_profile
from argosy.sim.scaling import oracle
from argosy.sim.scaling.experiment import EVENT_REQUESTS, Experiment, ScaleOptions, experiment_of
from argosy.sim.scaling.policies.registry import at_peak
from argosy.sim.scaling.result import ScalingResult
from argosy.sim.scaling.scenarios import Scenario, ramp_work, trace_work
from argosy.sim.traces.trace import TraceError


def run_scale(options: ScaleOptions, *, as_json: bool, plot: Path | None) -> None:
    """Run every policy and report."""
    profile = load_profile(options.timing)
    machine = Machine(tokens_per_step=profile.tokens_per_step)
    began = time.perf_counter()
    try:
        if options.trace is None:
            work = ramp_work(options.seed)
        else:
            work = trace_work(
                options.trace,
                options.lengths,
                options.replicas,
                profile,
                machine,
                options.slo,
                options.seed,
                EVENT_REQUESTS,
            )
    except (TraceError, OSError) as error:
        fail(str(error))
    with RunBars(err) as runs:
        bench = experiment_of(options, work, profile, runs)
        flow = {name: bench.run(name, event=False) for name in options.policies}
        event = (
            {name: bench.run(name, event=True) for name in options.policies} if work.exact else {}
        )
    report = _report(options, work, bench, flow, event)
    report["wall_s"] = round(time.perf_counter() - began, 1)
    if plot is not None:
        from argosy.bench.scaling.scaling_plot import plot_scale

        plot_scale(work, event or flow, options.replicas, plot)
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        show(out, report)


def _report(
    options: ScaleOptions,
    work: Scenario,
    bench: Experiment,
    flow: dict[str, ScalingResult],
    event: dict[str, ScalingResult],
) -> dict[str, Any]:
    best = event or flow
    report: dict[str, Any] = {
        "workload": {
            "source": work.source,
            "factor": round(work.factor, 6),
            "lengths": work.lengths,
            "requests": round(work.load.requests),
            "span_s": work.load.span_s,
            "mean": _words(work.mean),
            "peak": _words(work.peak),
        },
        "timing": options.timing or "dynamo-mocker",
        "slo": {"ttft_ms": options.slo.ttft_ms, "tpot_ms": options.slo.tpot_ms},
        "replicas": options.replicas,
        "warm_up_s": options.warm_up_s,
        "wake_s": options.wake_s,
        "initial": bench.given.initial,
        "at_peak": at_peak(bench.given),
        "seed": options.seed,
        "world": "event" if event else "flow",
        "policies": {name: result.figures() for name, result in best.items()},
    }
    if bench.factors:
        report["oracle"] = {"target": oracle.TARGET, "factors": bench.factors}
    if event:
        report["flow"] = {name: result.figures() for name, result in flow.items()}
        report["flow_error"] = {
            name: {
                "attainment": round(flow[name].attainment - result.attainment, 5),
                "instance_hours": round(flow[name].instance_hours / result.instance_hours - 1, 4),
            }
            for name, result in event.items()
        }
    return report


def _words(demand: Demand) -> dict[str, float]:
    return {name: round(value, 3) for name, value in msgspec.to_builtins(demand).items()}
