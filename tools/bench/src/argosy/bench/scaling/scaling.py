"""Compare scaling policies: the same requests, profile, SLO, warm-up and budget for all."""

import time
from pathlib import Path
from typing import Any

import msgspec

from argosy.cli.console import err, fail, out
from argosy.cli.plan.comparison import RunBars, show
from argosy.domain.demand import Demand, Machine
from argosy.engine.profile_files import load_profile
from argosy.sim.scaling import oracle
from argosy.sim.scaling.experiment import REQUEST_LEVEL_MAX, Experiment, ScaleOptions, experiment_of
from argosy.sim.scaling.policies.registry import at_peak
from argosy.sim.scaling.result import ScalingResult
from argosy.sim.scaling.scenarios import Scenario, ramp_scenario, trace_scenario
from argosy.sim.traces.trace import TraceError


def run_scale(options: ScaleOptions, *, as_json: bool, plot: Path | None) -> None:
    """Run every policy and report."""
    profile = load_profile(options.timing)
    machine = Machine(tokens_per_step=profile.tokens_per_step)
    began = time.perf_counter()
    try:
        if options.trace is None:
            scenario = ramp_scenario(options.seed)
        else:
            scenario = trace_scenario(
                options.trace,
                options.lengths,
                options.replicas,
                profile,
                machine,
                options.slo,
                options.seed,
                REQUEST_LEVEL_MAX,
            )
    except (TraceError, OSError) as error:
        fail(str(error))
    with RunBars(err) as runs:
        experiment = experiment_of(options, scenario, profile, runs)
        flow_level = {name: experiment.run(name, by_request=False) for name in options.policies}
        request_level = (
            {name: experiment.run(name, by_request=True) for name in options.policies}
            if scenario.exact
            else {}
        )
    report = _report(options, scenario, experiment, flow_level, request_level)
    report["wall_s"] = round(time.perf_counter() - began, 1)
    if plot is not None:
        from argosy.bench.scaling.scaling_plot import plot_scale

        plot_scale(scenario, request_level or flow_level, options.replicas, plot)
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        show(out, report)


def _report(
    options: ScaleOptions,
    scenario: Scenario,
    experiment: Experiment,
    flow_level: dict[str, ScalingResult],
    request_level: dict[str, ScalingResult],
) -> dict[str, Any]:
    # Where both ran, the figures are those of the more exact one.
    best = request_level or flow_level
    report: dict[str, Any] = {
        "workload": {
            "source": scenario.source,
            "factor": round(scenario.factor, 6),
            "lengths": scenario.lengths,
            "requests": round(scenario.load.requests),
            "span_s": scenario.load.span_s,
            "mean": _words(scenario.mean),
            "peak": _words(scenario.peak),
        },
        "timing": options.timing or "dynamo-mocker",
        "slo": {"ttft_ms": options.slo.ttft_ms, "tpot_ms": options.slo.tpot_ms},
        "replicas": options.replicas,
        "warm_up_s": options.warm_up_s,
        "wake_s": options.wake_s,
        "initial": experiment.inputs.initial,
        "at_peak": at_peak(experiment.inputs),
        "seed": options.seed,
        "simulation": "request_level" if request_level else "flow_level",
        "policies": {name: result.figures() for name, result in best.items()},
    }
    if experiment.factors:
        report["oracle"] = {"target": oracle.TARGET, "factors": experiment.factors}
    if request_level:
        report["flow_level"] = {name: result.figures() for name, result in flow_level.items()}
        report["flow_level_error"] = {
            name: {
                "attainment": round(flow_level[name].attainment - result.attainment, 5),
                "instance_hours": round(
                    flow_level[name].instance_hours / result.instance_hours - 1, 4
                ),
            }
            for name, result in request_level.items()
        }
    return report


def _words(demand: Demand) -> dict[str, float]:
    return {name: round(value, 3) for name, value in msgspec.to_builtins(demand).items()}
